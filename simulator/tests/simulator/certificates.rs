//! Devices with certificates: groups by root and by intermediate CAs, individual enrollments, and what is
//! refused.

use dps_simulator::config::{
    CommonNameCase, CommonNameDiffers, OldThumbprint, Unauthorized, UnknownIdScope, X509ResultReading,
};
use dps_simulator::{
    Certificates, Config, Credential, EnrollmentGroup, EnrollmentKind, Handshake, KeySlot, Readings, Running,
};
use serde_json::json;

use crate::device::{self, Device, GROUP, HUB_A, SCOPE, error};
use crate::enrollments::individual;
use crate::pki::Identity;

const LORRIES: &str = "lorries";

/// An id scope with a group for devices under this CA, beside one with keys. The root is verified.
fn config(root: &Identity, group_for: &Identity) -> Config {
    let mut config = device::config();
    let scope = &mut config.id_scopes[0];
    scope.enrollment_groups.push(EnrollmentGroup::x509(LORRIES, group_for.certificate()));
    scope.certificate_authorities.push(root.authority("root", true));
    config
}

async fn connect(simulator: &Running, id: &str, leaf: &Identity, others: &[&Identity]) -> Device {
    Device::with_certificate(simulator, id, leaf.presented(others)).await.unwrap()
}

/// Status and code of the refusal of a registration.
async fn refusal(simulator: &Running, id: &str, leaf: &Identity, others: &[&Identity]) -> (u16, u64) {
    error(&connect(simulator, id, leaf, others).await.register().await)
}

#[tokio::test]
async fn a_device_under_the_root_of_a_group_registers_with_its_certificate_alone() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    let leaf = root.device("truck-1");
    let mut device = connect(&simulator, "truck-1", &leaf, &[]).await;

    let state = device.provision().await;

    assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!(HUB_A), &json!("truck-1")));
    assert_eq!((&state["x509"], state.get("symmetricKey")), (&json!({}), None));
    assert_eq!(device.lookup().await.json()["assignedHub"], HUB_A);
    let seen = simulator.ledger();
    let entry = &seen[0];
    assert_eq!((entry.credential, entry.authorized, entry.resumed), (Credential::Certificate, false, false));
    let presented = entry.certificate.as_ref().unwrap();
    assert_eq!(presented.leaf.thumbprint, leaf.certificate().thumbprint());
    assert_eq!(
        (presented.leaf.subject.as_str(), presented.leaf.issuer.as_str()),
        ("CN=truck-1", "CN=fleet-root")
    );
    assert_eq!(presented.chain_length, 1);
    let used = entry.key.as_ref().unwrap();
    assert_eq!(
        (used.kind, used.enrollment.as_str(), used.slot),
        (EnrollmentKind::Group, LORRIES, KeySlot::Primary)
    );
    assert!(seen.iter().all(|entry| entry.connection == seen[0].connection));
}

#[tokio::test]
async fn the_hub_knows_the_thumbprint_of_the_last_registration_and_no_other() {
    let root = Identity::root("fleet-root");
    for (reading, old_is_kept) in [(OldThumbprint::Dropped, false), (OldThumbprint::Secondary, true)] {
        let mut config = config(&root, &root);
        config.readings = Readings { old_thumbprint: reading, ..Readings::default() };
        let simulator = device::start(config).await;
        let (old, new) = (root.device("truck-1"), root.device("truck-1"));
        let accepts =
            |leaf: &Identity| simulator.accepts_device_certificate(SCOPE, "truck-1", &leaf.certificate());
        connect(&simulator, "truck-1", &old, &[]).await.provision().await;
        assert!(accepts(&old) && !accepts(&new), "a certificate that was renewed but not registered");

        connect(&simulator, "truck-1", &new, &[]).await.provision().await;

        assert!(accepts(&new));
        assert_eq!(accepts(&old), old_is_kept);
        let thumbprints = simulator.hub_thumbprints(SCOPE, "truck-1");
        assert_eq!(thumbprints.first(), Some(&new.certificate().thumbprint()));
        assert_eq!(thumbprints.len(), 1 + usize::from(old_is_kept));
        simulator.set_clock_ahead(3_000 * 365 * 86_400);
        assert!(!accepts(&new), "the hub looks whether it is in date");
    }
}

