//! How many devices an integration has, in which state and on which hub.

use serde_json::{Value, json};

use crate::world::{INTEGRATION, SCOPE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_counts_its_devices_by_state_and_by_hub() {
    let world = World::start().await;
    world.dps.set_device_enabled(SCOPE, "broken", false).unwrap();
    world.devices("truck", 6).await;
    world.device("broken").await;
    world.device_with("parked", json!({"suspend": true})).await;
    for number in 1..=6 {
        world.wait_ready(&format!("truck-{number}")).await;
    }
    world.wait_reason("broken", "Disabled").await;

    let complete = |devices: &Value| {
        *devices == json!({"total": 8, "ready": 6, "pending": 0, "failed": 1, "suspended": 1, "assigned": 6})
    };
    let integration = world.wait_counters(INTEGRATION, complete).await;

    let hubs = integration["status"]["hubs"].as_array().unwrap();
    assert_eq!(hubs.iter().map(|hub| hub["devices"].as_u64().unwrap()).sum::<u64>(), 6);
    for hub in hubs {
        let selector = format!("status.assignedHub={}", hub["hostname"].as_str().unwrap());
        let arguments = ["get", "pdev", "-n", &world.namespace, "-o", "name", "--field-selector", &selector];
        let listed = world.control_plane().kubectl_ok(&arguments).unwrap();
        assert_eq!(listed.lines().count() as u64, hub["devices"].as_u64().unwrap());
    }
    assert_eq!(integration["status"]["failures"], json!([{"reason": "Disabled", "devices": 1}]));
    assert_eq!(integration["status"]["otherHubs"], 0);
    assert_eq!(integration["status"]["acceptedIdScope"], SCOPE);
    assert_eq!(integration["status"]["credentials"]["working"], "Primary");
}
