//! Settled devices are looked up now and then, and never registered for that.

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use crate::world::{HUBS, INTEGRATION, Kind, SCOPE, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_checks_write_nothing_until_they_find_devices_on_another_hub() {
    const DEVICES: usize = 150;
    let world = World::empty().await;
    let defaults = json!({"driftCheck": {"interval": "10m"}});
    world.integration_with(INTEGRATION, json!({"deviceDefaults": defaults})).await;
    let names = world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    let counted = |devices: &Value| devices["ready"] == DEVICES;
    world.wait_counters(INTEGRATION, counted).await;
    let mark = world.mark().await;

    // A quarter of them falls due within 150 s; one is enough.
    world.wait_ledger("a lookup", |_| world.calls_since(mark, OperationKind::Lookup).total() > 0).await;
    assert_eq!(world.writes_since(mark).await, [].into(), "a check that finds nothing writes nothing");
    assert_eq!(world.gets_since(mark).await, 0);

    let third = "hub-c.azure-devices.net";
    world.dps.set_linked_hubs(SCOPE, &[HUBS[0], HUBS[1], third]).unwrap();
    for name in &names {
        world.dps.move_device(SCOPE, name, third).unwrap();
    }
    let followed =
        |status: &Value| status["status"]["hubs"].as_array().is_some_and(|hubs| hubs.len() > HUBS.len());
    world.wait(Kind::Integration, INTEGRATION, "devices on a third hub", followed).await;
    assert_eq!(world.registers_since(mark), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_drift_checks_than_the_rate_limit_allows_are_reported_beside_ready() {
    let world = World::empty().await;
    let defaults = json!({"driftCheck": {"interval": "10m"}});
    world.integration_with(INTEGRATION, json!({"deviceDefaults": defaults})).await;
    world.devices("truck", 30).await;
    world.wait_all_ready(30).await;

    let limit = json!({"rateLimit": {"registrationsPerMinute": 1}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": limit})).await;

    let reported = |object: &Value| condition(object, "QuotaInsufficient").is_some();
    let integration = world.wait(Kind::Integration, INTEGRATION, "reported", reported).await;
    assert!(condition(&integration, "Ready").unwrap().is_true());
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rateLimit": null}})).await;
    let cleared = |object: &Value| condition(object, "QuotaInsufficient").is_none();
    world.wait(Kind::Integration, INTEGRATION, "no longer reported", cleared).await;
}
