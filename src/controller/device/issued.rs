//! The certificate that DPS has issued to a device. It stands in the device's Secret and nowhere else: the operator holds
//! it only until that is written.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::issued::IssuedCertificateStatus;
use crate::dps::attestation::certificate::{CaId, DeviceCertificate, Kept};
use crate::dps::attestation::{CredentialId, CredentialKind};

/// Such a certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    pub id: CredentialId,
    pub kept: Kept,
    /// With its key; `None` if only the Secret has it.
    pub certificate: Option<Arc<DeviceCertificate>>,
}

impl Issued {
    pub fn new(certificate: Arc<DeviceCertificate>) -> Self {
        Self { id: certificate.id(), kept: certificate.facts().kept(), certificate: Some(certificate) }
    }

    /// What a status, or an annotation, says of it.
    pub fn stated(status: &IssuedCertificateStatus) -> Option<Self> {
        let seconds = |time: &Time| Timestamp::from_second(time.0.as_second()).ok();
        let not_before = status.not_before.as_ref().and_then(seconds);
        let ca = status.issuer.as_deref().and_then(CaId::parse);
        Some(Self {
            id: CredentialId::parse(CredentialKind::Certificate, &status.fingerprint)?,
            kept: Kept { not_before, not_after: seconds(&status.not_after)?, ca },
            certificate: None,
        })
    }

    pub fn status(&self) -> IssuedCertificateStatus {
        let Kept { not_before, not_after, ca } = self.kept;
        IssuedCertificateStatus {
            fingerprint: self.id.to_string(),
            not_before: not_before.map(Time),
            not_after: Time(not_after),
            issuer: ca.map(|ca| ca.to_string()),
        }
    }

    /// Takes it over from where it was found, if it is this one.
    pub fn recover(&mut self, found: Option<&Self>) {
        if self.certificate.is_none()
            && let Some(found) = found.filter(|found| found.id == self.id)
        {
            self.certificate.clone_from(&found.certificate);
        }
    }

    /// Two thirds of its life are over: time enough to have another one issued. `made`: when it was registered, by the same
    /// clock as `now`. If that one differs from the clock that the certificate goes by, the next one is due at once again:
    /// so a third of the life is waited in any case.
    pub fn is_due(&self, made: Option<Timestamp>, now: Timestamp) -> bool {
        let third = self.life() / 3;
        let now = now.as_second();
        let has_just_come = |made: i64| made <= now && now < made.saturating_add(third);
        now >= self.kept.not_after.as_second() - third
            && !made.is_some_and(|made| has_just_come(made.as_second()))
    }

    /// In seconds; 0 if it is not known.
    pub fn life(&self) -> i64 {
        let until = self.kept.not_after.as_second();
        self.kept.not_before.map_or(0, |from| until.saturating_sub(from.as_second()).max(0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn issued(from: Option<&str>, until: &str) -> Issued {
        let status = json!({"fingerprint": "00000000000000aa", "notBefore": from, "notAfter": until});
        Issued::stated(&serde_json::from_value(status).unwrap()).unwrap()
    }

    #[test]
    fn it_is_due_when_two_thirds_of_its_life_are_over() {
        let month = issued(Some("2026-11-01T00:00:00Z"), "2026-12-01T00:00:00Z");
        for (now, due) in
            [("2026-11-20T23:59:59Z", false), ("2026-11-21T00:00:00Z", true), ("2027-01-01T00:00:00Z", true)]
        {
            assert_eq!(month.is_due(None, now.parse().unwrap()), due, "{now}");
        }
        // Without a beginning only its end is known.
        let unknown = issued(None, "2026-12-01T00:00:00Z");
        assert!(
            !unknown.is_due(None, "2026-11-30T23:59:59Z".parse().unwrap())
                && unknown.is_due(None, "2026-12-01T00:00:00Z".parse().unwrap())
        );
        // What others have written there does no harm.
        let odd = issued(Some("9999-12-30T00:00:00Z"), "-009999-01-02T01:59:59Z");
        assert!(odd.is_due(None, "2026-11-30T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn however_wrong_the_clock_is_the_next_one_is_not_due_at_once() {
        let month = issued(Some("2026-11-01T00:00:00Z"), "2026-12-01T00:00:00Z");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (made, now, due) in [
            ("2027-03-01T00:00:00Z", "2027-03-01T00:00:00Z", false),
            ("2027-03-01T00:00:00Z", "2027-03-10T23:59:59Z", false),
            ("2027-03-01T00:00:00Z", "2027-03-11T00:00:00Z", true),
            // The clock has been set back since.
            ("2027-03-01T00:00:00Z", "2026-11-21T00:00:00Z", true),
            ("2026-11-01T00:05:00Z", "2026-11-21T00:00:00Z", true),
        ] {
            assert_eq!(month.is_due(Some(at(made)), at(now)), due, "{made} {now}");
        }
    }

    #[test]
    fn what_a_status_says_is_read_back() {
        let one = issued(Some("2026-11-01T00:00:00Z"), "2026-12-01T00:00:00Z");
        assert_eq!(Issued::stated(&one.status()), Some(one.clone()));
        let mut none = one.clone();
        none.recover(None);
        assert_eq!(none, one);
    }
}
