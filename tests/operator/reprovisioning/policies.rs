//! When a device registers: at its creation, periodically, or never again.

use std::time::Duration;

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use crate::world::objects::{is_observed, is_ready};
use crate::world::{INTEGRATION, Kind, SCOPE, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_looked_up_first_registers_only_if_dps_does_not_know_it() {
    let world = World::start().await;
    world.device("truck-1").await;
    let hub = world.wait_ready("truck-1").await["status"]["assignedHub"].clone();
    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Secret, "truck-1-hub").await;
    let first = json!({"registration": {"onCreate": "LookupFirst"}});

    world.device_with("truck-1", first.clone()).await;
    world.device_with("truck-2", first).await;

    let adopted = world.wait_ready("truck-1").await;
    assert_eq!(adopted["status"]["assignedHub"], hub);
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
    world.wait_ready("truck-2").await;
    assert_eq!((world.registers_of("truck-1"), world.calls(OperationKind::Lookup).of("truck-1")), (1, 1));
    assert_eq!((world.registers_of("truck-2"), world.calls(OperationKind::Lookup).of("truck-2")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_policy_never_registers_once_and_then_only_for_a_token() {
    let world = World::start().await;
    let never = |site: &str| json!({"reprovision": {"policy": "Never"}, "payload": {"site": site}});
    world.device_with("truck-1", never("a")).await;
    world.wait_ready("truck-1").await;

    world.patch(Kind::Device, "truck-1", json!({"spec": never("b")})).await;

    let device = world.wait(Kind::Device, "truck-1", "observed", is_observed).await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(ready.is_true() && ready.message.contains("policy is Never"), "{}", ready.message);
    assert_eq!(world.registers_of("truck-1"), 1);

    world.request_registration(Kind::Device, "truck-1", "now").await;
    let applied = |device: &Value| {
        !condition(device, "Ready").is_some_and(|ready| ready.message.contains("policy is Never"))
    };
    world.wait(Kind::Device, "truck-1", "applied", applied).await;
    assert_eq!(world.registers_of("truck-1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_policy_periodic_registers_again_when_its_interval_is_over() {
    const DEVICES: usize = 400;
    let mut world = World::empty().await;
    // One in nine seconds falls due: the shortest period is an hour.
    world.patience = Duration::from_secs(180);
    let periodic = json!({"reprovision": {"policy": "Periodic", "interval": "1h"}});
    world.integration_with(INTEGRATION, json!({"deviceDefaults": periodic})).await;
    world.devices("truck", DEVICES).await;
    let before = world.wait_all_ready(DEVICES).await;
    let mark = world.mark().await;

    let again = || world.ids_since(mark, OperationKind::Register).into_iter().next();
    world.wait_ledger("a second registration", |_| again().is_some()).await;

    let name = again().unwrap();
    let time = |device: &Value| device["status"]["lastRegistrationTime"].clone();
    let first = time(before.iter().find(|device| device["metadata"]["name"] == *name).unwrap());
    world.wait(Kind::Device, &name, "registered later", |d| is_ready(d) && time(d) != first).await;
    let secret = world.secret(&format!("{name}-hub")).await;
    assert!(world.dps.accepts_device_key(SCOPE, &name, &secret["sharedAccessKey"]));
}
