//! What the checks have in common.

use super::{Decision, IdStanding, IntegrationState, Step, Subject, Verdict};
use crate::api::attestation::OwnCredential;
use crate::api::conditions::Reason;
use crate::api::names::RECONCILE_REQUESTED_AT;
use crate::controller::device::facts::{Doubt, FailedWork, Failure, Registered, Trust};
use crate::controller::device::settings::annotation;
use crate::fleet::inherit::Policy;

/// Failures in a row before a device's own status says that the service is unavailable: it may be back
/// in a moment.
const QUIET_ATTEMPTS: u32 = 3;

impl Subject<'_> {
    pub(super) fn registered(&self) -> Option<&Registered> {
        self.snapshot.facts.registered.as_ref()
    }

    /// DPS is asked before anything is made of what is recorded.
    pub(super) fn is_doubted(&self) -> bool {
        self.snapshot.facts.doubt.is_some() || self.is_unverified() || self.is_to_be_written_on_trust()
    }

    /// No Secret is made under another name, nor a first one, from a status that others can have written.
    fn is_to_be_written_on_trust(&self) -> bool {
        let facts = self.snapshot.facts;
        let written = facts.secret.as_ref().is_some_and(|written| written.name == self.settings.secret_name);
        let is_borne_out = facts.fresh || self.snapshot.status_is_ours || facts.trust == Trust::Sealed;
        facts.registered.is_some() && !written && !is_borne_out
    }

    /// Whether it or another device is registered is still to be found out.
    pub(super) fn is_unverified(&self) -> bool {
        self.snapshot.standing == IdStanding::Unverified
    }

    /// The Secret speaks of a registration that a lookup could confirm. What an allocation function
    /// returned, or DPS issued, only a registration brings back for certain.
    pub(super) fn is_recorded_without_seal(&self) -> bool {
        let doubt = self.snapshot.facts.doubt.as_ref();
        doubt.is_some_and(|doubt| match doubt {
            Doubt::Unsealed(recorded) => {
                let Registered { returned_payload, issued, .. } = &recorded.registered;
                returned_payload.is_none() && issued.is_none()
            }
            Doubt::Contradiction => false,
        })
    }

    /// Status and Secret contradict each other.
    pub(super) fn is_contradicted(&self) -> bool {
        matches!(self.snapshot.facts.doubt, Some(Doubt::Contradiction))
    }

    /// The same work failed and its wait is not over; a change of device or integration ends it.
    pub(super) fn backing_off(&self, work: FailedWork) -> Option<Decision> {
        let failure = self.snapshot.facts.failure.as_ref().filter(|failure| failure.work == work)?;
        let unchanged = Some(failure.generation) == self.snapshot.device.metadata.generation
            && failure.revision.map_or(self.target.as_recorded, |epoch| epoch == self.target.revision)
            && (self.settings.token.is_none() || self.settings.token == failure.token.as_deref())
            && !self.asks_to_look_since(failure);
        let refused = matches!(failure.reason, Reason::Unauthorized | Reason::EnrollmentNotFound);
        let not_before = self.snapshot.retry_at.filter(|_| refused).unwrap_or(failure.not_before);
        if !unchanged || not_before <= self.snapshot.now {
            return None;
        }
        Some(Decision { step: Step::Nothing, verdict: self.verdict_of(failure), wake: Some(not_before) })
    }

    pub(super) fn asked_to_look(&self) -> bool {
        let asked = annotation(self.snapshot.device, RECONCILE_REQUESTED_AT);
        asked.is_some() && asked != self.snapshot.facts.served.reconcile_at.as_deref()
    }

    /// Whoever asks to look again has mended something.
    fn asks_to_look_since(&self, failure: &Failure) -> bool {
        let asked = annotation(self.snapshot.device, RECONCILE_REQUESTED_AT);
        asked.is_some() && asked != failure.reconcile_at.as_deref()
    }

    /// What the status says of a failure; nothing of what is likely to pass by itself.
    pub(super) fn verdict_of(&self, failure: &Failure) -> Option<Verdict> {
        let quiet = match failure.reason {
            Reason::ServiceUnavailable => failure.attempts < QUIET_ATTEMPTS && !failure.lasts,
            Reason::Registering => self.snapshot.facts.provisioned(),
            _ => false,
        };
        (!quiet).then(|| Verdict { reason: failure.reason, message: failure.message.clone() })
    }

    /// The credential that the device was registered with is at hand.
    pub(super) fn has_credential_of(&self, registered: &Registered) -> bool {
        registered.credential.is_some_and(|used| self.target.credentials.has(used))
    }

    /// It was registered with another credential than the one that is to be used.
    pub(super) fn is_other_key(&self) -> bool {
        self.registered()
            .is_some_and(|registered| registered.credential != Some(self.target.credentials.in_use()))
    }

    /// The status was written for the object as it is now.
    pub(super) fn is_observed(&self) -> bool {
        let device = self.snapshot.device;
        let observed = device.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some() && observed == device.metadata.generation
    }

    pub(super) fn never(&self) -> bool {
        self.settings.policy == Policy::Never
    }

    /// Where the device's own credential is to be read.
    pub(super) fn unread_credential(&self) -> Option<OwnCredential> {
        let IntegrationState::Unread(target) = self.snapshot.integration else { return None };
        let device = self.snapshot.device;
        let name = device.metadata.name.as_deref().unwrap_or_default();
        OwnCredential::of(device.spec.attestation.as_ref(), target.credentials.certificates(), name)
    }
}
