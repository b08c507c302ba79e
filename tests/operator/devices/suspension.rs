//! A suspended device, or a suspended integration, waits.

use serde_json::json;

use crate::world::objects::{is_pending, is_ready};
use crate::world::{INTEGRATION, Kind, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_device_waits_and_its_secret_is_still_repaired() {
    let world = World::start().await;
    world.device_with("truck-1", json!({"suspend": true})).await;
    let device = world.wait_reason("truck-1", "Suspended").await;
    assert!(condition(&device, "Reconciling").is_none() && condition(&device, "Stalled").is_none());
    assert_eq!(world.ledger(), []);

    world.patch(Kind::Device, "truck-1", json!({"spec": {"suspend": false}})).await;
    world.wait_ready("truck-1").await;
    world.patch(Kind::Device, "truck-1", json!({"spec": {"suspend": true}})).await;
    let device = world.wait_reason("truck-1", "Suspended").await;
    assert!(is_ready(&device), "what it has it keeps");
    let before = world.mark().await;
    world.delete(Kind::Secret, "truck-1-hub").await;

    world.wait(Kind::Secret, "truck-1-hub", "restored", |_| true).await;
    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "gdansk"}}})).await;
    let observed = world.wait_reason("truck-1", "Suspended").await;
    assert_eq!(observed["status"]["observedGeneration"], observed["metadata"]["generation"]);
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_integration_holds_new_devices_until_it_is_resumed() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"suspend": true})).await;
    world.devices("truck", 3).await;
    let integration = world.wait_integration(INTEGRATION, "Suspended").await;
    assert!(condition(&integration, "Ready").unwrap().is_true());
    world.wait_counters(INTEGRATION, |devices| devices["pending"] == 3).await;
    assert_eq!(world.ledger(), []);
    let devices = world.list(Kind::Device).await;
    assert!(devices.iter().all(is_pending), "it is not copied to its devices");

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"suspend": false}})).await;

    world.wait_all_ready(3).await;
}
