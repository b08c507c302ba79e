//! What `kubectl describe` and `kubectl events` show: transitions, and not too many.

use serde_json::{Value, json};

use crate::world::waiting::until;
use crate::world::{HUBS, INTEGRATION, Kind, PATIENCE, POLL, SCOPE, World};

/// Events about one object.
fn about<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["regarding"]["name"] == name)
}

async fn wait_event(world: &World, object: &str, reason: &str) -> Value {
    let recorded = until(PATIENCE, POLL, async || {
        let events = world.list(Kind::Event).await;
        let found = about(&events, object).find(|event| event["reason"] == reason).cloned();
        found.ok_or_else(|| json!(events))
    });
    let missing = format!("no event {reason} about {object}");
    recorded.await.unwrap_or_else(|events| world.give_up(&missing, &events))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_assignment_and_later_changes_are_events() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let assigned = wait_event(&world, "truck-1", "HubAssigned").await;
    assert_eq!(assigned["type"], "Normal");
    let moved_to = HUBS.into_iter().find(|hub| device["status"]["assignedHub"] != *hub).unwrap();

    world.delete(Kind::Secret, "truck-1-hub").await;
    let restored = wait_event(&world, "truck-1", "SecretRestored").await;
    assert_eq!(
        (restored["type"].as_str(), &restored["regarding"]["uid"]),
        (Some("Normal"), &device["metadata"]["uid"])
    );
    let all = world.list(Kind::Event).await;
    assert_eq!(about(&all, "truck-1").count(), 2, "nothing else: {all:?}");

    world.dps.move_device(SCOPE, "truck-1", moved_to).unwrap();
    world.request_lookup(Kind::Device, "truck-1", "1").await;
    let moved = wait_event(&world, "truck-1", "HubChanged").await;
    assert!(moved["note"].as_str().unwrap().ends_with(&format!("to {moved_to}.")), "{moved}");

    world.request_registration(Kind::Device, "truck-1", "1").await;
    wait_event(&world, "truck-1", "Reprovisioned").await;
    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"name": "renamed"}}})).await;
    wait_event(&world, "truck-1", "SecretRenamed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_many_devices_makes_a_limited_number_of_events() {
    let world = World::start().await;
    let spec = json!({"payload": {"text": "x".repeat(66_000)}});
    for number in 0..40 {
        world.device_with(&format!("large-{number}"), spec.clone()).await;
    }
    for number in 0..40 {
        world.wait_reason(&format!("large-{number}"), "InvalidConfiguration").await;
    }

    wait_event(&world, INTEGRATION, "EventsHeldBack").await;
    let events = world.list(Kind::Event).await;
    let warnings = events.iter().filter(|event| event["reason"] == "InvalidConfiguration");
    let recorded = warnings.inspect(|event| assert_eq!(event["type"], "Warning")).count();
    assert_eq!(recorded, 30);
    assert_eq!(about(&events, INTEGRATION).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_an_event_of_the_integration() {
    let world = World::with_wrong_key().await;
    world.device("truck-1").await;

    let event = wait_event(&world, INTEGRATION, "Unauthorized").await;
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reportingController"], "dps-operator.io/dps-operator");
}
