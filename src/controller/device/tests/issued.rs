//! Devices to which DPS issues certificates.

use dps_dev::pki::Identity;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, date_time_ymd};

use super::*;
use crate::api::issued::IssuedKeyAlgorithm;
use crate::controller::device::decide::Verdict;
use crate::controller::device::decide::{Call, Step};
use crate::controller::device::facts::{Located, RecordedInSecret};
use crate::controller::device::issued::Issued;
use crate::controller::device::secret::{Material, read_back, render};
use crate::controller::device::status;
use crate::dps::answer::Assignment;
use crate::dps::ids::HubHostname;
use crate::schedule::permits::Lane;

const DAY: i64 = 24 * 60 * 60;

/// Valid from so many days after now until so many after that.
fn issued(from: i64, until: i64) -> Issued {
    // The tables' now is the beginning of 1970.
    let (now, day) = (date_time_ymd(1970, 1, 1), date_time_ymd(1970, 1, 2) - date_time_ymd(1970, 1, 1));
    let at = |days: i64| now + day * i32::try_from(days).unwrap();
    let dates = |params: &mut CertificateParams| {
        params.not_before = at(from);
        params.not_after = at(until);
    };
    let ca = Identity::root("dps-root").unwrap().intermediate("dps-issuing").unwrap();
    let device = ca.device_with("truck-1", dates).unwrap();
    let files = TlsFiles {
        certificates: device.chain(&[&ca]).into_bytes(),
        key: Zeroizing::new(device.key_pem().into_bytes()),
        authority: Some(b"the root".to_vec()),
    };
    let id = RegistrationId::parse("truck-1").unwrap();
    Issued::new(Arc::new(DeviceCertificate::read(files, &id).unwrap()))
}

fn asking() -> Situation {
    let mut situation = Situation::new_device();
    situation.target.terms.issued = Some(IssuedKeyAlgorithm::EcdsaP384);
    situation
}

/// Registered, with this certificate in its Secret and nowhere else.
fn settled(mut certificate: Issued) -> Situation {
    certificate.certificate = None;
    let mut situation = asking();
    let mut registered = registered(&situation.device, &situation.target);
    registered.time = certificate.kept.not_before;
    registered.issued = Some(certificate);
    situation.facts = provisioned(&situation.device, &situation.target);
    let written = situation.facts.secret.as_mut().unwrap();
    written.rendered = Some(rendered_hash(&situation.device, &registered, &situation.target.inherited));
    written.record = registered.record(&ServedRequests::default());
    situation.facts.registered = Some(registered);
    situation.secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
    situation.device.status = Some(serde_json::from_value(json!({"observedGeneration": 1})).unwrap());
    situation
}

fn said(decision: &Decision) -> Option<Reason> {
    decision.verdict.as_ref().map(|verdict| verdict.reason)
}

#[test]
fn a_new_device_is_registered_also_where_it_would_be_looked_up_first() {
    let first = json!({"registration": {"onCreate": "LookupFirst"}});
    for (asks, call) in [(true, Call::Register), (false, Call::Adopt)] {
        let mut new = Situation { device: device(first.clone()), ..asking() };
        new.target.terms.issued = new.target.terms.issued.filter(|_| asks);
        assert_eq!(new.decide().step, Step::Call(call, Lane::New));
    }
}

#[test]
fn another_one_is_due_after_two_thirds_of_its_life_and_urgent_with_a_tenth_left() {
    for (from, until, step) in [
        (-19, 11, Step::Nothing),
        (-20, 10, Step::Call(Call::Register, Lane::Fleet)),
        // A day at most.
        (-28, 2, Step::Call(Call::Register, Lane::Fleet)),
        (-29, 1, Step::Call(Call::Register, Lane::Fleet)),
        (-90, 0, Step::Call(Call::Register, Lane::Changed)),
    ] {
        let decision = settled(issued(from, until)).decide();
        assert_eq!(decision.step, step, "{from} {until}");
        let over = until == 0;
        assert_eq!(said(&decision) == Some(Reason::CertificateExpired), over, "{from} {until}");
    }
    // Where none is asked for any more the device is registered without one.
    let mut former = settled(issued(-1, 29));
    assert_eq!(former.decide().step, Step::Nothing);
    former.target.terms.issued = None;
    assert_eq!(former.decide().step, Step::Call(Call::Register, Lane::Fleet));
}

