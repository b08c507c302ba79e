//! Everything that talks to the API server.

pub mod client;
mod deadline;
pub mod error;
pub mod events;
mod guard;
pub mod lease;
pub mod refs;
pub mod watch;
pub mod write;