#[tokio::test]
async fn the_nearest_ca_with_a_group_decides_and_the_way_has_to_reach_a_verified_one() {
    let root = Identity::root("root");
    let (upper, other) = (root.intermediate("upper"), root.intermediate("other"));
    let lower = upper.intermediate("lower");
    let (leaf, sibling) = (lower.device("truck-1"), other.device("truck-2"));
    let mut config = config(&root, &root);
    config.id_scopes[0].enrollment_groups.push(EnrollmentGroup::x509("lower", lower.certificate()));
    let simulator = device::start(config).await;
    let group = |id: &str| simulator.registration(SCOPE, id).map(|state| state.x509);

    connect(&simulator, "truck-1", &leaf, &[&lower, &upper]).await.provision().await;
    // Of the root nothing has to be sent, and in any order.
    connect(&simulator, "truck-1", &leaf, &[&upper, &root, &lower]).await.provision().await;
    connect(&simulator, "truck-2", &sibling, &[&other]).await.provision().await;

    let enrollments: Vec<String> =
        simulator.ledger().into_iter().filter_map(|entry| entry.key).map(|key| key.enrollment).collect();
    assert_eq!(enrollments, ["lower", "lower", "lower", "lower", LORRIES, LORRIES]);
    assert!(group("truck-1").flatten().is_some());
    for missing in [&[][..], &[&lower], &[&upper]] {
        assert_eq!(refusal(&simulator, "truck-1", &leaf, missing).await, (401, 401_002), "{}", missing.len());
    }
    // An intermediate CA may be the verified one, with no root at all.
    simulator.upload_certificate_authority(SCOPE, "lower", lower.certificate(), true).unwrap();
    connect(&simulator, "truck-1", &leaf, &[]).await.provision().await;
}

#[tokio::test]
async fn a_ca_that_is_not_uploaded_or_not_verified_admits_no_device() {
    let root = Identity::root("fleet-root");
    let mut config = config(&root, &root);
    config.id_scopes[0].certificate_authorities.clear();
    let simulator = device::start(config).await;
    let leaf = root.device("truck-1");
    assert_eq!(refusal(&simulator, "truck-1", &leaf, &[&root]).await, (401, 401_002));
    simulator.upload_certificate_authority(SCOPE, "root", root.certificate(), false).unwrap();
    let refused = connect(&simulator, "truck-1", &leaf, &[]).await.register().await;
    assert_eq!(error(&refused), (401, 401_002));
    assert_eq!(refused.json()["message"], "CA certificate not found.");
    simulator.set_certificate_authority_verified(SCOPE, "root", true).unwrap();
    connect(&simulator, "truck-1", &leaf, &[]).await.provision().await;
    // A CA of the same name, but with another key, has signed nothing of this.
    let namesake = Identity::root("fleet-root");
    assert_eq!(refusal(&simulator, "truck-2", &namesake.device("truck-2"), &[]).await, (401, 401_002));
    // Nor has one of another name, although with the same key.
    let apart = Identity::root("apart");
    let renamed = Certificates { primary: apart.renamed("another"), secondary: None };
    simulator.upload_certificate_authority(SCOPE, "apart", renamed.primary.clone(), true).unwrap();
    simulator.set_group_certificates(SCOPE, LORRIES, renamed).unwrap();
    assert_eq!(refusal(&simulator, "truck-2", &apart.device("truck-2"), &[&apart]).await, (401, 401_002));
    simulator.set_group_certificates(SCOPE, LORRIES, root.certificates()).unwrap();
    // A verified CA without a group.
    let elsewhere = Identity::root("elsewhere");
    assert_eq!(refusal(&simulator, "truck-2", &elsewhere.device("truck-2"), &[]).await, (401, 401_002));
    simulator.upload_certificate_authority(SCOPE, "elsewhere", elsewhere.certificate(), true).unwrap();
    assert_eq!(refusal(&simulator, "truck-2", &elsewhere.device("truck-2"), &[]).await, (401, 401_002));
}