#[test]
fn a_secret_that_is_gone_is_registered_again_since_its_key_is_in_no_other_place() {
    let mut gone = settled(issued(-1, 29));
    gone.secret = secret(SecretSeen::No);
    assert_eq!(gone.decide().step, Step::Call(Call::Register, Lane::Changed));
    gone.device.spec.suspend = true;
    assert_eq!(said(&gone.decide()), Some(Reason::CredentialUnavailable));
}

#[test]
fn where_nothing_may_be_registered_a_secret_without_its_key_is_not_written_but_said_to_be_lost() {
    let mut off = settled(issued(-1, 29));
    off.target.terms.issued = None;
    off.device.spec.reprovision = serde_json::from_value(json!({"policy": "Never"})).unwrap();
    assert_eq!(off.decide().step, Step::Nothing);
    off.secret = secret(SecretSeen::No);
    let decision = off.decide();
    assert_eq!((decision.step, said(&decision)), (Step::Nothing, Some(Reason::CredentialUnavailable)));
    assert!(decision.verdict.unwrap().message.contains("reprovision-requested-at"));
}

#[test]
fn a_secret_that_is_to_be_written_otherwise_is_read_first_and_keeps_the_certificate() {
    let certificate = issued(-1, 29);
    let mut renamed = settled(certificate.clone());
    renamed.device.spec.secret = serde_json::from_value(json!({"labels": {"team": "trucks"}})).unwrap();
    renamed.device.metadata.generation = Some(2);
    renamed.secret.read = false;
    assert_eq!(renamed.decide().step, Step::ReadSecret);
    // What it holds is taken over if it is that certificate.
    let mut found = renamed.facts.registered.clone().unwrap();
    for (other, step) in
        [(issued(-1, 29), Step::Call(Call::Register, Lane::Changed)), (certificate, Step::WriteSecret)]
    {
        let mut read = settled(other.clone());
        read.device = renamed.device.clone();
        read.facts = renamed.facts.clone();
        found.issued = Some(other);
        read.facts.registered.as_mut().unwrap().recover(&found);
        assert_eq!(read.decide().step, step);
    }
}

#[test]
fn what_stands_in_the_secret_is_what_is_read_back() {
    let certificate = issued(-1, 29);
    for spec in [
        json!({}),
        json!({"secret": {"keys": {"certificate": "cert.pem", "privateKey": "key.pem", "caCertificate": ""}}}),
    ] {
        let mut situation = Situation { device: device(spec.clone()), ..asking() };
        situation.target.terms.issued = Some(IssuedKeyAlgorithm::EcdsaP256);
        let mut registered = registered(&situation.device, &situation.target);
        registered.issued = Some(certificate.clone());
        let credential = certificate.certificate.as_ref().unwrap().credential();
        let settings = Settings::of(&situation.device, None).unwrap();
        let (served, target) = (ServedRequests::default(), &situation.target);
        let material = Material { target, credential: &credential, served: &served };
        let mut secret = render(&situation.device, &settings, &registered, &material).object();
        let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
        assert!(text("connectionString").ends_with(";x509=true"), "{spec}");
        assert!(!secret.data.as_ref().unwrap().contains_key("sharedAccessKey"), "{spec}");

        secret.metadata.resource_version = Some("7".to_owned());
        let read = read_back(&secret, &situation.device, target).unwrap();
        assert!(read.sealed && read.agrees);
        let found = read.registered.issued.unwrap();
        let authority = spec["secret"].is_null();
        let files = found.certificate.as_ref().unwrap().reveal().clone();
        assert_eq!(
            (found.id, found.kept, files.authority.is_some()),
            (certificate.id, certificate.kept, authority)
        );

        // Of another certificate in its place nothing is believed.
        let other = issued(-1, 29).certificate.unwrap();
        let (cert, key) = if authority { ("tls.crt", "tls.key") } else { ("cert.pem", "key.pem") };
        let data = secret.data.as_mut().unwrap();
        data.insert(cert.to_owned(), k8s_openapi::ByteString(other.reveal().certificates.clone()));
        data.insert(key.to_owned(), k8s_openapi::ByteString(other.reveal().key.to_vec()));
        let read = read_back(&secret, &situation.device, target).unwrap();
        assert!(!read.sealed);
        assert_eq!(read.registered.issued.unwrap().certificate, None);
    }
}

