//! A new group key is rolled out when and as fast as the integration's `rollout` says.

use std::time::{Duration, Instant};

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use super::wait_all_moved;
use crate::world::keys::NEW_KEY;
use crate::world::objects::data;
use crate::world::{INTEGRATION, Kind, SCOPE, World, condition};

/// A world of provisioned devices whose integration has this `rollout`.
async fn provisioned(rollout: Value, devices: usize) -> World {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"rollout": rollout})).await;
    world.devices("truck", devices).await;
    world.wait_all_ready(devices).await;
    world
}

/// Changes the group's key and waits until the operator has seen it.
async fn rotate(world: &World) {
    let fingerprint = |i: &Value| i["status"]["credentials"]["primary"]["fingerprint"].clone();
    let accepted = |i: &Value| fingerprint(i).is_string();
    let old = fingerprint(&world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await);
    world.rotate_group_key(NEW_KEY).await;
    // None at first, until DPS has accepted the new one.
    world.wait(Kind::Integration, INTEGRATION, "of the new key", |i| fingerprint(i) != old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_rollout_holds_provisioned_devices_and_not_new_ones() {
    const DEVICES: usize = 5;
    let world = provisioned(json!({"paused": true}), DEVICES).await;
    let secrets = world.secret_revisions().await;
    let before = world.mark().await;

    rotate(&world).await;
    for new in ["new-1", "new-2"] {
        world.device(new).await;
        world.wait_ready(new).await;
    }

    assert_eq!(world.ids_since(before, OperationKind::Register), ["new-1", "new-2"]);
    for number in 1..=DEVICES {
        let device = world.get(Kind::Device, &format!("truck-{number}")).await;
        assert!(condition(&device, "Ready").unwrap().is_true());
    }
    let now = world.secret_revisions().await;
    assert!(secrets.iter().all(|secret| now.contains(secret)), "the old Secrets are as they were");

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rollout": null}})).await;

    for number in 1..=DEVICES {
        let id = format!("truck-{number}");
        let accepted = |s: &Value| world.dps.accepts_device_key(SCOPE, &id, &data(s)["sharedAccessKey"]);
        world.wait(Kind::Secret, &format!("{id}-hub"), "of the new key", accepted).await;
    }
    assert_eq!(world.registers(), DEVICES + 2 + DEVICES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_rollout_moves_few_devices_at_a_time_and_lets_new_ones_through() {
    const DEVICES: usize = 8;
    let world = provisioned(json!({"maxPerMinute": 6}), DEVICES).await;
    let (before, started) = (world.mark().await, Instant::now());

    rotate(&world).await;
    world.wait_ledger("the first to move", |_| world.registers() > DEVICES).await;
    world.device("new").await;
    world.wait_ready("new").await;
    world.wait_ledger("the second to move", |_| world.registers() >= DEVICES + 3).await;

    let took = started.elapsed();
    assert!(took >= Duration::from_secs(10), "{took:?}");
    let registered = world.ids_since(before, OperationKind::Register);
    assert_eq!(registered.len(), 3, "{registered:?}");
    assert_eq!(registered[1], "new", "it does not wait for the others: {registered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotation_under_a_paused_rollout_shows_how_many_devices_wait() {
    const FLEET: usize = 3;
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"rollout": {"paused": true}})).await;
    world.devices("truck", FLEET).await;
    world.wait_all_ready(FLEET).await;
    // From here on no device has anything to say.
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == FLEET).await;

    world.rotate_group_key(NEW_KEY).await;

    let waits = |integration: &Value| integration["status"]["keyRotation"]["pending"] == FLEET;
    world.wait(Kind::Integration, INTEGRATION, "about to move all", waits).await;
    assert_eq!(world.registers(), FLEET);
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rollout": null}})).await;
    wait_all_moved(&world, FLEET, NEW_KEY).await;
}
