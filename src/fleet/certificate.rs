//! What is remembered of the certificate that a device was registered with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::intern::{Interner, Sym};
use crate::api::device::ProvisionedDeviceStatus;
use crate::dps::attestation::certificate::CaId;

/// The certificate that a device connects to its hub with: the one that it was registered with, or that DPS has issued. Times are seconds since 1970, until the year 2106, which is as far
/// as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub not_after: u32,
    /// Five sixths of its life are over then: cert-manager renews at four sixths.
    pub overdue_at: Option<u32>,
    /// The CA that has issued it, as a status shows it.
    pub ca: Option<Sym>,
    /// DPS has issued it: another one is due then.
    pub due_at: Option<u32>,
}

/// How a certificate stands that a device was registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Current,
    /// It should have been renewed by now.
    Overdue,
    Expired,
}

impl Certificate {
    /// What a status says of it.
    pub(super) fn of(status: &ProvisionedDeviceStatus, names: &mut Interner) -> Option<Self> {
        let of_credential = || {
            let credential = status.credential.as_ref()?;
            let (not_before, issuer) = (credential.not_before.as_ref(), credential.issuer.as_deref());
            Some((not_before, credential.not_after.as_ref()?, issuer, false))
        };
        let issued = status.issued_certificate.as_ref();
        let issued = issued.map(|it| (it.not_before.as_ref(), &it.not_after, it.issuer.as_deref(), true));
        let (not_before, not_after, issuer, is_issued) = issued.or_else(of_credential)?;
        let seconds = |time: &Time| time.0.as_second().max(1);
        let not_after = seconds(not_after);
        let life = not_before.map(|from| not_after.saturating_sub(seconds(from)).max(0));
        let overdue_at = life.map(|life| not_after - life / 6);
        let due_at = is_issued.then(|| not_after - life.unwrap_or(0) / 3);
        let ca = issuer.filter(|ca| CaId::parse(ca).is_some());
        let kept = |at: i64| u32::try_from(at).unwrap_or(u32::MAX);
        Some(Self {
            not_after: kept(not_after),
            overdue_at: overdue_at.map(kept),
            ca: ca.map(|ca| names.intern(ca)),
            due_at: due_at.map(kept),
        })
    }

    /// DPS has issued it and it should be followed by another one, at `now`, in seconds since 1970.
    pub fn is_due(&self, now: i64) -> bool {
        self.due_at.is_some_and(|at| i64::from(at) <= now)
    }

    /// At `now`, in seconds since 1970.
    pub fn age(&self, now: i64) -> Age {
        let is_over = |at: u32| i64::from(at) <= now;
        match self.overdue_at {
            _ if is_over(self.not_after) => Age::Expired,
            Some(overdue_at) if is_over(overdue_at) => Age::Overdue,
            _ => Age::Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(credential: serde_json::Value) -> Option<Certificate> {
        let status = serde_json::from_value(json!({ "credential": credential })).unwrap();
        Certificate::of(&status, &mut Interner::default())
    }

    #[test]
    fn it_is_overdue_when_five_sixths_of_its_life_are_over() {
        let certificate = of(json!({
            "type": "X509", "notBefore": "1970-01-01T00:10:00Z", "notAfter": "1970-01-01T01:10:00Z",
        }));
        let certificate = certificate.unwrap();
        let ages = [(0, Age::Current), (3599, Age::Current), (3600, Age::Overdue), (4199, Age::Overdue)];
        for (now, age) in ages.into_iter().chain([(4200, Age::Expired)]) {
            assert_eq!(certificate.age(now), age, "{now}");
        }
    }

    #[test]
    fn without_a_beginning_it_is_never_overdue_and_a_key_never_expires() {
        let certificate = of(json!({"type": "X509", "notAfter": "1970-01-01T01:00:00Z"})).unwrap();
        assert_eq!([3599, 3600].map(|now| certificate.age(now)), [Age::Current, Age::Expired]);
        assert_eq!(of(json!({"type": "SymmetricKey"})), None);
    }

    #[test]
    fn what_others_have_written_into_a_status_does_no_harm() {
        for (from, until) in [
            ("9999-12-30T00:00:00Z", "2030-01-01T00:00:00Z"),
            ("-009999-01-02T01:59:59Z", "9999-12-30T00:00:00Z"),
        ] {
            let certificate =
                of(json!({"type": "X509", "notBefore": from, "notAfter": until, "issuer": "CN=x"}));
            assert_eq!(
                certificate.map(|it| (it.age(0), it.ca)),
                Some((Age::Current, None)),
                "{from} {until}"
            );
        }
    }
}
