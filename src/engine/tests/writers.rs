//! Somebody else writes what we write.

use std::time::Duration;

use serde_json::{Value, json};

use super::{World, condition};

const SECOND: Duration = Duration::from_secs(1);

/// What an operator says that does not see the integration.
fn not_allowed(mut status: Value) -> Value {
    for condition in status["conditions"].as_array_mut().unwrap() {
        if condition["type"] != "SecretReady" {
            condition["status"] = json!("False");
            condition["reason"] = json!("ReferenceNotAllowed");
        }
    }
    status
}

/// Somebody else writes over the status of the device whenever it is not what they want it to be, for
/// so many seconds. Returns when we wrote it.
async fn fight(world: &mut World, device: &str, theirs: impl Fn(Value) -> Value, seconds: u64) -> Vec<u64> {
    let mut written = Vec::new();
    for second in 0..seconds {
        let status = world.status(device);
        let wanted = theirs(status.clone());
        if status != wanted {
            world.api.apply("provisioneddevices", device, json!({"status": wanted}));
            world.deliver();
            written.push(second);
        }
        world.until_idle(0).await;
        world.pass(SECOND);
    }
    // The first time it was what we had written before.
    written.remove(0);
    written
}

#[tokio::test]
async fn a_device_whose_status_somebody_else_keeps_changing_is_written_after_growing_waits() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;

    let written = fight(&mut world, "truck-1", not_allowed, 100).await;

    assert!(written.len() <= 7 && written[0] <= 3, "{written:?}");
    let gaps: Vec<u64> = written.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted() && *gaps.last().unwrap() >= 16, "{written:?}");
    assert_eq!(world.engine.active.contested_objects().statuses, 1);
    let said = |name: &String| world.api.get("events", name).unwrap()["reason"] == "StatusContested";
    assert_eq!(world.api.names("events").iter().filter(|name| said(name)).count(), 1);
    assert_eq!(world.registers(), 1);
    // The other one has stopped.
    world.pass(SECOND * 300);
    world.until_ready("truck-1").await;
    world.pass(SECOND * 1200);
    world.engine.registry.recount(world.now.mono);
    world.pass(SECOND * 10);
    world.until_idle(0).await;
    assert_eq!(world.engine.active.contested_objects().statuses, 0);
}

#[tokio::test]
async fn another_word_in_a_status_is_a_change_like_any_other() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({"integrationRef": {"name": "other"}}));
    world.until_idle(0).await;
    world.pass(SECOND * 31);
    world.until_reason("truck-1", "IntegrationNotFound").await;
    let other_words = |mut status: Value| {
        status["conditions"][0]["message"] = json!("Mine.");
        status
    };

    let written = fight(&mut world, "truck-1", other_words, 100).await;

    assert!((3..=7).contains(&written.len()), "{written:?}");
}

#[tokio::test]
async fn what_a_person_asks_for_is_done_at_once_whoever_else_writes() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    fight(&mut world, "truck-1", not_allowed, 40).await;
    world.api.apply("provisioneddevices", "truck-1", json!({"status": not_allowed(world.status("truck-1"))}));
    world.deliver();
    world.until_idle(0).await;
    assert_eq!(world.reason("truck-1"), "ReferenceNotAllowed");

    let token = json!({"metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": "1"}}});
    world.api.apply("provisioneddevices", "truck-1", token);
    world.deliver();

    world.until("the token", |world| world.status("truck-1")["lastHandledReprovisionToken"] == "1").await;
    assert_eq!((world.reason("truck-1").as_str(), world.registers()), ("Provisioned", 2));
}

#[tokio::test]
async fn a_status_that_another_operator_writes_as_we_would_is_left_alone() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    // The integration's counters.
    world.pass(SECOND * 11);
    world.until_idle(0).await;
    let before = world.writes();
    for number in 0..20 {
        let time = format!("2026-11-27T05:00:{number:02}Z");
        world.api.apply("provisioneddevices", "truck-1", json!({"status": {"lastRegistrationTime": time}}));
        world.deliver();
        world.until_idle(0).await;
        world.pass(SECOND);
    }
    assert_eq!(world.writes(), before);

    world.show_keys(super::OTHER_KEY, super::KEY);
    world.until("the other key", |world| world.registers() == 2).await;
    world.until_ready("truck-1").await;

    assert_eq!(world.engine.active.contested_objects().statuses, 0);
    assert_eq!(condition(&world.status("truck-1"), "Ready")["status"], "True");
}
