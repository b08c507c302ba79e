//! What the dates of a device's certificate mean.

use std::time::Duration;

use jiff::Timestamp;

use super::{Decision, Snapshot, Step, Subject, Verdict, refused};
use crate::api::attestation::{CredentialType, OwnCredential};
use crate::api::conditions::Reason;
use crate::api::shared::FormatType;
use crate::controller::device::issuance::Wanted;
use crate::controller::device::issued::Issued;
use crate::controller::integration::issuers::Place;
use crate::dps::attestation::certificate::Validity;
use crate::schedule::permits::Lane;

/// In seconds.
const DAY: i64 = 24 * 60 * 60;
/// A wait on the wall clock is looked at again this often: it can be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

pub(super) const REGISTERED_EXPIRED: &str =
    "The certificate that the device was registered with has expired: DPS and the hub refuse it.";

const ISSUED_EXPIRED: &str = "The certificate that DPS had issued to the device has expired: its hub refuses it. Another one comes with its next registration; Registered says what keeps that.";
const ISSUED_ONCE: &str = "The integration has DPS issue certificates (spec.certificate), and with reprovision.policy Never none would ever follow the first one. Set another policy.";
const ISSUED_IS_NOT_FOR_DPS: &str = "secret.formats has IotEdgeDpsConfigToml, with which the device would register itself: the certificate that DPS issues (the integration's spec.certificate) is for its hub. Use IotEdgeConfigToml.";
const ISSUED_IS_LEFT_OUT: &str = "secret.keys leaves certificate or privateKey out, and the certificate that DPS issues (the integration's spec.certificate) stands in that Secret only. Name both.";

/// Once the certificate has expired that a device was registered with, its status says so, also while something else
/// keeps it waiting.
pub(super) fn with_expiry(snapshot: &Snapshot<'_>, decision: Decision) -> Decision {
    let registered = snapshot.facts.registered.as_ref();
    let reads = matches!(decision.step, Step::ReadCredential | Step::ReadSecret | Step::WriteSecret);
    let has_more_to_say =
        decision.verdict.as_ref().is_some_and(|verdict| verdict.reason != Reason::Provisioned);
    if reads || has_more_to_say || !registered.is_some_and(|it| it.has_expired(snapshot.wall)) {
        return decision;
    }
    let message = match registered.and_then(|registered| registered.issued.as_ref()) {
        Some(_) => ISSUED_EXPIRED.to_owned(),
        None => format!("{REGISTERED_EXPIRED} Have a new one issued, and registered."),
    };
    // By a clock that is wrong: nothing else would have it looked at.
    let wake = decision.wake.or(Some(snapshot.now + LOOK_AGAIN));
    Decision { verdict: Some(Verdict { reason: Reason::CertificateExpired, message }), wake, ..decision }
}

