//! What operators of the operator see.

pub mod logging;
