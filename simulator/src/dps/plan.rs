//! The result of an operation, which is decided when it starts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::hub_identity::HubIdentity;
use crate::certificate::{Certificate, CertificateShown};

/// The result of an operation that has not completed yet.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub group: Option<Arc<str>>,
    /// The device's certificate, if it has proven itself with one.
    pub certificate: Option<CertificateShown>,
    pub result: PlannedResult,
}

#[derive(Clone, Debug)]
pub(crate) enum PlannedResult {
    Assign(Box<Assignment>),
    Fail(RegistrationError),
    Disable,
}

/// `errorCode` and `errorMessage` of a failed registration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegistrationError {
    pub code: u32,
    pub message: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub hub: Arc<str>,
    pub device_id: String,
    pub payload: Option<Map<String, Value>>,
    /// Whether the device's data moves along when the hub changes; otherwise it is reset.
    pub migrate: bool,
    /// What the hub will accept from the device.
    pub identity: HubIdentity,
    /// The certificate that was issued to the device.
    pub issued: Option<Certificate>,
}

impl Plan {
    /// The certificate that was issued to the device, which it gets if it is assigned.
    pub fn issued(&self) -> Option<&Certificate> {
        match &self.result {
            PlannedResult::Assign(assignment) => assignment.issued.as_ref(),
            PlannedResult::Fail(_) | PlannedResult::Disable => None,
        }
    }
}
