//! Devices with certificates.

use std::time::Duration;

use dps_dev::pki::Identity;
use rcgen::{CertificateParams, date_time_ymd};

use super::*;
use crate::controller::device::decide::{Call, Grace, Step};
use crate::controller::integration::key_source::KeySource;
use crate::controller::integration::unusable::Unusable;
use crate::schedule::permits::Lane;

/// A device's own credentials: a certificate from the first day of a year until that of another.
fn own(from: i32, until: i32) -> Credentials {
    let dates = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
    };
    let device = Identity::root("fleet-root").unwrap().device_with("truck-1", dates).unwrap();
    let files = TlsFiles {
        certificates: device.pem.clone().into_bytes(),
        key: Zeroizing::new(device.key_pem().into_bytes()),
        authority: None,
    };
    let certificate = DeviceCertificate::read(files, &RegistrationId::parse("truck-1").unwrap()).unwrap();
    let source = KeySource {
        secret: "truck-1-tls".to_owned(),
        version: Some("7".to_owned()),
        key: Some(certificate.id()),
    };
    Credentials::of_certificate(certificate, source)
}

fn year() -> i32 {
    i32::from(NOW.wall.to_zoned(jiff::tz::TimeZone::UTC).year())
}

fn with(own: Credentials) -> Situation {
    let spec = json!({"attestation": {"x509": {}}});
    let mut situation = Situation { device: device(spec), ..Situation::new_device() };
    situation.target.terms.credentials = own;
    situation
}

/// Registered with this one, and its Secret written.
fn registered_with(own: Credentials) -> Situation {
    let mut situation = with(own);
    situation.facts = provisioned(&situation.device, &situation.target);
    let registered = situation.facts.registered.as_mut().unwrap();
    registered.certificate = Some(situation.target.credentials.certificate().unwrap().kept());
    situation.secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
    situation.device.status = Some(serde_json::from_value(json!({"observedGeneration": 1})).unwrap());
    situation
}

fn said(decision: &Decision) -> Option<Reason> {
    decision.verdict.as_ref().map(|verdict| verdict.reason)
}

#[test]
fn a_new_device_reads_it_when_its_turn_has_come_and_one_that_is_registered_when_it_is_needed() {
    let mut new = with(own(year(), year() + 1));
    let unread =
        |situation: &Situation| situation.decide_with(IntegrationState::Unread(&situation.target)).step;
    assert_eq!(unread(&new), Step::Call(Call::Register, Lane::New), "it lines up");
    new.has_permit = true;
    assert_eq!(unread(&new), Step::ReadCredential);
    new.device.spec.suspend = true;
    new.has_permit = false;
    assert_eq!(unread(&new), Step::Nothing);
    assert_eq!(unread(&registered_with(own(year(), year() + 1))), Step::ReadCredential);
}

#[test]
fn one_whose_time_has_not_come_or_is_over_is_never_presented() {
    for (own, reason, waits) in [
        (own(year() + 1, year() + 2), Reason::CertificateNotYetValid, true),
        (own(year() - 2, year() - 1), Reason::CertificateExpired, false),
    ] {
        let decision = with(own).decide();
        assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(reason)));
        assert_eq!(decision.wake.is_some(), waits);
        assert!(decision.verdict.unwrap().message.contains("truck-1-tls"));
    }
    assert_eq!(with(own(year(), year() + 1)).decide().step, Step::Call(Call::Register, Lane::New));
}

#[test]
fn while_others_try_its_ca_a_device_waits_and_says_why_unless_it_has_a_hub() {
    let waits = |until, refused| Place::Waits { until, refused };
    let soon = NOW.mono + Duration::from_secs(60);
    let mut new = with(own(year(), year() + 1));
    new.has_permit = true;
    new.ca = waits(None, None);
    let decision = new.decide();
    let hour = NOW.mono + Duration::from_secs(3600);
    assert_eq!((decision.step, &decision.verdict, decision.wake), (Step::Nothing, &None, Some(hour)));
    new.ca = waits(Some(soon), Some("CN=fleet-ca"));
    let decision = new.decide();
    assert_eq!(
        (decision.step, said(&decision), decision.wake),
        (Step::Nothing, Some(Reason::Unauthorized), Some(soon))
    );
    assert!(decision.verdict.unwrap().message.contains("CN=fleet-ca"));

    let mut renewed = registered_with(own(year(), year() + 1));
    renewed.target.terms.credentials = own(year(), year() + 2);
    renewed.ca = waits(Some(soon), Some("CN=fleet-ca"));
    let decision = renewed.decide();
    assert_eq!((decision.step, decision.verdict, decision.wake), (Step::Nothing, None, Some(soon)));
    // A Secret that is gone cannot wait, and the key for it is gone, too.
    renewed.secret = secret(SecretSeen::No);
    let decision = renewed.decide();
    assert_eq!((said(&decision), decision.wake), (Some(Reason::CredentialUnavailable), Some(soon)));
    renewed.secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
    renewed.ca = Place::Open;
    assert_eq!(renewed.decide().step, Step::Call(Call::Register, Lane::Fleet));
}