impl Subject<'_> {
    /// A new device waits for its turn at DPS before its certificate is read: thousands may wait for hours, and a
    /// certificate is too large to be kept for each.
    pub(super) fn reads_when_its_turn_has_come(&self) -> bool {
        let own = self.snapshot.device.spec.attestation.as_ref().is_some_and(|own| own.x509.is_some());
        let is_certificate = own || self.target.credentials.certificates().is_some();
        // What is in its Secret, or came of the last try, may make a turn needless.
        let is_fresh = self.registered().is_none() && self.snapshot.facts.failure.is_none();
        is_certificate && is_fresh && !self.snapshot.has_permit && !self.may_have_secret()
    }

    /// cert-manager is to be asked for its certificate, which can have no common name that long.
    pub(super) fn certificate_not_to_be_had(&self) -> Option<Decision> {
        let OwnCredential::Certificate(secret) = self.unread_credential()? else { return None };
        let (cert_manager, id) =
            (self.target.cert_manager.as_deref()?, self.settings.registration_id.as_str());
        if Wanted::spec(cert_manager, &secret, id).is_some() {
            return None;
        }
        let message = format!(
            "cert-manager cannot be asked for a certificate: the registration id has {} characters and the name of the Secret {}, and a \
             certificate's common name can have 64, the name of an object 253. Create the device with a shorter registrationId, or name.",
            id.len(),
            secret.len()
        );
        Some(refused(self.snapshot, Reason::InvalidConfiguration, &message))
    }

    /// What it proves its identity with is a certificate, which has been read.
    pub(super) fn has_certificate(&self) -> bool {
        self.target.credentials.certificate().is_some()
    }

    /// So its hub refuses it.
    pub(super) fn registration_has_expired(&self) -> bool {
        self.registered().is_some_and(|registered| registered.has_expired(self.snapshot.wall))
    }

    /// The certificate that it was registered with has less than a tenth of a certificate's life left, or a day: its
    /// renewal waits for no rollout.
    pub(super) fn registration_expires_soon(&self) -> bool {
        let Some(kept) = self.registered().and_then(|registered| registered.certificate) else {
            return false;
        };
        let Some(facts) = self.target.credentials.certificate() else { return false };
        self.ends_soon(kept.not_after, facts.not_after.saturating_sub(facts.not_before))
    }

    /// `life`, in seconds: how long such a certificate is valid.
    fn ends_soon(&self, not_after: Timestamp, life: i64) -> bool {
        not_after.as_second().saturating_sub(self.snapshot.wall.as_second()) < (life / 10).min(DAY)
    }

    /// The certificate that DPS has issued is to be followed by another one. Once little of its life is left that waits for
    /// no rollout.
    pub(super) fn issued_is_due(&self) -> Option<Lane> {
        self.target.issued?;
        let registered = self.registered()?;
        let is_due = |issued: &&Issued| issued.is_due(registered.time, self.snapshot.wall);
        let issued = registered.issued.as_ref().filter(is_due)?;
        let soon = self.ends_soon(issued.kept.not_after, issued.life());
        Some(if soon { Lane::Changed } else { Lane::Fleet })
    }

    /// What the device asks for does not go with certificates that DPS issues.
    pub(super) fn cannot_be_issued(&self) -> Option<Decision> {
        self.target.issued?;
        let keys = &self.settings.keys;
        let invalid = if self.never() {
            ISSUED_ONCE.to_owned()
        } else if keys.certificate.is_none() || keys.private_key.is_none() {
            ISSUED_IS_LEFT_OUT.to_owned()
        } else if self.settings.formats.contains(&FormatType::IotEdgeDpsConfigToml) {
            ISSUED_IS_NOT_FOR_DPS.to_owned()
        } else {
            self.settings.check_keys(CredentialType::X509).err()?.to_string()
        };
        Some(refused(self.snapshot, Reason::InvalidConfiguration, &invalid))
    }

    /// A certificate whose time has not come or is over is never presented. One that a device was registered with
    /// before serves on as long as it is valid.
    pub(super) fn certificate_out_of_date(&self) -> Option<Decision> {
        let facts = self.target.credentials.certificate()?;
        let wall = self.snapshot.wall;
        match facts.validity(wall.as_second()) {
            Validity::Valid => None,
            // By a clock that has been set back since.
            Validity::NotYet(_) if self.registered().is_some() && !self.is_other_key() => None,
            Validity::NotYet(from) => {
                let until = Timestamp::from_second(from).unwrap_or(wall);
                let wait = Duration::try_from(until.duration_since(wall)).unwrap_or(Duration::ZERO);
                let message = format!(
                    "The certificate in Secret {:?} is valid from {until} on. It is registered then; if that is wrong, look at the \
                     clock of what issued it.",
                    self.secret_of_certificate()
                );
                let verdict = Some(Verdict { reason: Reason::CertificateNotYetValid, message });
                let wake = Some(self.snapshot.now + wait.min(LOOK_AGAIN));
                Some(Decision { step: Step::Nothing, verdict, wake })
            }
            Validity::Expired => Some(self.expired(facts.not_after)),
        }
    }

    fn expired(&self, at: i64) -> Decision {
        let at = Timestamp::from_second(at).unwrap_or(self.snapshot.wall);
        let secret = self.secret_of_certificate();
        let serves = self
            .registered()
            .and_then(|registered| registered.certificate)
            .map(|kept| kept.not_after)
            .filter(|until| self.is_other_key() && *until > self.snapshot.wall);
        match serves {
            Some(until) => Decision::say(
                Reason::CertificateInvalid,
                format!(
                    "The certificate in Secret {secret:?} has expired at {at}. The device keeps the one that it was registered \
                     with, which is valid until {until}. Have a new one issued; it is registered at once."
                ),
            ),
            None => Decision::say(
                Reason::CertificateExpired,
                format!(
                    "The certificate in Secret {secret:?} has expired at {at}: DPS and the hub refuse it. Have a new one issued; \
                     it is registered at once."
                ),
            ),
        }
    }

    /// DPS has not accepted the CA yet that has issued its certificate, and others try it first. A device that has a hub
    /// keeps what it has.
    pub(super) fn behind_canaries(&self) -> Option<Decision> {
        let Place::Waits { until, refused } = self.snapshot.ca else { return None };
        let verdict = refused.filter(|_| !self.snapshot.facts.provisioned()).map(|ca| Verdict {
            reason: Reason::Unauthorized,
            message: format!(
                "DPS has refused the certificates of other devices that {ca} has issued, so this one is not tried. Upload that \
                 CA to the DPS instance and verify it there; the device is registered once DPS accepts one of them."
            ),
        });
        let wake = Some(until.unwrap_or(self.snapshot.now + LOOK_AGAIN));
        Some(Decision { step: Step::Nothing, verdict, wake })
    }

    fn secret_of_certificate(&self) -> &str {
        self.target.credentials.source().map(|source| source.secret.as_str()).unwrap_or_default()
    }
}
