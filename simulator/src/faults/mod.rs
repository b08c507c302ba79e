//! Faults: what can be made to go wrong, for which requests and how often.

mod fault;
mod registry;
mod spoil;

pub use fault::{Fault, FaultAction, FaultError, HugeOf, RawBody, SlowFrom};
pub use registry::ActiveFault;

pub(crate) use registry::{Faults, Hit};
pub(crate) use spoil::{Circumstances, Delivery, Spoiled, spoil};
