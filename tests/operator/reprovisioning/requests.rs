//! A settled device is asked for something although nothing of it has changed: tokens, lookups.

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use crate::world::objects::is_observed;
use crate::world::requests::{REPROVISION, annotation};
use crate::world::{HUBS, INTEGRATION, Kind, SCOPE, World};

fn other_hub(device: &Value) -> &'static str {
    HUBS.into_iter().find(|hub| device["status"]["assignedHub"] != *hub).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_registers_the_device_again_and_removing_it_does_nothing() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.device("truck-2").await;
    world.wait_all_ready(2).await;

    world.request_registration(Kind::Device, "truck-1", "2026-01-01").await;

    world.wait_registration_request(Kind::Device, "truck-1", "2026-01-01").await;
    assert_eq!((world.registers_of("truck-1"), world.registers_of("truck-2")), (2, 1));

    world.patch(Kind::Device, "truck-1", annotation(REPROVISION, &Value::Null)).await;
    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"labels": {"later": "yes"}}}})).await;
    world.wait(Kind::Device, "truck-1", "observed", is_observed).await;
    assert_eq!(world.registers_of("truck-1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_on_the_integration_registers_its_devices_again_and_is_handled_for_new_ones() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;

    world.request_registration(Kind::Integration, INTEGRATION, "again").await;

    world.wait_registration_request(Kind::Integration, INTEGRATION, "again").await;
    world.device("late").await;
    let late = world.wait_ready("late").await;
    assert_eq!(late["status"]["lastHandledIntegrationToken"], "again");
    for device in ["truck-1", "truck-2", "truck-3"] {
        assert_eq!(world.registers_of(device), 2, "{device}");
    }
    assert_eq!(world.registers_of("late"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_moved_in_azure_is_found_by_a_lookup_without_registering() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let (before, moved_to) = (device["status"]["assignedHub"].clone(), other_hub(&device));
    world.dps.move_device(SCOPE, "truck-1", moved_to).unwrap();

    world.request_lookup(Kind::Device, "truck-1", "look").await;

    let moved = |device: &Value| device["status"]["assignedHub"] == moved_to;
    let device = world.wait(Kind::Device, "truck-1", "moved", moved).await;
    assert_eq!(device["status"]["previousHub"], before);
    assert_eq!(device["status"]["lastHandledReconcileAt"], "look");
    assert_eq!(world.secret("truck-1-hub").await["iotHubHostname"], moved_to);
    assert_eq!((world.registers_of("truck-1"), world.calls(OperationKind::Lookup).of("truck-1")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_registers_again_when_a_lookup_does_not_find_its_registration() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.dps.delete_registration(SCOPE, "truck-1").unwrap();

    world.request_lookup(Kind::Device, "truck-1", "look").await;

    world.wait_ledger("registered again", |_| world.registers_of("truck-1") == 2).await;
    world.wait_reason("truck-1", "Provisioned").await;
    assert!(world.dps.registration(SCOPE, "truck-1").is_some());
}
