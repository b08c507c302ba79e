//! The operator ends, in good order or not, and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use dps_simulator::Outcome;
use serde_json::{Value, json};

use crate::world::objects::data;
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SCOPE, World, condition};

const FLEET: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_settled_devices_makes_no_call_and_no_write() {
    let mut world = World::start().await;
    world.devices("truck", FLEET).await;
    world.wait_all_ready(FLEET).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == FLEET).await;

    world.assert_quiet_restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_device_keeps_its_back_off_after_a_restart() {
    let mut world = World::start().await;
    world.dps.set_device_enabled(SCOPE, "truck-1", false).unwrap();
    world.device("truck-1").await;
    world.wait_reason("truck-1", "Disabled").await;
    assert_eq!(world.registers(), 1);
    let before = world.mark().await;

    world.restart_operator().await;
    world.device("truck-2").await;

    world.wait_ready("truck-2").await;
    assert_eq!(world.devices_asked_since(before), ["truck-2"]);
    assert_eq!(condition(&world.get(Kind::Device, "truck-1").await, "Stalled").unwrap().reason, "Disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_of_registrations_lead_to_the_same_result() {
    // Each makes three requests, so that there are enough for all kills.
    const DEVICES: usize = 60;
    /// After so many further requests to DPS.
    const KILLS: [u64; 5] = [1, 2, 9, 25, 60];
    let mut world = World::start().await;
    world.dps.set_think_time(Duration::from_millis(500));
    world.devices("truck", DEVICES).await;

    for requests in KILLS {
        let start = world.dps.totals().register + world.dps.totals().poll;
        world
            .wait_ledger(&format!("{requests} more requests"), |_| {
                let totals = world.dps.totals();
                totals.register + totals.poll >= start + requests
            })
            .await;
        world.kill_operator().await;
        world.start_operator().await;
    }

    world.wait_all_ready(DEVICES).await;
    assert_eq!(world.assert_secrets_accepted().await, DEVICES);
    let mut started: BTreeMap<String, usize> = BTreeMap::new();
    for entry in world.ledger().into_iter().filter(|entry| entry.outcome == Outcome::Started) {
        *started.entry(entry.registration_id.unwrap()).or_default() += 1;
    }
    // Each start of the operator begins a device's registration once at most; a 409 begins none.
    assert!(started.values().all(|count| *count <= 1 + KILLS.len()), "{started:?}");
    world.assert_only_device_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_writing_secret_and_status_costs_no_call_to_dps() {
    let mut world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.kill_operator().await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    world.forget_status("truck-1").await;
    let before = world.mark().await;

    world.start_operator().await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(world.ledger_since(before), []);
    assert!(device["status"]["assignedHub"].is_string());
    assert_eq!(world.get(Kind::Secret, "truck-1-hub").await["data"], secret["data"]);
    assert_eq!(world.writes_since(before).await.get("create secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_the_operator_was_stopped_is_done_after_its_start() {
    let mut world = World::start().await;
    world.devices("truck", 4).await;
    world.wait_all_ready(4).await;
    assert!(world.stop_operator().await.success());
    world.delete(Kind::Secret, "truck-1-hub").await;
    world.patch(Kind::Secret, "truck-2-hub", json!({"data": {"deviceId": "bWUK"}})).await;
    world.delete(Kind::Device, "truck-3").await;
    world.device("truck-5").await;
    let before = world.mark().await;

    world.start_operator().await;

    world.wait_ready("truck-5").await;
    world.wait(Kind::Secret, "truck-1-hub", "restored", |_| true).await;
    world.wait(Kind::Secret, "truck-2-hub", "restored", |s| data(s)["deviceId"] == "truck-2").await;
    world.wait_gone(Kind::Secret, "truck-3-hub").await;
    assert_eq!(world.devices_asked_since(before), ["truck-5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_deleted_while_operator_and_key_were_gone_is_restored_when_the_key_is_back() {
    let mut world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let written = world.secret("truck-1-hub").await;
    world.stop_operator().await;
    world.delete(Kind::Secret, "truck-1-hub").await;
    world.delete(Kind::Secret, "factory-key").await;
    let before = world.mark().await;

    world.start_operator().await;

    let device = world.wait_reason("truck-1", "CredentialUnavailable").await;
    assert!(!condition(&device, "Ready").unwrap().is_true());
    assert_eq!(condition(&device, "SecretReady").unwrap().reason, "CredentialUnavailable");
    assert!(world.find(Kind::Secret, "truck-1-hub").await.is_none());

    world.group_key("factory-key", PRIMARY_KEY).await;

    world.wait_ready("truck-1").await;
    assert_eq!(world.secret("truck-1-hub").await, written);
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_that_another_version_wrote_cause_no_call_and_no_write() {
    let mut world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    world.stop_operator().await;
    let other = |hash: &Value| hash.as_str().unwrap().replacen("v1:", "v9:", 1);
    let status = json!({"status": {
        "registeredHash": other(&device["status"]["registeredHash"]),
        "secret": {"renderedHash": other(&device["status"]["secret"]["renderedHash"])},
    }});
    world.patch_status("truck-1", status).await;
    let mark = world.mark().await;

    world.start_operator().await;
    world.device("fence").await;
    world.wait_ready("fence").await;

    assert_eq!(world.devices_asked_since(mark), ["fence"]);
    let writes = world.writes_since(mark).await;
    assert_eq!(writes.get("patch secrets"), None);
    assert_eq!(writes.get("update provisioneddevices/status"), Some(&1), "the fence's");
}
