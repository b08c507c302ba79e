//! Azure's device provisioning protocol. Knows nothing of Kubernetes.

pub mod answer;
pub mod client;
pub mod error;
pub mod host;
pub mod ids;
pub mod key;
pub mod observe;
mod retry_after;
pub mod sas;
pub mod wire;

#[cfg(test)]
mod client_tests;
