//! A settled device is told to refer to another integration.

use serde_json::{Value, json};

use crate::world::objects::{data, identity, uid};
use crate::world::{INTEGRATION, Kind, SCOPE, Setup, World, condition};

const OTHER_SCOPE: &str = "0ne00FFFFFF";
const OTHER_HUB: &str = "hub-c.azure-devices.net";

async fn refer_to(world: &World, integration: &str) {
    world.patch(Kind::Device, "truck-1", json!({"spec": {"integrationRef": {"name": integration}}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_refers_to_nothing_keeps_its_secret_and_says_so() {
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
    assert_eq!(identity(&world.get(Kind::Secret, "truck-1-hub").await), identity(&secret));

    refer_to(&world, INTEGRATION).await;

    let device = world.wait_reason("truck-1", "Provisioned").await;
    assert!(condition(&device, "Reconciling").is_none());
    assert_eq!(identity(&world.get(Kind::Secret, "truck-1-hub").await), identity(&secret));
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_secret_is_the_same_object_after_a_move_to_another_id_scope() {
    let mut setup = Setup::default();
    let mut other = setup.simulator.id_scopes[0].clone();
    (other.id_scope, other.hubs) = (OTHER_SCOPE.to_owned(), vec![OTHER_HUB.to_owned()]);
    setup.simulator.id_scopes.push(other);
    let world = World::with(setup).await;
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
