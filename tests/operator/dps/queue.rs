//! A fleet that is declared at once waits in the queue.

use std::time::Duration;

use serde_json::json;

use crate::world::objects::{data, is_pending};
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, SCOPE, Setup, World};

/// More than are kept in memory as they are.
const DEVICES: usize = 800;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_wait_in_a_long_queue_are_registered_with_their_latest_spec_and_not_read_again() {
    let world = World::empty().await;
    let slow = json!({"rateLimit": {"registrationsPerMinute": 1}});
    world.integration_with(INTEGRATION, slow).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.devices("truck", DEVICES).await;
    let last = format!("truck-{DEVICES}");
    world.wait_counters(INTEGRATION, |devices| devices["total"] == DEVICES + 1).await;
    let mark = world.mark().await;

    // One changes and one goes while they wait.
    world.patch(Kind::Device, &last, json!({"spec": {"payload": {"site": "b"}}})).await;
    world.delete(Kind::Device, "truck-700").await;
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rateLimit": null}})).await;

    world.wait_all_ready(DEVICES).await;
    // Of the namespace, once, since something of it is gone.
    assert_eq!(world.gets_since(mark).await, 1);
    let writes = world.writes_since(mark).await;
    assert_eq!(writes.get("create secrets"), writes.get("update provisioneddevices/status"), "{writes:?}");
    assert_eq!(world.registers(), DEVICES);
    assert_eq!(world.get(Kind::Device, &last).await["status"]["observedGeneration"], 2);
    let secret = data(&world.get(Kind::Secret, &format!("{last}-hub")).await);
    assert!(world.dps.accepts_device_key(SCOPE, &last, &secret["sharedAccessKey"]));
}

/// That it is reported after five minutes is tested in `src/engine/tests`, with times that are made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_in_line_and_operations_without_an_end_are_counted_and_not_reported_at_once() {
    let mut world = World::without_operator(Setup::default()).await;
    world.registrations_per_minute = 1;
    world.dps.set_think_time(Duration::from_secs(3600));
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ledger("the first registration", |_| world.registers() == 1).await;
    let others = world.devices("other", 3).await;

    let replica = world.first_replica();
    let in_line = r#"dps_operator_queue_length{lane="new"}"#;
    let waits = until_true(world.patience, POLL, async || replica.metric(in_line).await == Some(3.0)).await;
    assert!(waits, "three devices wait for a permit");
    world.wait_counters(INTEGRATION, |devices| devices["pending"] == 4).await;

    let in_flight = replica.metric("dps_operator_dps_operations_in_flight").await;
    assert_eq!(in_flight, Some(1.0));
    for device in ["first", &others[2]] {
        let device = world.get(Kind::Device, device).await;
        assert!(is_pending(&device), "{}", device["status"]);
    }
}
