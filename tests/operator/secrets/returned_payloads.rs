//! A payload that custom allocation returns is kept in the Secret and nowhere else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SECRET;
use crate::world::objects::data;
use crate::world::waiting::until;
use crate::world::{INTEGRATION, Kind, POLL, Setup, World};

/// The same, of a device whose allocation returns a payload. The operator has forgotten that payload:
/// it is in the Secret only.
async fn settled_with_payload(integration: Value, devices: usize) -> World {
    let mut world = World::with(Setup::returned_payload(&json!({"topic": "eu"}))).await;
    world.integration_with(INTEGRATION, integration).await;
    world.devices("truck", devices).await;
    world.wait_all_ready(devices).await;
    world.restart_operator().await;
    world
}

fn topic(payload: &str) -> Value {
    serde_json::from_str::<Value>(payload).unwrap()["topic"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_payload_that_was_deleted_with_the_secret_is_fetched_by_registering_again() {
    let world = settled_with_payload(json!({}), 1).await;
    world.delete(Kind::Secret, SECRET).await;

    let secret = world.wait(Kind::Secret, SECRET, "whole", |s| data(s).contains_key("returnedPayload")).await;

    assert_eq!(topic(&data(&secret)["returnedPayload"]), "eu");
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_payload_is_moved_to_its_new_data_key_without_registering() {
    let world = settled_with_payload(json!({}), 1).await;
    let before = world.mark().await;

    for (old, new) in [("returnedPayload", "allocation"), ("allocation", "topics")] {
        let keys = json!({"spec": {"secret": {"keys": {"returnedPayload": new}}}});
        world.patch(Kind::Device, "truck-1", keys).await;

        world.wait_ready("truck-1").await;
        let values = world.secret(SECRET).await;
        assert_eq!(topic(&values[new]), "eu");
        assert!(!values.contains_key(old), "{:?}", values.keys());
    }
    assert_eq!(world.ledger_since(before), []);
}

/// Waits until so many Secrets carry the new label; returns when it was seen.
async fn wait_labelled(world: &World, count: usize) -> Instant {
    let labelled = until(world.patience, POLL, async || {
        let secrets = world.generated_secrets().await;
        let labelled = secrets.iter().filter(|secret| secret["metadata"]["labels"]["line"] == "nord");
        if labelled.count() >= count { Ok(Instant::now()) } else { Err(secrets.len()) }
    });
    let never = format!("never labelled: {count} Secrets");
    labelled.await.unwrap_or_else(|present| world.give_up(&never, &json!(present)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_defaults_reach_devices_with_returned_payloads_at_the_pace_of_the_rollout() {
    let world = settled_with_payload(json!({"rollout": {"maxPerMinute": 6}}), 4).await;
    let before = world.mark().await;

    let defaults = json!({"deviceDefaults": {"secret": {"labels": {"line": "nord"}}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": defaults})).await;
    let first = wait_labelled(&world, 1).await;
    let took = wait_labelled(&world, 2).await - first;

    assert!(took >= Duration::from_secs(8), "{took:?}");
    assert_eq!(world.ledger_since(before), []);
    let secrets = world.generated_secrets().await;
    assert!(secrets.iter().all(|secret| topic(&data(secret)["returnedPayload"]) == "eu"));
}
