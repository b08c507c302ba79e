//! A registration that DPS has accepted and that has not come to its end. Pure.

use std::sync::Arc;

use super::answer::Assignment;
use super::attestation::CredentialId;
use super::error::DpsError;
use super::host::Endpoint;
use super::ids::{IdScope, OperationId, RegistrationId};
use super::issuance::CertificateRequest;
use super::patience::Patience;
use crate::clock::Now;

/// How far a registration has come.
#[derive(Debug)]
pub enum Progress {
    Assigned(Assignment),
    Delayed(Box<Delayed>),
}

/// DPS asks to be asked again after so long a wait that the caller should do something else meanwhile.
#[derive(Debug)]
pub struct Delayed {
    pub operation: OpenOperation,
    /// What DPS answered to the last poll, if that failed.
    pub error: Option<DpsError>,
}

/// Who has asked DPS for a registration, where and with which credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Registrant {
    pub endpoint: Endpoint,
    pub scope: IdScope,
    pub registration_id: RegistrationId,
    pub credential: CredentialId,
}

/// An operation that goes on. It is asked for by its registrant only.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenOperation {
    pub(super) id: OperationId,
    pub(super) registrant: Registrant,
    /// The certificate that it was asked for.
    pub(super) request: Option<Arc<CertificateRequest>>,
    pub(super) patience: Patience,
    /// Polls in a row that have failed.
    pub(super) failures: u32,
    /// When DPS wants to be asked.
    pub(super) ask_at: Now,
}

impl OpenOperation {
    /// When DPS wants to be asked.
    pub fn ask_at(&self) -> Now {
        self.ask_at
    }

    pub fn registration_id(&self) -> &RegistrationId {
        &self.registrant.registration_id
    }

    pub fn is_of(&self, registrant: &Registrant) -> bool {
        self.registrant == *registrant
    }

    /// One that DPS has accepted `begun` and wants to be asked for at `ask_at`.
    #[cfg(test)]
    pub fn of(registrant: Registrant, begun: Now, ask_at: Now) -> Self {
        let patience = Patience::new(begun.mono, std::time::Duration::from_secs(300));
        let id = OperationId::parse("4.operation").unwrap();
        Self { id, registrant, request: None, patience, failures: 0, ask_at }
    }
}
