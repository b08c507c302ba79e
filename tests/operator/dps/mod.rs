//! Calls to DPS: in which order they are made, what is answered, and what if nothing is.

mod answers;
mod drift_checks;
mod long_waits;
mod outages;
mod proxy;
mod queue;
