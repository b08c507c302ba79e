//! What is decided and done for each kind.

pub mod device;
pub mod integration;