#[tokio::test]
async fn a_devices_certificate_signs_no_other_device() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    let honest = root.device("truck-1");
    let forged = honest.device("truck-2");
    assert_eq!(refusal(&simulator, "truck-2", &forged, &[&honest]).await, (401, 401_002));
}

#[tokio::test]
async fn an_individual_enrollment_is_for_its_own_certificates_and_comes_before_groups() {
    let root = Identity::root("fleet-root");
    let (primary, secondary) = (Identity::own("edge-7"), Identity::own("edge-7"));
    let mut config = config(&root, &root);
    let mut entry = individual("edge-7");
    (entry.primary_key, entry.secondary_key) = (None, None);
    entry.x509 = Some(primary.certificates());
    config.id_scopes[0].individual_enrollments.push(entry);
    let simulator = device::start(config).await;

    let state = connect(&simulator, "edge-7", &primary, &[]).await.provision().await;

    assert_eq!((&state["deviceId"], &state["registrationId"]), (&json!("Gateway-1"), &json!("edge-7")));
    assert_eq!(refusal(&simulator, "edge-7", &secondary, &[]).await, (401, 401_000));
    let of_the_group = root.device("edge-7");
    assert_eq!(refusal(&simulator, "edge-7", &of_the_group, &[]).await, (401, 401_000));
    let mut by_key = Device::connect(&simulator, "edge-7").await;
    assert_eq!(error(&by_key.register().await), (401, 401_002));

    let mut both = primary.certificates();
    both.secondary = Some(secondary.certificate());
    simulator.set_device_certificates(SCOPE, "edge-7", both).unwrap();
    connect(&simulator, "edge-7", &secondary, &[]).await.provision().await;
    let last = simulator.ledger().pop().unwrap().key.unwrap();
    assert_eq!((last.kind, last.slot), (EnrollmentKind::Individual, KeySlot::Secondary));

    // One that a CA has signed is worth what the CA is.
    simulator.set_device_certificates(SCOPE, "edge-7", of_the_group.certificates()).unwrap();
    connect(&simulator, "edge-7", &of_the_group, &[]).await.provision().await;
    simulator.set_certificate_authority_verified(SCOPE, "root", false).unwrap();
    assert_eq!(refusal(&simulator, "edge-7", &of_the_group, &[]).await, (401, 401_002));
}

#[tokio::test]
async fn the_common_name_is_the_registration_id() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    assert_eq!(refusal(&simulator, "truck-2", &root.device("truck-1"), &[]).await, (401, 401_002));
    connect(&simulator, "truck-1", &root.device("TRUCK-1"), &[]).await.provision().await;

    let mut strict = config(&root, &root);
    strict.readings = Readings {
        common_name_case: CommonNameCase::Exact,
        common_name_differs: CommonNameDiffers::Code400004,
        ..Readings::default()
    };
    let simulator = device::start(strict).await;
    assert_eq!(refusal(&simulator, "truck-1", &root.device("TRUCK-1"), &[]).await, (400, 400_004));
}

#[tokio::test]
async fn a_certificate_counts_in_its_time_by_the_clock_of_dps() {
    let root = Identity::root("fleet-root");
    let mut config = config(&root, &root);
    config.readings = Readings { expired_certificate: Unauthorized::Code401000, ..Readings::default() };
    let simulator = device::start(config).await;
    assert_eq!(refusal(&simulator, "truck-1", &root.expired_device("truck-1"), &[]).await, (401, 401_000));
    let leaf = root.device("truck-2");
    simulator.set_clock_ahead(-60 * 365 * 86_400);
    assert_eq!(refusal(&simulator, "truck-2", &leaf, &[]).await, (401, 401_000), "not valid yet");
    simulator.set_clock_ahead(0);
    connect(&simulator, "truck-2", &leaf, &[]).await.provision().await;
}

