//! A fleet that is declared at once waits in the queue.

use serde_json::json;

use crate::world::objects::data;
use crate::world::{INTEGRATION, Kind, SCOPE, World};

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
    assert_eq!(world.gets_since(mark).await, 0);
    let writes = world.writes_since(mark).await;
    assert_eq!(writes.get("create secrets"), writes.get("update provisioneddevices/status"), "{writes:?}");
    assert_eq!(world.registers(), DEVICES);
    assert_eq!(world.get(Kind::Device, &last).await["status"]["observedGeneration"], 2);
    let secret = data(&world.get(Kind::Secret, &format!("{last}-hub")).await);
    assert!(world.dps.accepts_device_key(SCOPE, &last, &secret["sharedAccessKey"]));
}
