//! A registration that DPS has accepted, and about whose end it wants to be asked after a long wait.

use super::served::ServedRequests;
use crate::api::attestation::KeySlot;
use crate::api::device::ProvisionedDevice;
use crate::controller::integration::target::{Instance, Target};
use crate::dps::ids::RegistrationId;
use crate::dps::operation::{OpenOperation, Registrant};
use crate::fleet::hash::Hash;

/// Such a registration. Kept in memory only: after a restart the device registers anew.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRegistration {
    pub operation: OpenOperation,
    /// What was registered, which need not be what would be by now.
    pub terms: RegisteredTerms,
    /// Requests of users that it serves.
    pub served: ServedRequests,
}

/// What is remembered of a registration beside its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegisteredTerms {
    /// The slot that the credential was in.
    pub slot: Option<KeySlot>,
    /// Of what was registered.
    pub hash: Hash,
}

impl OpenRegistration {
    /// True if this device's integration is still at the instance and uses the credential that accepted
    /// it: only then is it asked for.
    pub fn is_of(&self, device: &ProvisionedDevice, target: &Target) -> bool {
        let Instance { scope, endpoint, tls: _ } = target.instance.clone();
        let credential = target.credentials.in_use();
        RegistrationId::parse(device.registration_id()).is_ok_and(|registration_id| {
            self.operation.is_of(&Registrant { endpoint, scope, registration_id, credential })
        })
    }

    /// What it has served once it has ended: of what is `asked` for since, no more than to look again.
    pub fn serves(&self, asked: ServedRequests) -> ServedRequests {
        ServedRequests { reconcile_at: asked.reconcile_at, ..self.served.clone() }
    }
}
