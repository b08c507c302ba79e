//! An integration of somebody else that names the same id scope: it costs its own devices, not others.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, LedgerEntry};
use serde_json::json;

use super::{SCOPE, World, condition};

const WRONG: &str = "c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI=";

impl World {
    /// A second integration in the id scope of the first, whose key DPS does not know.
    fn declare_stranger(&mut self, change: serde_json::Value) {
        let mut spec = json!({
            "idScope": SCOPE, "hostname": format!("localhost:{}", self.dps.address().port()),
            "caBundleRef": {"name": "ca", "key": "ca.crt"},
            "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "other-group", "key": "primaryKey"}}},
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.api.apply("dpsintegrations", "stranger", json!({"spec": spec}));
        self.deliver();
    }

    fn show_strangers_key(&mut self, key: &str) {
        self.show_secret("other-group", &[("primaryKey", key)]);
    }

    pub(super) fn calls_of(&self, device: &str) -> Vec<LedgerEntry> {
        let ledger = self.dps.control().ledger();
        ledger.into_iter().filter(|entry| entry.registration_id.as_deref() == Some(device)).collect()
    }
}

#[tokio::test]
async fn a_strangers_429_stops_the_stranger_and_the_others_are_registered() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.dps.control().inject(Fault::device("stranger-1", FaultAction::throttled("86400"))).unwrap();
    world.declare_stranger(json!({}));
    world.show_strangers_key(WRONG);
    world.declare("stranger-1", json!({"integrationRef": {"name": "stranger"}}));
    world.until("the stranger's 429", |world| world.calls_of("stranger-1").len() == 1).await;
    world.until_idle(0).await;

    world.declare("truck-2", json!({}));
    world.until_ready("truck-2").await;

    assert!(world.integration()["throttledUntil"].is_null());
    let stranger = world.api.get("dpsintegrations", "stranger").unwrap()["status"].clone();
    assert_eq!(condition(&stranger, "Ready")["reason"], "Throttled");
    assert!(stranger["throttledUntil"].is_string());
    // The longest that is waited for is an hour.
    world.pass(Duration::from_secs(59 * 60));
    world.until_idle(0).await;
    assert_eq!(world.calls_of("stranger-1").len(), 1);
}

#[tokio::test]
async fn a_stranger_that_edits_its_key_twenty_times_a_second_makes_six_calls_a_minute() {
    let mut world = World::start(&[]).await;
    world.declare_stranger(json!({}));
    for number in 0..40 {
        world.declare(&format!("stranger-{number}"), json!({"integrationRef": {"name": "stranger"}}));
    }
    for edit in 0..200_u32 {
        let key = format!("c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXItc3Ry{edit:04}");
        world.show_strangers_key(&key);
        world.declare_stranger(json!({"registrationIdPrefixes": [format!("stranger-"), format!("x{edit}")]}));
        world.until_idle(0).await;
        world.pass(Duration::from_millis(50));
    }

    // Three at once, and one after ten seconds.
    let calls = world.dps.control().ledger_len();
    assert!((3..=4).contains(&calls), "{calls} calls in ten seconds");

    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
}

/// All that its status would say if DPS had accepted its key and then asked the id scope to wait.
#[tokio::test]
async fn what_a_strangers_status_says_of_dps_pauses_nobody_and_wins_it_no_more_calls() {
    for restart in [false, true] {
        let mut world = World::start(&[]).await;
        world.declare("truck-1", json!({}));
        world.until_ready("truck-1").await;
        world
            .until("the accepted key", |world| world.integration()["credentials"]["primary"].is_object())
            .await;
        let mut status = world.integration();
        let pause = world.now.wall.checked_add(Duration::from_secs(50 * 60)).unwrap();
        status["throttledUntil"] = json!(jiff::Timestamp::from_second(pause.as_second()).unwrap());
        let spec = world.api.get("dpsintegrations", "factory").unwrap()["spec"].clone();
        world.api.apply("dpsintegrations", "stranger", json!({"spec": spec, "status": status}));
        if restart {
            world.restart();
        }
        world.deliver();
        world.until_idle(0).await;

        world.declare("truck-2", json!({}));
        world.until_ready("truck-2").await;

        assert!(world.integration()["throttledUntil"].is_null(), "{restart}");
        for number in 0..20 {
            world.declare(&format!("stranger-{number}"), json!({"integrationRef": {"name": "stranger"}}));
        }
        world.until_idle(0).await;
        let waiting = (0..20).filter(|number| world.calls_of(&format!("stranger-{number}")).is_empty());
        assert_eq!(waiting.count(), 20, "it waits itself, {restart}");
    }
}