#[test]
fn a_device_keeps_the_one_that_it_was_registered_with_while_another_is_of_no_use() {
    let mut situation = registered_with(own(year(), year() + 1));
    assert_eq!(said(&situation.decide()), Some(Reason::Provisioned));
    for (other, reason) in [
        (own(year() + 1, year() + 2), Reason::CertificateNotYetValid),
        (own(year() - 2, year() - 1), Reason::CertificateInvalid),
    ] {
        situation.target.terms.credentials = other;
        let decision = situation.decide();
        assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(reason)));
    }
    situation.target.terms.credentials = own(year(), year() + 2);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Fleet), "it was renewed");
}

#[test]
fn the_renewal_of_one_that_expires_soon_waits_for_no_rollout() {
    for (left, lane) in [(25 * 60, Lane::Fleet), (23 * 60, Lane::Changed), (-60, Lane::Changed)] {
        let mut situation = registered_with(own(year(), year() + 1));
        let until = NOW.wall + jiff::SignedDuration::from_mins(left);
        situation.facts.registered.as_mut().unwrap().certificate.as_mut().unwrap().not_after = until;
        situation.target.terms.credentials = own(year(), year() + 1);
        assert_eq!(situation.decide().step, Step::Call(Call::Register, lane), "{left} minutes");
    }
}

#[test]
fn once_the_one_in_the_hub_has_expired_that_is_said_whatever_became_of_the_source() {
    let situation = registered_with(own(year() - 2, year() - 1));
    assert_eq!(said(&situation.decide()), Some(Reason::CertificateExpired));
    let why = Unusable::passing(Reason::CertificateNotFound, "There is none.");
    for grace in [Grace::Running, Grace::Over] {
        let decision = situation.decide_with(IntegrationState::Keyless(&situation.target, &why, grace));
        assert_eq!(said(&decision), Some(Reason::CertificateExpired));
        assert!(decision.verdict.unwrap().message.ends_with("There is none."));
    }
    let mut valid = registered_with(own(year(), year() + 1));
    valid.facts.trigger = None;
    let decision = valid.decide_with(IntegrationState::Keyless(&valid.target, &why, Grace::Running));
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, None), "it may be on its way");
    let decision = valid.decide_with(IntegrationState::Keyless(&valid.target, &why, Grace::Over));
    assert_eq!(said(&decision), Some(Reason::CertificateNotFound));
}

#[test]
fn a_status_names_it_and_what_the_hub_refuses_is_not_ready_for_any_reason() {
    use crate::controller::device::decide::Verdict;
    use crate::controller::device::status::render;

    let situation = registered_with(own(year() - 2, year() - 1));
    let at = |wall: &str, reason| {
        let verdict = Verdict { reason, message: "m".to_owned() };
        render(&situation.device, &situation.facts, &verdict, wall.parse().unwrap())
    };
    let before = format!("{}-12-31T23:59:59Z", year() - 2);
    let after = format!("{}-01-01T00:00:00Z", year() - 1);
    let ready = |status: &crate::api::device::ProvisionedDeviceStatus| {
        crate::api::conditions::is_true(&status.conditions, crate::api::conditions::ConditionType::Ready)
    };
    for reason in [Reason::Provisioned, Reason::ServiceUnavailable, Reason::Unauthorized] {
        assert!(ready(&at(&before, reason)) && !ready(&at(&after, reason)), "{reason:?}");
    }
    let status = at(&before, Reason::Provisioned);
    let credential = status.credential.as_ref().unwrap();
    assert_eq!(credential.not_after.as_ref().unwrap().0.to_string(), after);
    let read_back = Facts::from_status(&status, 1, 0, (NOW.wall, NOW.mono));
    let (registered, known) = (read_back.registered.unwrap(), situation.facts.registered.as_ref().unwrap());
    assert_eq!((registered.credential, registered.certificate), (known.credential, known.certificate));
}

#[test]
fn a_secret_without_a_copy_names_the_one_with_the_certificate() {
    use crate::api::names::CERTIFICATE_SECRET;
    use crate::controller::device::secret::{Material, render};

    let written = |keys: serde_json::Value| {
        let mut situation = registered_with(own(year(), year() + 1));
        situation.device.spec.secret = Some(serde_json::from_value(json!({"keys": keys})).unwrap());
        let Situation { device, facts, target, .. } = &mut situation;
        let registered = facts.registered.as_mut().unwrap();
        registered.key_secret = Some("truck-1-tls".to_owned());
        let settings = Settings::of(device, None).unwrap();
        let credential = target.credentials.for_device(&settings.registration_id).unwrap();
        let material = Material { target, credential: &credential, served: &ServedRequests::default() };
        let secret = render(device, &settings, registered, &material).object();
        let source = secret.metadata.annotations.unwrap().get(CERTIFICATE_SECRET).cloned();
        (source, secret.data.unwrap().into_keys().collect::<Vec<_>>())
    };
    let (source, keys) = written(json!({}));
    assert_eq!(source, None);
    assert!(keys.iter().any(|key| key == "tls.crt") && keys.iter().any(|key| key == "tls.key"));
    let (source, keys) = written(json!({"certificate": "", "privateKey": ""}));
    assert_eq!(source.as_deref(), Some("truck-1-tls"));
    assert!(keys.iter().all(|key| !key.starts_with("tls")), "{keys:?}");
    let (_, keys) = written(json!({"certificate": "cert.pem"}));
    assert!(keys.iter().any(|key| key == "cert.pem") && keys.iter().all(|key| key != "tls.crt"));
}
