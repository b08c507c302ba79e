//! Faults: failures that can be injected, for which requests and how often.

mod apply;
mod fault;
mod registry;

pub use fault::{Fault, FaultAction, FaultError, HugeOf, RawBody, SlowFrom};
pub use registry::ActiveFault;

pub(crate) use apply::{Context, Delivery, FaultyAnswer, Filler, apply};
pub(crate) use registry::{Faults, Hit};
