//! Certificates that are missing, wrong, too early, too late or refused.

use super::*;

#[tokio::test]
async fn a_certificate_that_is_missing_is_said_after_half_a_minute_and_taken_up_at_once() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    world.declare("truck-1", json!({}));
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1").1, "");
    world.pass(MINUTE);
    world.until_reason("truck-1", "CertificateNotFound").await;
    assert!(condition(&world.status("truck-1"), "Reconciling")["status"] == "True");
    assert_eq!(world.dps.control().ledger().len(), 0);
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn a_wrong_certificate_is_named_calls_nothing_and_is_mended_by_its_owner() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    world.give_certificate("truck-1", &root.device("truck-2").unwrap(), &[]);
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "CertificateInvalid").await;
    let message = condition(&world.status("truck-1"), "Ready")["message"].to_string();
    assert!(message.contains("truck-1-tls") && message.contains("truck-2"), "{message}");
    assert!(condition(&world.status("truck-1"), "Stalled")["status"] == "True");
    assert_eq!(world.dps.control().ledger().len(), 0);
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn a_certificate_and_a_key_that_are_written_one_after_the_other_are_no_trouble() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let (before, after) = (root.device("truck-1").unwrap(), root.device("truck-1").unwrap());
    world.give_files("truck-1", &after.pem, &before.key_pem());
    world.declare("truck-1", json!({}));
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1").1, "", "nothing is said yet");
    world.give_certificate("truck-1", &after, &[]);
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world.give_files("truck-1", &before.pem, &after.key_pem());
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1"), ("True".to_owned(), "Provisioned".to_owned()));
    world.pass(MINUTE);
    world.until_reason("truck-1", "CertificateInvalid").await;
    assert_eq!(world.ready_reason("truck-1").0, "True", "the copy serves on");
}

#[tokio::test]
async fn a_refused_new_certificate_leaves_the_old_one_and_the_device_ready() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    let first = world.device_secret("truck-1");
    world.give_certificate("truck-1", &next.device("truck-1").unwrap(), &[]);
    world.until("it is refused", |world| world.registers_of("truck-1").len() == 2).await;
    world.until_idle(0).await;
    world.pass(Duration::from_secs(10));
    world.until_reason("truck-1", "Unauthorized").await;
    assert_eq!(world.ready_reason("truck-1").0, "True");
    assert_eq!(condition(&world.status("truck-1"), "Registered")["status"], "False");
    let message = condition(&world.status("truck-1"), "Ready")["message"].to_string();
    assert!(message.contains("CN=next-root") && message.contains("verified"), "{message}");
    assert_eq!(world.device_secret("truck-1")["data"], first["data"]);
    assert!(world.hub_takes("truck-1"));

    let control = world.dps.control();
    control.upload_certificate_authority(SCOPE, "next", certificate(&next), true).unwrap();
    let both = Certificates { primary: certificate(&root), secondary: Some(certificate(&next)) };
    control.set_group_certificates(SCOPE, "fleet", both).unwrap();
    world.pass(MINUTE * 2);
    world.until("it has the new one", |world| world.device_secret("truck-1")["data"] != first["data"]).await;
    world.until_idle(0).await;
    assert!(world.hub_takes("truck-1"));
    assert_eq!(world.ready_reason("truck-1").1, "Provisioned");
}

#[tokio::test]
async fn a_certificate_whose_time_has_not_come_waits_for_it_and_one_whose_time_is_over_is_never_presented() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let year = i32::from(world.now.wall.to_zoned(jiff::tz::TimeZone::UTC).year());
    let early =
        root.device_with("truck-1", |params| params.not_before = rcgen::date_time_ymd(year + 1, 1, 1));
    world.give_certificate("truck-1", &early.unwrap(), &[]);
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "CertificateNotYetValid").await;
    let late = root.device_with("truck-2", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    world.give_certificate("truck-2", &late.unwrap(), &[]);
    world.declare("truck-2", json!({}));
    world.until_reason("truck-2", "CertificateExpired").await;
    assert_eq!(world.dps.control().ledger().len(), 0);

    world.give_certificate("truck-2", &root.device("truck-2").unwrap(), &[]);
    world.until_ready("truck-2").await;
    world.pass(MINUTE * 60 * 24 * 366);
    world.until("DPS is asked", |world| !world.registers_of("truck-1").is_empty()).await;
}

