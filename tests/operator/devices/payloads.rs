//! What a device sends to DPS with its registration.

use dps_simulator::{Webhook, WebhookRule};
use serde_json::{Value, json};

use crate::world::{HUBS, INTEGRATION, Kind, SCOPE, Setup, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_reaches_custom_allocation_and_the_returned_payload_is_in_the_secret() {
    let answer = json!({"topic": "warsaw/eu", "interval": 30});
    let rule =
        WebhookRule { value: json!("warsaw"), hub: HUBS[1].to_owned(), payload: answer.as_object().cloned() };
    let webhook = Webhook { field: "site".to_owned(), rules: vec![rule], otherwise: None };
    let world = World::with(Setup::custom_allocation(webhook)).await;
    world.integration(INTEGRATION).await;

    world.device_with("truck-1", json!({"payload": {"site": "warsaw", "line": 3}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["assignedHub"], HUBS[1]);
    let returned = &world.secret("truck-1-hub").await["returnedPayload"];
    assert_eq!(serde_json::from_str::<Value>(returned).unwrap(), answer);
    assert!(device["status"]["returnedPayloadHash"].is_string());
    assert!(!device["status"].to_string().contains("warsaw"), "the payload itself is not in the status");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_too_large_for_dps_is_refused_without_a_call() {
    let world = World::start().await;
    let of_size = |size: usize| -> Value { json!({"payload": {"text": "x".repeat(size)}}) };

    world.device_with("large", of_size(66_000)).await;
    world.device_with("fits", of_size(65_000)).await;

    world.wait_ready("fits").await;
    let device = world.wait_reason("large", "InvalidConfiguration").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("64 KiB"));
    assert_eq!(world.devices_asked(), ["fits"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_payload_registers_the_device_again_and_changed_labels_do_not() {
    let world = World::start().await;
    world.device_with("truck-1", json!({"payload": {"site": "warsaw", "line": 1}})).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers(), 1);

    let moved = json!({"spec": {"payload": {"site": "gdansk"}}});
    world.patch(Kind::Device, "truck-1", moved).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers(), 2);

    let labelled = json!({"spec": {"secret": {"labels": {"tier": "edge"}}}});
    world.patch(Kind::Device, "truck-1", labelled).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.get(Kind::Secret, "truck-1-hub").await["metadata"]["labels"]["tier"], "edge");
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_at_a_second_registration_is_written_to_secret_and_status() {
    let mut setup = Setup::default();
    setup.simulator.id_scopes[0].hubs = HUBS[..1].iter().map(|hub| (*hub).to_owned()).collect();
    let world = World::with(setup).await;
    world.integration(INTEGRATION).await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.dps.set_linked_hubs(SCOPE, &HUBS[1..]).unwrap();

    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "gdansk"}}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["assignedHub"], HUBS[1]);
    assert_eq!(device["status"]["previousHub"], HUBS[0]);
    let values = world.secret("truck-1-hub").await;
    assert_eq!(values["iotHubHostname"], HUBS[1]);
    assert!(values["connectionString"].starts_with(&format!("HostName={};", HUBS[1])));
}
