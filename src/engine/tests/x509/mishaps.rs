//! What may come between a certificate that DPS has accepted and the Secret that is to hold it.

use super::*;

#[tokio::test]
async fn one_that_dps_has_accepted_is_written_although_its_source_has_gone_on_to_one_that_it_refuses() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    world.dps.control().set_think_time(Duration::from_millis(700));
    let second = root.device("truck-1").unwrap();
    world.give_certificate("truck-1", &second, &[]);
    world.until("DPS is asked", |world| world.registers_of("truck-1").len() == 2).await;
    world.give_certificate("truck-1", &next.device("truck-1").unwrap(), &[]);
    world
        .until("it has the second", |world| {
            text(&world.device_secret("truck-1"), "tls.key") == second.key_pem()
        })
        .await;
    assert!(world.hub_takes("truck-1"));
    world.until("the third is tried", |world| world.registers_of("truck-1").len() == 3).await;
    world.until_idle(0).await;
    world.pass(Duration::from_secs(10));
    world.until_reason("truck-1", "Unauthorized").await;
    assert_eq!(text(&world.device_secret("truck-1"), "tls.key"), second.key_pem());
    assert!(world.hub_takes("truck-1"));
}

#[tokio::test]
async fn without_its_status_a_device_is_looked_up_and_neither_registered_nor_read_again_and_again() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    let before = world.device_secret("truck-1");
    world.api.forget_statuses();
    world.restart();
    world.until_idle(0).await;
    world.pass(Duration::from_secs(10));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    assert_eq!(world.registers_of("truck-1").len(), 1);
    assert_eq!(world.device_secret("truck-1")["data"], before["data"]);
    assert!(world.api.reads("secrets", "truck-1-hub") <= 3);
}

#[tokio::test]
async fn a_device_that_is_to_be_looked_up_first_is_registered_since_no_lookup_tells_its_certificate() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    world.delete("provisioneddevices", "truck-1");
    world.delete("secrets", "truck-1-hub");
    world.until_idle(0).await;
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.declare("truck-1", json!({"registration": {"onCreate": "LookupFirst"}}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    assert!(world.hub_takes("truck-1"));
    assert_eq!(world.registers_of("truck-1").len(), 2);
}

#[tokio::test]
async fn another_chain_of_the_same_certificate_is_written_without_a_registration() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let device = root.device("truck-1").unwrap();
    world.give_certificate("truck-1", &device, &[]);
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world.give_certificate("truck-1", &device, &[&root]);
    world
        .until("it has the longer chain", |world| {
            text(&world.device_secret("truck-1"), "tls.crt") == device.chain(&[&root])
        })
        .await;
    world.until_idle(0).await;
    assert_eq!(world.registers_of("truck-1").len(), 1);
    assert_eq!(world.ready_reason("truck-1").1, "Provisioned");
}

#[tokio::test]
async fn one_without_an_end_is_known_again_by_a_new_process() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let endless =
        |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    world.give_certificate("truck-1", &root.device_with("truck-1", endless).unwrap(), &[]);
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    assert!(world.status("truck-1")["credential"]["notAfter"].is_string());
    world.restart();
    // Its Secret is compared.
    world.declare("truck-1", json!({"secret": {"labels": {"a": "b"}}}));
    world.until_idle(0).await;
    world.until_ready("truck-1").await;
    assert_eq!(world.registers_of("truck-1").len(), 1);
}

#[tokio::test]
async fn what_expires_while_nothing_may_be_sent_is_said_once() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let year = i32::from(world.now.wall.to_zoned(jiff::tz::TimeZone::UTC).year());
    let ends =
        |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(year + 1, 1, 1);
    world.give_certificate("truck-1", &root.device_with("truck-1", ends).unwrap(), &[]);
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let x509 = json!({"x509": {"secretName": "{name}-tls"}, "symmetricKey": null});
    world.declare_integration(json!({"suspend": true, "attestation": x509}));
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.until_idle(0).await;
    world.pass(MINUTE * 60 * 24 * 366);
    world.until("it is not Ready", |world| world.ready_reason("truck-1").0 == "False").await;
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1").1, "CertificateExpired");
    // The integration has counted it.
    world.pass(MINUTE);
    world.until_idle(0).await;
    let before = (world.writes(), world.api.reads("secrets", "truck-1-tls"));
    for _ in 0..10 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!((world.writes(), world.api.reads("secrets", "truck-1-tls")), before);
    world.declare_integration(json!({"suspend": false, "attestation": x509}));
    world.until_ready("truck-1").await;
    assert!(world.hub_takes("truck-1"));
}
