//! Everything that talks to the API server.

mod answers;
mod cause;
pub mod client;
mod deadline;
pub mod error;
pub mod events;
mod guard;
pub mod lease;
mod note;
pub mod refs;
pub mod tenure;
#[cfg(test)]
pub(crate) mod tests;
pub mod watch;
pub mod write;

#[cfg(any(test, fuzzing))]
pub(crate) use self::guard::Guarded;
