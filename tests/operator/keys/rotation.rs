//! A group's key changes under a fleet: while new devices come, twice, and over a crash.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dps_simulator::{LedgerEntry, OperationKind};
use serde_json::{Value, json};

use super::wait_all_moved;
use crate::world::history::History;
use crate::world::keys::{NEW_KEY, NEWEST_KEY, fingerprint, made_from};
use crate::world::objects::is_ready;
use crate::world::{GROUP, Kind, PATIENCE, PRIMARY_KEY, SCOPE, SECONDARY_KEY, World};

/// A world with devices `truck-1` to `truck-<devices>`, all of them provisioned.
async fn provisioned(devices: usize) -> World {
    let world = World::start().await;
    world.devices("truck", devices).await;
    world.wait_all_ready(devices).await;
    world
}

/// Fails if a Secret was ever a mixture on its way to this key.
async fn assert_always_whole(world: &World, secrets: &History, key: &str) {
    let secrets = secrets.so_far(world).await;
    let generated = secrets.iter().filter(|secret| secret["metadata"]["labels"].is_object());
    let keys: BTreeSet<&str> = generated.map(made_from).collect();
    assert!(keys.contains(PRIMARY_KEY) && keys.contains(key));
}

/// Fails if any stretch of time saw more calls than the limit allows, even one of a few seconds: two
/// may go at once, and what leaves evenly may arrive within the second that a permit is valid.
fn assert_even(calls: &[LedgerEntry], per_minute: u32) {
    for (number, first) in calls.iter().enumerate() {
        for seconds in [2, 5, 60] {
            let soon = |entry: &&LedgerEntry| entry.time.duration_since(first.time).as_secs() < seconds;
            let seen = calls[number..].iter().filter(soon).count();
            let most = i64::from(per_minute) * (seconds + 1) / 60 + 2;
            assert!(seen <= usize::try_from(most).unwrap(), "{seen} calls in {seconds} s from {first:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_devices_do_not_wait_for_a_key_rotation_and_every_secret_is_made_from_one_key() {
    const FLEET: usize = 60;
    const NEW: usize = 5;
    const PER_MINUTE: u32 = 240;
    let mut world = provisioned(FLEET).await;
    world.registrations_per_minute = PER_MINUTE;
    world.restart_operator().await;
    let (before, secrets) = (world.mark().await, world.history(Kind::Secret).await);

    world.rotate_group_key(NEW_KEY).await;
    world.wait_ledger("the rotation under way", |_| world.registers_since(before) >= FLEET / 6).await;
    let names = world.devices("new", NEW).await;

    let started = Instant::now();
    let (mut ready, mut moved) = (false, 0);
    while !ready && started.elapsed() < PATIENCE {
        let devices = world.list(Kind::Device).await;
        let is_new = |device: &&Value| names.iter().any(|name| device["metadata"]["name"] == *name);
        ready = devices.iter().filter(is_new).filter(|device| is_ready(device)).count() == NEW;
        moved = world.moved_secrets(NEW_KEY).await;
    }
    assert!(ready && moved < FLEET, "{moved} Secrets, and the new devices are ready: {ready}");
    wait_all_moved(&world, FLEET + NEW, NEW_KEY).await;
    assert_always_whole(&world, &secrets, NEW_KEY).await;
    let calls = world.calls_since(before, OperationKind::Register);
    assert_eq!((calls.devices(), calls.most()), (FLEET + NEW, 1), "{calls:?}");
    assert_eq!(world.calls_since(before, OperationKind::Lookup).total(), 0);
    let registers = |entry: &LedgerEntry| entry.operation == OperationKind::Register;
    let registers: Vec<_> = world.ledger_since(before).into_iter().filter(registers).collect();
    assert_even(&registers, PER_MINUTE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changes_twice_during_a_rotation_leaves_every_device_with_the_newest() {
    const FLEET: usize = 40;
    let world = provisioned(FLEET).await;
    let (before, secrets) = (world.mark().await, world.history(Kind::Secret).await);
    // DPS accepts both, so the first devices are registered with the first of them.
    world.dps.set_group_keys(SCOPE, GROUP, NEW_KEY, NEWEST_KEY).unwrap();
    world.dps.set_retry_after(Some(Duration::from_secs(1)));

    world.change_group_key("factory-key", NEW_KEY).await;
    world.wait_ledger("the rotation under way", |_| world.registers_since(before) >= FLEET / 4).await;
    world.change_group_key("factory-key", NEWEST_KEY).await;

    wait_all_moved(&world, FLEET, NEWEST_KEY).await;
    assert_always_whole(&world, &secrets, NEWEST_KEY).await;
    let calls = world.calls_since(before, OperationKind::Register);
    assert!(calls.most() <= 2, "{calls:?}");
    assert_eq!(calls.most(), 2, "no device was registered with both: {calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotation_continues_where_it_was_after_the_operator_is_killed() {
    const FLEET: usize = 40;
    let mut world = provisioned(FLEET).await;
    world.registrations_per_minute = 600;
    world.restart_operator().await;
    let (before, secrets) = (world.mark().await, world.history(Kind::Secret).await);
    world.dps.set_group_keys(SCOPE, GROUP, NEW_KEY, SECONDARY_KEY).unwrap();
    // A registered device waits so long for its first poll: some are in between at any moment.
    world.dps.set_retry_after(Some(Duration::from_secs(1)));

    world.change_group_key("factory-key", NEW_KEY).await;
    world.wait_ledger("half of it", |_| world.registers_since(before) >= FLEET / 2).await;
    world.kill_operator().await;
    let (begun, moved) = (world.registers_since(before), recorded(&world, NEW_KEY).await);
    assert!(!moved.is_empty() && moved.len() < begun && begun < FLEET, "{begun} begun, moved: {moved:?}");
    world.start_operator().await;

    wait_all_moved(&world, FLEET, NEW_KEY).await;
    assert_always_whole(&world, &secrets, NEW_KEY).await;
    let calls = world.calls_since(before, OperationKind::Register);
    assert!(calls.most() <= 2, "{calls:?}");
    assert!(
        moved.iter().all(|device| calls.of(device) == 1),
        "devices that had moved stay: {calls:?}, {moved:?}"
    );
}

/// Devices whose status says that they were registered with this key.
async fn recorded(world: &World, key: &str) -> Vec<String> {
    let devices = world.list(Kind::Device).await;
    let is_moved = |device: &&Value| device["status"]["credential"]["fingerprint"] == fingerprint(key);
    devices
        .iter()
        .filter(is_moved)
        .map(|device| device["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_key_reaches_every_device_and_no_secret_is_ever_half_changed() {
    const DEVICES: usize = 10;
    let world = World::start().await;
    world.devices("truck", DEVICES).await;
    let devices = world.wait_all_ready(DEVICES).await;
    let old = devices[0]["status"]["credential"]["fingerprint"].clone();

    let started = Instant::now();
    world.rotate_group_key(NEW_KEY).await;

    // Looked at again and again until all have changed: each is at every moment the old or the new, whole.
    let mut rotated = 0;
    while rotated < DEVICES {
        let secrets = world.generated_secrets().await;
        let keys: Vec<&str> = secrets.iter().map(made_from).collect();
        assert!(keys.iter().all(|key| [PRIMARY_KEY, NEW_KEY].contains(key)));
        rotated = keys.iter().filter(|key| **key == NEW_KEY).count();
        if started.elapsed() > PATIENCE {
            world.give_up(&format!("{rotated} of {DEVICES} Secrets changed"), &json!(devices));
        }
    }
    for device in world.wait_all_ready(DEVICES).await {
        let name = device["metadata"]["name"].as_str().unwrap();
        // The status follows its Secret.
        let says_so = |device: &Value| device["status"]["credential"]["fingerprint"] != old;
        world.wait(Kind::Device, name, "known to have the new key", says_so).await;
        assert!(world.hub_accepts(name, &format!("{name}-hub")).await);
    }
    assert_eq!(world.registers(), 2 * DEVICES);
}
