//! Azure's device provisioning protocol. Knows nothing of Kubernetes.

pub mod answer;
pub mod attestation;
pub mod ca_bundle;
pub mod call;
pub mod client;
pub mod clock_offset;
pub mod connections;
pub mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshakes;
pub mod host;
mod http;
pub mod ids;
pub mod issuance;
pub mod observe;
pub mod operation;
mod patience;
pub mod proxy;
mod reading;
mod refusal;
mod retry_after;
pub mod scrub;
pub mod tls;
mod wire;

#[cfg(test)]
mod certificate_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod operation_tests;
