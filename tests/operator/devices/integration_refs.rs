//! A device refers to an integration that is not there yet, or to another one than before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::objects::{data, revision, uid};
use crate::world::{INTEGRATION, Kind, OTHER_HUB, OTHER_SCOPE, SCOPE, Setup, WRONG_KEY, World, condition};

async fn refer_to(world: &World, integration: &str) {
    world.patch(Kind::Device, "truck-1", json!({"spec": {"integrationRef": {"name": integration}}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_refers_to_a_missing_integration_keeps_its_secret_and_reports_it() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let (secret, before) = (world.get(Kind::Secret, "truck-1-hub").await, world.mark().await);

    refer_to(&world, "nowhere").await;

    let device = world.wait_reason("truck-1", "IntegrationNotFound").await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(ready.is_true() && ready.message.contains("\"nowhere\""), "{}", ready.message);
    let registered = condition(&device, "Registered").unwrap();
    assert_eq!((registered.status.as_str(), registered.reason.as_str()), ("Unknown", "IntegrationNotFound"));
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "IntegrationNotFound");
    assert_eq!(condition(&device, "SecretReady").unwrap().status, "True");
    assert_eq!(revision(&world.get(Kind::Secret, "truck-1-hub").await), revision(&secret));

    refer_to(&world, INTEGRATION).await;

    let device = world.wait_reason("truck-1", "Provisioned").await;
    assert!(condition(&device, "Reconciling").is_none());
    assert_eq!(revision(&world.get(Kind::Secret, "truck-1-hub").await), revision(&secret));
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_secret_is_the_same_object_after_a_move_to_another_id_scope() {
    let world = World::with(Setup::two_id_scopes()).await;
    world.integration(INTEGRATION).await;
    world.integration_with("mill", json!({"idScope": OTHER_SCOPE})).await;
    world.device_with("truck-1", json!({"secret": {"deletionPolicy": "Retain"}})).await;
    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(secret["metadata"]["ownerReferences"], Value::Null);

    refer_to(&world, "mill").await;

    world.wait_ready("truck-1").await;
    let moved = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!((uid(&moved), &moved["metadata"]["ownerReferences"]), (uid(&secret), &Value::Null));
    let values = data(&moved);
    assert_eq!((values["idScope"].as_str(), values["iotHubHostname"].as_str()), (OTHER_SCOPE, OTHER_HUB));
    let annotations = &moved["metadata"]["annotations"];
    assert_eq!(annotations["dps-operator.io/registration"], format!("{OTHER_SCOPE}/truck-1"));
    assert!(world.dps.accepts_device_key(OTHER_SCOPE, "truck-1", &values["sharedAccessKey"]));
    assert!(world.dps.registration(SCOPE, "truck-1").is_some(), "nothing is ever deleted in DPS");

    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Device, "truck-1").await;
    assert_eq!(uid(&world.get(Kind::Secret, "truck-1-hub").await), uid(&secret));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_moves_to_another_id_scope_is_registered_there_and_its_secret_replaced_in_one_write() {
    let world = World::with(Setup::two_id_scopes()).await;
    world.integration(INTEGRATION).await;
    world.integration_with("mill", json!({"idScope": OTHER_SCOPE})).await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let (hub, secret) =
        (device["status"]["assignedHub"].clone(), world.get(Kind::Secret, "truck-1-hub").await);
    let before = world.mark().await;

    world.patch(Kind::Device, "truck-1", json!({"spec": {"integrationRef": {"name": "mill"}}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["idScope"], OTHER_SCOPE);
    assert_eq!(device["status"]["assignedHub"], OTHER_HUB);
    assert_eq!(device["status"]["previousHub"], hub);
    let replaced = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(uid(&replaced), uid(&secret));
    let annotations = &replaced["metadata"]["annotations"];
    assert_eq!(annotations["dps-operator.io/registration"], format!("{OTHER_SCOPE}/truck-1"));
    assert_eq!(replaced["metadata"]["labels"]["dps-operator.io/integration"], "mill");
    assert_eq!(data(&replaced)["iotHubHostname"], OTHER_HUB);
    assert_eq!(world.writes_since(before).await.get("patch secrets"), Some(&1));
    assert!(world.dps.registration(SCOPE, "truck-1").is_some(), "nothing is ever deleted in DPS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_held_up_by_a_wrong_key_registers_when_it_is_given_another_integration() {
    let world = World::empty().await;
    world.group_key("broken-key", WRONG_KEY).await;
    world.integration_without_key("broken", json!({})).await;
    for name in ["canary-1", "canary-2", "canary-3", "truck-1"] {
        world.device_with(name, json!({"integrationRef": {"name": "broken"}})).await;
    }
    world.wait_ledger("three refusals", |_| world.registers() >= 3).await;
    world.integration(INTEGRATION).await;

    for name in ["canary-1", "canary-2", "canary-3", "truck-1"] {
        world.patch(Kind::Device, name, json!({"spec": {"integrationRef": {"name": INTEGRATION}}})).await;
    }

    world.wait_all_ready(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_report_a_missing_integration_after_thirty_seconds_and_register_when_it_is_created() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    let (secrets, before) = (world.secret_revisions().await, world.mark().await);
    let start = Instant::now();
    world.delete(Kind::Integration, INTEGRATION).await;
    world.device_with("early", json!({"integrationRef": {"name": "later"}})).await;
    let broken = json!({"hostname": "evil.example"});
    world.integration_with("unusable", broken).await;
    world.device_with("stuck", json!({"integrationRef": {"name": "unusable"}})).await;

    let early = world.wait_reason("early", "IntegrationNotFound").await;
    assert!(start.elapsed() >= Duration::from_secs(29), "not before it has had time to come");
    assert_eq!(condition(&early, "Reconciling").unwrap().reason, "IntegrationNotFound");
    assert!(!condition(&early, "Ready").unwrap().is_true());
    let stuck = world.wait_reason("stuck", "IntegrationNotReady").await;
    assert!(condition(&stuck, "Ready").unwrap().message.contains("unusable"));
    for number in 1..=3 {
        let device = world.wait_reason(&format!("truck-{number}"), "IntegrationNotFound").await;
        assert!(condition(&device, "Ready").unwrap().is_true(), "provisioned devices keep what they have");
        assert_eq!(condition(&device, "Registered").unwrap().status, "Unknown");
    }

    world.integration_without_key(INTEGRATION, json!({})).await;
    world.wait_integration(INTEGRATION, "Available").await;
    for number in 1..=3 {
        world.wait_reason(&format!("truck-{number}"), "Provisioned").await;
    }
    assert_eq!(world.ledger_since(before), [], "equal scope and keys: nothing to do");
    assert_eq!(world.secret_revisions().await, secrets);

    world.integration("later").await;
    world.wait_ready("early").await;
}
