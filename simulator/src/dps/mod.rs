//! The device API of DPS: from a request to its answer, without sockets.

mod allocation;
mod by_certificate;
mod call;
mod hub_identity;
mod issuance;
mod plan;
mod refusal;
mod registration;
mod scope;
mod service;
mod settings;
mod throttle;
mod token;
mod wire;

pub use settings::Settings;
pub use wire::{
    CertificateInfo, RegistrationState, RegistrationStatus, Substatus, SymmetricKeyResult, X509Result,
};

pub(crate) use allocation::Allocation;
pub(crate) use registration::Registration;
pub(crate) use scope::{Attestation, Authority, Group, Individual, Scope};
pub(crate) use service::{Answer, Request, Service};
pub(crate) use wire::{MAX_BODY, error_body, has_csr};
