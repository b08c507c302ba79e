//! What is decided and done for each kind.

pub mod device;
pub mod events;
pub mod failure;
pub mod integration;