#[test]
fn its_status_says_which_it_is_and_that_is_read_back() {
    let situation = settled(issued(-1, 29));
    let verdict = Verdict { reason: Reason::Provisioned, message: String::new() };
    let status = status::render(&situation.device, &situation.facts, &verdict, NOW.wall);
    let issued = status.issued_certificate.clone().unwrap();
    let until = NOW.wall + SignedDuration::from_secs(29 * DAY);
    assert_eq!(issued.not_after.0, Timestamp::from_second(until.as_second()).unwrap());
    let facts = Facts::from_status(&status, 1, 0, (NOW.wall, NOW.mono));
    assert_eq!(facts.registered.unwrap().issued, situation.facts.registered.unwrap().issued);
}

#[test]
fn what_does_not_go_with_it_is_refused_before_anything_is_asked_for() {
    for spec in [
        json!({"secret": {"keys": {"certificate": ""}}}),
        json!({"secret": {"keys": {"privateKey": ""}}}),
        json!({"secret": {"keys": {"certificate": "deviceId"}}}),
        // It is not for DPS.
        json!({"secret": {"formats": [{"type": "IotEdgeDpsConfigToml"}]}}),
        // None would follow.
        json!({"reprovision": {"policy": "Never"}}),
    ] {
        let new = Situation { device: device(spec.clone()), ..asking() };
        let decision = new.decide();
        assert_eq!(
            (decision.step, said(&decision)),
            (Step::Nothing, Some(Reason::InvalidConfiguration)),
            "{spec}"
        );
        let mut without = Situation { device: device(spec.clone()), ..asking() };
        without.target.terms.issued = None;
        assert!(matches!(without.decide().step, Step::Call(..)), "{spec}");
    }
}

#[test]
fn a_lookup_that_finds_another_hub_brings_a_registration_and_no_mix_of_two() {
    let certificate = issued(-1, 29);
    let mut situation = settled(certificate.clone());
    let registered = situation.facts.registered.as_mut().unwrap();
    registered.issued = Some(certificate.clone());
    let in_secret = registered.clone();
    let assignment = |hub: &str| Assignment {
        hub: HubHostname::parse(hub, &[".azure-devices.net".to_owned()]).unwrap(),
        device_id: "truck-1".to_owned(),
        substatus: None,
        etag: None,
        created_time: None,
        last_updated_time: None,
        enrollment_group: None,
        payload: None,
        issued: None,
    };
    let (scope, id) = (IdScope::parse("0ne1").unwrap(), RegistrationId::parse("truck-1").unwrap());
    let located = |hub: &str| Located {
        scope: scope.clone(),
        registration_id: id.clone(),
        assignment: assignment(hub),
    };
    situation.facts.look_up(located("hub-a.azure-devices.net"), None);
    assert_eq!(situation.decide().step, Step::Nothing, "it is where it was");
    situation.facts.look_up(located("hub-b.azure-devices.net"), None);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
    // What its Secret holds was issued for the other one.
    situation.facts.registered.as_mut().unwrap().recover(&in_secret);
    assert_eq!(situation.decide().step, Step::Call(Call::Register, Lane::Changed));
}

#[test]
fn what_an_unsealed_secret_says_of_one_is_not_confirmed_by_a_lookup() {
    let recorded = |issued: Option<Issued>| RecordedInSecret {
        registered: Registered { issued, ..registered(&device(json!({})), &target()) },
        served: ServedRequests::default(),
        sealed: false,
        version: SECRET_VERSION,
        rendered: None,
        of_another_key: None,
        agrees: true,
    };
    for (issued, call) in [(None, Call::Adopt), (Some(issued(-1, 29)), Call::Register)] {
        let mut situation = Situation::new_device();
        situation.secret = SecretState { read: true, ..secret(SecretSeen::Version(SECRET_VERSION)) };
        situation.facts.recall(Some(recorded(issued)), None);
        assert_eq!(situation.decide().step, Step::Call(call, Lane::New));
    }
}