#[tokio::test]
async fn a_device_whose_certificate_expires_is_not_ready_any_more_until_a_new_one_is_registered() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let year = i32::from(world.now.wall.to_zoned(jiff::tz::TimeZone::UTC).year());
    let ends =
        |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
    for name in ["truck-1", "truck-2"] {
        world.give_certificate(name, &root.device_with(name, ends).unwrap(), &[]);
        world.declare(name, json!({}));
        world.until_ready(name).await;
    }
    world.until_idle(0).await;
    // The copy of this one serves on until then.
    world.delete("secrets", "truck-2-tls");
    world.pass(MINUTE);
    world.until_idle(0).await;
    let before = (world.dps.control().ledger().len(), world.writes());
    world.pass(MINUTE * 60);
    world.until_idle(0).await;
    assert_eq!((world.dps.control().ledger().len(), world.writes()), before);

    world.pass(MINUTE * 60 * 24 * 366);
    for name in ["truck-1", "truck-2"] {
        world.until_reason(name, "CertificateExpired").await;
        assert_eq!(world.ready_reason(name).0, "False");
    }
    assert_eq!(world.dps.control().ledger().len(), before.0);
    for name in ["truck-1", "truck-2"] {
        world.give_certificate(name, &root.device(name).unwrap(), &[]);
        world.until_ready(name).await;
        assert!(world.hub_takes(name));
    }
}

#[tokio::test]
async fn one_refusal_of_a_device_that_was_registered_before_is_not_believed() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    let fault = dps_simulator::FaultAction::status(401);
    let fault = dps_simulator::Fault::device("truck-1", fault).on(OperationKind::Register).times(1);
    world.dps.control().inject(fault).unwrap();
    let renewed = root.device("truck-1").unwrap();
    world.give_certificate("truck-1", &renewed, &[]);
    world.until("it is refused", |world| world.registers_of("truck-1").len() == 2).await;
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1"), ("True".to_owned(), "Provisioned".to_owned()));
    world.pass(Duration::from_secs(10));
    world.until("it is taken", |world| world.registers_of("truck-1").len() == 3).await;
    world
        .until("it has it", |world| text(&world.device_secret("truck-1"), "tls.key") == renewed.key_pem())
        .await;
}

#[tokio::test]
async fn dps_that_asks_for_no_certificate_is_told_apart_from_a_refusal() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    world.dps.control().set_handshake(dps_simulator::Handshake::CertificateNotRequested);
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "Unauthorized").await;
    let message = condition(&world.status("truck-1"), "Ready")["message"].to_string();
    assert!(message.contains("did not ask for a client certificate"), "{message}");
}

#[tokio::test]
async fn a_secret_of_another_type_or_of_our_own_is_no_source() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    world.declare("truck-2", json!({"attestation": {"x509": {"secretRef": {"name": "truck-1-hub"}}}}));
    world.until_reason("truck-2", "CertificateInvalid").await;
    let message = condition(&world.status("truck-2"), "Ready")["message"].to_string();
    assert!(message.contains("written by this operator"), "{message}");

    let device = root.device("truck-3").unwrap();
    let data = json!({"tls.crt": STANDARD.encode(&device.pem), "tls.key": STANDARD.encode(device.key_pem())});
    world.api.apply("secrets", "truck-3-tls", json!({"type": "Opaque", "data": data}));
    world.declare("truck-3", json!({}));
    world.until_reason("truck-3", "CertificateInvalid").await;
    let message = condition(&world.status("truck-3"), "Ready")["message"].to_string();
    assert!(message.contains("type \\\"Opaque"), "{message}");

    world.declare("truck-4", json!({"secret": {"name": "truck-4-tls"}}));
    world.until_reason("truck-4", "InvalidConfiguration").await;
    world.declare("truck-5", json!({"secret": {"keys": {"deviceId": "tls.crt"}}}));
    world.give_certificate("truck-5", &root.device("truck-5").unwrap(), &[]);
    world.until_reason("truck-5", "InvalidConfiguration").await;
}

#[tokio::test]
async fn a_device_whose_integration_changes_to_certificates_keeps_its_key_until_it_has_one() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let key = text(&world.device_secret("truck-1"), "sharedAccessKey");
    world.declare_integration(
        json!({"attestation": {"x509": {"secretName": "{name}-tls"}, "symmetricKey": null}}),
    );
    world.list_certificates();
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_reason("truck-1", "CertificateNotFound").await;
    assert_eq!(world.ready_reason("truck-1").0, "True");
    assert_eq!(text(&world.device_secret("truck-1"), "sharedAccessKey"), key);
    assert_eq!(world.registers_of("truck-1").len(), 1);
}

#[tokio::test]
async fn a_source_that_is_gone_or_wrong_is_no_matter_for_a_drift_check() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    world.declare_integration(json!({
        "attestation": {"x509": {"secretName": "{name}-tls"}, "symmetricKey": null},
        "deviceDefaults": {"driftCheck": {"interval": "10m"}},
    }));
    let mut world = world.with_certified(&root, "truck-1").await;
    world.pass(MINUTE);
    world.until_idle(0).await;
    let (before, asked) = (world.writes(), world.dps.control().ledger().len());
    for _ in 0..12 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert!(world.dps.control().ledger().len() > asked, "it is made");
    world.delete("secrets", "truck-1-tls");
    let asked = world.dps.control().ledger().len();
    for _ in 0..22 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!((world.writes(), world.dps.control().ledger().len()), (before, asked));
    assert_eq!(world.ready_reason("truck-1"), ("True".to_owned(), "Provisioned".to_owned()));
}
