//! Keys that change under their devices.

use serde_json::{Value, json};

use super::{OWN, per_device};
use crate::world::keys::{OWN_KEYS, made_from};
use crate::world::objects::is_ready;
use crate::world::{Kind, SCOPE, World, condition};

async fn wait_key(world: &World, key: &str) {
    let is_of = |secret: &Value| made_from(secret) == key;
    world.wait(Kind::Secret, "edge-7-hub", "made from the key", is_of).await;
    world.wait_ready("edge-7").await;
    assert!(world.hub_accepts("edge-7", "edge-7-hub").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changes_in_dps_and_then_here_is_registered_at_once() {
    let world = per_device().await;
    world.enrolled("edge-7", OWN).await;
    world.wait_ready("edge-7").await;
    // Touched, and nothing else.
    let touched = json!({"metadata": {"labels": {"touched": "yes"}}});
    world.patch(Kind::Secret, "edge-7-dps", touched).await;

    world.dps.set_device_keys(SCOPE, "edge-7", OWN_KEYS[2], OWN[1]).unwrap();
    world.change_own_keys("edge-7", [OWN_KEYS[2], OWN[1]]).await;

    wait_key(&world, OWN_KEYS[2]).await;
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_labelled_secret_is_watched_and_a_key_that_dps_refuses_changes_nothing() {
    let world = per_device().await;
    world.enrolled("edge-7", OWN).await;
    let label = json!({"metadata": {"labels": {"dps-operator.io/watch": "true"}}});
    world.patch(Kind::Secret, "edge-7-dps", label).await;
    world.wait_ready("edge-7").await;

    world.change_own_keys("edge-7", [OWN_KEYS[2], OWN[1]]).await;

    let device = world.wait_reason("edge-7", "Unauthorized").await;
    assert!(is_ready(&device));
    assert_eq!(condition(&device, "Registered").unwrap().status, "False");
    assert_eq!(made_from(&world.get(Kind::Secret, "edge-7-hub").await), OWN[0]);
    assert!(world.hub_accepts("edge-7", "edge-7-hub").await);
    world.change_own_keys("edge-7", OWN).await;
    world.wait_reason("edge-7", "Provisioned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slot_is_changed_and_the_source_is_deleted_without_harm() {
    let mut world = per_device().await;
    world.enrolled("edge-7", OWN).await;
    world.wait_ready("edge-7").await;
    let active = |slot: &str| json!({"spec": {"attestation": {"symmetricKey": {"active": slot}}}});
    world.patch(Kind::Device, "edge-7", active("Secondary")).await;
    wait_key(&world, OWN[1]).await;

    world.delete(Kind::Secret, "edge-7-dps").await;
    world.restart_operator().await;
    world.enrolled("edge-8", OWN).await;
    world.wait_ready("edge-8").await;
    assert!(is_ready(&world.get(Kind::Device, "edge-7").await));
    world.patch(Kind::Device, "edge-7", json!({"spec": {"payload": {"site": "gdansk"}}})).await;
    let device = world.wait_reason("edge-7", "KeySecretNotFound").await;
    assert!(is_ready(&device), "what it has is good still");
    world.own_keys("edge-7", OWN).await;
    world.wait_reason("edge-7", "Provisioned").await;
    assert_eq!(world.registers_of("edge-7"), 3);
}
