//! A payload that custom allocation returns is kept in the Secret and nowhere else.

use std::time::{Duration, Instant};

use dps_simulator::{AllocationPolicy, Webhook, WebhookAnswer};
use serde_json::{Value, json};

use super::SECRET;
use crate::world::objects::data;
use crate::world::{HUBS, INTEGRATION, Kind, POLL, Setup, World};

/// The same, of a device whose allocation returns a payload. The operator has forgotten that payload:
/// it is in the Secret only.
async fn settled_with_payload(integration: Value, devices: usize) -> World {
    let mut setup = Setup::default();
    let group = &mut setup.simulator.id_scopes[0].enrollment_groups[0];
    let payload = json!({"topic": "eu"}).as_object().cloned();
    let otherwise = Some(WebhookAnswer { hub: HUBS[0].to_owned(), payload });
    group.allocation_policy = AllocationPolicy::Custom;
    group.webhook = Some(Webhook { field: "site".to_owned(), rules: Vec::new(), otherwise });
    let mut world = World::with(setup).await;
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
async fn a_returned_payload_that_was_lost_with_the_secret_is_fetched_by_registering() {
    let world = settled_with_payload(json!({}), 1).await;
    world.delete(Kind::Secret, SECRET).await;

    let secret = world.wait(Kind::Secret, SECRET, "whole", |s| data(s).contains_key("returnedPayload")).await;

    assert_eq!(topic(&data(&secret)["returnedPayload"]), "eu");
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_payload_moves_to_its_new_key_without_registering() {
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
    let deadline = Instant::now() + world.patience;
    loop {
        let secrets = world.generated_secrets().await;
        let labelled = secrets.iter().filter(|secret| secret["metadata"]["labels"]["line"] == "nord");
        if labelled.count() >= count {
            return Instant::now();
        }
        if Instant::now() >= deadline {
            world.give_up(&format!("{count} labelled Secrets"), &json!(secrets.len()));
        }
        tokio::time::sleep(POLL).await;
    }
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
