//! What users write and read: the two kinds, their conditions and every name they may rely on.

pub mod attestation;
pub mod backoff;
pub mod cert_manager;
pub mod conditions;
pub mod crds;
pub mod device;
pub mod digest;
pub mod integration;
pub mod issued;
pub mod names;
pub mod payload;
pub mod references;
pub mod retry;
mod schema;
pub mod shared;
pub mod state;
pub mod version;

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod rules;
