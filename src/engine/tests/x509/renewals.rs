//! A certificate that changes: DPS knows the new one before the application sees it.

use super::*;

#[tokio::test]
async fn a_renewed_certificate_is_registered_before_the_device_has_it() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    let first = world.device_secret("truck-1");
    // DPS takes its time.
    world.dps.control().set_think_time(Duration::from_millis(1500));
    let renewed = root.device("truck-1").unwrap();
    world.give_certificate("truck-1", &renewed, &[]);
    world.until("DPS is asked", |world| world.registers_of("truck-1").len() == 2).await;
    assert_eq!(world.device_secret("truck-1")["data"], first["data"]);
    assert_eq!(world.ready_reason("truck-1").0, "True");
    world
        .until("it has the new one", |world| {
            text(&world.device_secret("truck-1"), "tls.key") == renewed.key_pem()
        })
        .await;
    world.until_idle(0).await;

    assert!(world.hub_takes("truck-1"));
    let thumbprint = certificate(&renewed).thumbprint().as_str().to_lowercase();
    assert_eq!(world.status("truck-1")["credential"]["fingerprint"], thumbprint[..16]);
    assert_eq!(world.registers_of("truck-1").len(), 2);
}

#[tokio::test]
async fn a_touched_secret_is_read_once_and_changes_nothing() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_certified(&root, "truck-1").await;
    let before = (world.dps.control().ledger().len(), world.writes());
    let mut source = world.api.get("secrets", "truck-1-tls").unwrap();
    source["metadata"]["labels"] = json!({"touched": "yes"});
    world.api.apply("secrets", "truck-1-tls", source);
    world.deliver();
    world.until_idle(0).await;
    assert_eq!(world.api.reads("secrets", "truck-1-tls"), 2);
    assert_eq!((world.dps.control().ledger().len(), world.writes()), before);
}

#[tokio::test]
async fn devices_change_from_keys_to_certificates_and_back_with_their_integration() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let key = text(&world.device_secret("truck-1"), "sharedAccessKey");

    let control = world.dps.control();
    control.upload_certificate_authority(SCOPE, "root", certificate(&root), true).unwrap();
    control.set_group_certificates(SCOPE, "fleet", certificates(&root)).unwrap();
    world.give_certificate("truck-1", &root.device("truck-1").unwrap(), &[]);
    world.declare_integration(
        json!({"attestation": {"x509": {"secretName": "{name}-tls"}, "symmetricKey": null}}),
    );
    world.list_certificates();
    world
        .until("it has its certificate", |world| {
            world.device_secret("truck-1")["data"]["tls.crt"].is_string()
        })
        .await;
    world.until_idle(0).await;
    let secret = world.device_secret("truck-1");
    assert!(secret["data"]["sharedAccessKey"].is_null() && world.hub_takes("truck-1"), "{secret}");
    assert!(!text(&secret, "connectionString").contains(&key));

    world.dps.control().set_group_keys(SCOPE, "fleet", super::super::KEY, super::super::OTHER_KEY).unwrap();
    let keys = json!({"primaryKeyRef": {"name": "group"}, "secondaryKeyRef": {"name": "group"}});
    world.declare_integration(json!({"attestation": {"x509": null, "symmetricKey": keys}}));
    world.show_keys(super::super::KEY, super::super::OTHER_KEY);
    world
        .until("it has its key", |world| {
            world.device_secret("truck-1")["data"]["sharedAccessKey"].is_string()
        })
        .await;
    world.until_idle(0).await;
    let secret = world.device_secret("truck-1");
    assert_eq!(text(&secret, "sharedAccessKey"), key);
    assert!(secret["data"]["tls.key"].is_null() && secret["data"]["tls.crt"].is_null(), "{secret}");
    assert_eq!(world.status("truck-1")["credential"]["type"], "SymmetricKey");
}