#[tokio::test]
async fn a_disabled_enrollment_is_told_as_with_keys() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    let leaf = root.device("truck-1");
    let status =
        async || connect(&simulator, "truck-1", &leaf, &[]).await.register().await.json()["status"].take();
    simulator.set_group_enabled(SCOPE, LORRIES, false).unwrap();
    assert_eq!(status().await, "disabled");
    simulator.set_group_enabled(SCOPE, LORRIES, true).unwrap();
    simulator.set_device_enabled(SCOPE, "truck-1", false).unwrap();
    assert_eq!(status().await, "disabled");
    simulator.set_device_enabled(SCOPE, "truck-1", true).unwrap();
    assert_eq!(status().await, "assigning");
    simulator.delete_group(SCOPE, LORRIES).unwrap();
    assert_eq!(refusal(&simulator, "truck-1", &leaf, &[]).await, (401, 401_002));
}

#[tokio::test]
async fn a_token_decides_where_there_is_a_certificate_too() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    let mut device = connect(&simulator, "truck-1", &root.device("truck-1"), &[]).await;
    device.sign_with(&device::device_key("truck-1"));
    let state = device.provision().await;
    assert_eq!(state["symmetricKey"]["enrollmentGroupId"], GROUP);
    assert_eq!(state.get("x509"), None);
    assert!(simulator.ledger().iter().all(|entry| entry.credential == Credential::Token));
}

#[tokio::test]
async fn what_an_answer_says_of_the_certificate_is_a_reading() {
    let root = Identity::root("fleet-root");
    let leaf = root.device("truck-1");
    let state = async |x509_result| {
        let mut config = config(&root, &root);
        config.readings = Readings { x509_result, ..Readings::default() };
        let simulator = device::start(config).await;
        connect(&simulator, "truck-1", &leaf, &[]).await.provision().await
    };
    let full = state(X509ResultReading::Full).await;
    assert_eq!(full["x509"]["enrollmentGroupId"], LORRIES);
    let info = &full["x509"]["certificateInfo"];
    assert_eq!(info["sha256Thumbprint"], leaf.certificate().thumbprint().as_str());
    assert_eq!((&info["subjectName"], &info["version"]), (&json!("CN=truck-1"), &json!(3)));
    assert_eq!(state(X509ResultReading::Absent).await.get("x509"), None);
}

#[tokio::test]
async fn an_unknown_id_scope_fails_a_registration_with_a_certificate() {
    let root = Identity::root("fleet-root");
    let elsewhere = async |reading| {
        let mut config = config(&root, &root);
        config.readings.unknown_id_scope_with_certificate = reading;
        let simulator = device::start(config).await;
        let mut device = connect(&simulator, "truck-1", &root.device("truck-1"), &[]).await;
        device.id_scope = "0ne99999999".to_owned();
        device.register().await
    };
    let failed = elsewhere(UnknownIdScope::Failed).await;
    assert_eq!((failed.status.as_u16(), &failed.json()["status"]), (200, &json!("failed")));
    assert_eq!(failed.json()["registrationState"]["errorCode"], 404_201);
    assert_eq!(error(&elsewhere(UnknownIdScope::NotFound).await), (404, 404_201));
}

#[tokio::test]
async fn handshakes_can_go_wrong() {
    let root = Identity::root("fleet-root");
    let simulator = device::start(config(&root, &root)).await;
    let leaf = root.device("truck-1");

    simulator.set_handshake(Handshake::CertificateNotRequested);
    assert_eq!(refusal(&simulator, "truck-1", &leaf, &[]).await, (401, 401_000));
    let unseen = simulator.ledger().pop().unwrap();
    assert_eq!((unseen.credential, unseen.certificate), (Credential::None, None));

    simulator.set_handshake(Handshake::Alert);
    let alert = Device::with_certificate(&simulator, "truck-1", leaf.presented(&[])).await.err().unwrap();
    assert!(alert.to_string().contains("HandshakeFailure"), "{alert}");

    simulator.set_handshake(Handshake::Slow(200));
    let begun = std::time::Instant::now();
    connect(&simulator, "truck-1", &leaf, &[]).await.provision().await;
    assert!(begun.elapsed() >= std::time::Duration::from_millis(200));
    simulator.set_handshake(Handshake::Normal);
    // A certificate is not required.
    Device::connect(&simulator, "dev").await.provision().await;
}
