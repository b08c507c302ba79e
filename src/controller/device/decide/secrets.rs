//! When the Secret has to be read, restored or written.

use super::{Contested, Decision, IntegrationState, Snapshot, Step, Subject, Verdict};
use crate::api::conditions::{ConditionType, Reason, reason_of};
use crate::api::device::ProvisionedDevice;
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::controller::device::facts::{FailedWork, Registered, Trust};
use crate::controller::device::secret;
use crate::fleet::SecretSeen;

/// What is missing is not known here: the integration says it.
fn credential_unavailable(secret: &str) -> String {
    format!(
        "Secret {secret:?} is gone, and the key that the device was registered with, or what DPS returned (a payload, or a certificate), is not at hand. Mend the integration or its key Secret; this Secret follows by itself."
    )
}

/// The Secret of a provisioned device is no longer there, where there is no credential to render it
/// from.
pub(super) fn secret_is_gone(snapshot: &Snapshot<'_>) -> Option<Decision> {
    let device = snapshot.device;
    let written = snapshot.facts.secret.as_ref().is_some_and(|written| written.name == device.secret_name());
    let gone = written && snapshot.secret.seen == SecretSeen::No && !has_conflict(device);
    let gone = gone && snapshot.facts.provisioned();
    gone.then(|| Decision::say(Reason::CredentialUnavailable, credential_unavailable(&device.secret_name())))
}

/// The status says that a foreign Secret is in the place of the device's. The watch does not show that
/// one, so it seems to be missing.
fn has_conflict(device: &ProvisionedDevice) -> bool {
    let conditions = device.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    reason_of(conditions, ConditionType::SecretReady) == Some(Reason::SecretConflict)
}

impl Subject<'_> {
    pub(super) fn secret_holds_key(&self) -> Option<Decision> {
        self.snapshot.secret.holds_key.then(|| {
            Decision::say(
                Reason::SecretConflict,
                format!(
                    "Secret {:?} holds the key of an enrollment. Set another spec.secret.name.",
                    self.settings.secret_name
                ),
            )
        })
    }

    /// A Secret of our making may hold the whole answer: after a restore, a crash between two
    /// writes, or a device deleted and created again.
    pub(super) fn secret_unread(&self) -> Option<Decision> {
        // Whether it can be believed is told by the credential that the device has.
        if matches!(self.snapshot.integration, IntegrationState::Unread(_)) {
            return None;
        }
        let there = self.may_have_secret();
        let of_use = match self.registered() {
            None => there,
            // It may know better than the status, or hold what the status does not.
            Some(registered) => {
                // Nothing is written from the status alone: it can be edited. Who asks to look again has it
                // compared, too.
                let unsure = !self.snapshot.facts.fresh && self.secret_is_off(registered);
                there
                    && (unsure
                        || self.is_unverified()
                        || self.snapshot.facts.trust == Trust::ToCompare
                        || self.asked_to_look()
                        || (self.answer_lost(registered) && self.secret_is_off(registered)))
            }
        };
        (of_use && !self.snapshot.secret.read).then(|| Decision::step(Step::ReadSecret))
    }

    /// There is one of our making in its place, as far as can be seen.
    pub(super) fn may_have_secret(&self) -> bool {
        matches!(self.snapshot.secret.seen, SecretSeen::Version(_)) || !self.snapshot.secret.watch_is_complete
    }

    /// A Secret that was deleted or edited is mended at once if the key it was made from is here.
    pub(super) fn secret_touched(&self) -> Option<Decision> {
        let registered = self.registered()?;
        if self.is_doubted()
            || !self.is_touched()
            || !self.has_credential_of(registered)
            || self.answer_lost(registered)
        {
            return None;
        }
        Some(self.contested().unwrap_or_else(|| self.write_secret()))
    }

    /// The Secret would be rendered otherwise by now, and can be.
    pub(super) fn secret_to_write_from_known_key(&self) -> Option<Decision> {
        let registered = self.registered()?;
        let can = !self.is_doubted() && self.has_credential_of(registered) && !self.answer_lost(registered);
        (can && self.secret_is_off(registered)).then(|| self.write_secret())
    }

    pub(super) fn secret_outdated(&self) -> Option<Decision> {
        let registered = self.registered()?;
        if !self.secret_is_off(registered) {
            return None;
        }
        if !self.has_credential_of(registered) || registered.lacks_issued() {
            return Some(self.credential_unavailable());
        }
        Some(self.write_secret())
    }

    /// The Secret is gone or edited, only a registration could bring it back, and none may be made now.
    pub(super) fn stranded(&self) -> Option<Decision> {
        let registered = self.registered()?;
        let gone = self.is_touched() && !has_conflict(self.snapshot.device);
        // What an allocation function returned is nowhere else, nor is a key that was made for the device.
        let answer_gone = self.snapshot.secret.seen == SecretSeen::No && self.answer_lost(registered);
        (gone && (!self.has_credential_of(registered) || answer_gone)).then(|| self.credential_unavailable())
    }

    /// Only a registration brings the Secret back, and with this policy only a token brings that.
    fn credential_unavailable(&self) -> Decision {
        let next = if self.never() {
            format!(
                " With reprovision.policy Never it is not registered again by itself: annotate it with {REPROVISION_REQUESTED_AT} to have that done."
            )
        } else {
            String::new()
        };
        let missing = credential_unavailable(&self.settings.secret_name);
        Decision::say(Reason::CredentialUnavailable, format!("{missing}{next}"))
    }

    /// Another controller undoes what we write, again and again.
    fn contested(&self) -> Option<Decision> {
        let Contested { until, report } = self.snapshot.contested?;
        let message = format!(
            "Something else keeps changing or deleting Secret {:?}. It is restored with waits that grow from a second to five minutes; stop what changes it, or set another spec.secret.name.",
            self.settings.secret_name
        );
        let verdict = Verdict { reason: Reason::SecretWriteFailed, message };
        Some(Decision { verdict: report.is_over().then_some(verdict), wake: Some(until), ..Decision::rest() })
    }

    fn write_secret(&self) -> Decision {
        self.backing_off(FailedWork::Secret).unwrap_or_else(|| Decision::step(Step::WriteSecret))
    }

    /// A Secret that we wrote is not as we left it. Under another name it is another Secret.
    fn is_touched(&self) -> bool {
        let written = self.snapshot.facts.secret.as_ref();
        written
            .filter(|written| written.name == self.settings.secret_name)
            .is_some_and(|written| self.snapshot.secret.seen != SecretSeen::Version(written.version))
    }

    pub(super) fn secret_is_off(&self, registered: &Registered) -> bool {
        let Some(written) = &self.snapshot.facts.secret else { return true };
        let wanted = secret::rendered_hash(self.snapshot.device, registered, &self.target.inherited);
        self.snapshot.secret.seen != SecretSeen::Version(written.version)
            || written.name != self.settings.secret_name
            || written.record != self.snapshot.facts.record()
            || written.rendered.map_or(!self.is_observed(), |rendered| rendered != wanted)
    }

    /// A payload was returned once, or a certificate issued, the Secret should hold it, and only its hash is left.
    pub(super) fn answer_lost(&self, registered: &Registered) -> bool {
        let payload = registered.returned_payload.as_ref().filter(|payload| payload.json.is_none());
        (self.settings.keys.returned_payload.is_some() && payload.is_some()) || registered.lacks_issued()
    }
}
