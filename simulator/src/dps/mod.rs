//! The device API of DPS: from a request to its answer, without any input or output.

mod allocation;
mod call;
mod refusal;
mod registration;
pub(crate) mod registration_id;
mod route;
mod scope;
mod service;
mod throttle;
mod token;
mod wire;

pub use route::OperationKind;
pub use wire::{RegistrationState, RegistrationStatus, Substatus, SymmetricKeyResult};

pub(crate) use allocation::Allocation;
pub(crate) use refusal::error_body;
pub(crate) use registration::Registration;
pub(crate) use route::{Route, query_parameter};
pub(crate) use scope::{Group, Scope};
pub use service::Settings;
pub(crate) use service::{Answer, Request, Service};
pub(crate) use wire::MAX_BODY;
