//! DPS refuses what all devices of an integration share: a few of them find out, the others wait.

use std::collections::BTreeSet;
use std::time::Duration;

use dps_simulator::{Fault, FaultAction};
use serde_json::{Value, json};

use super::{KEY, OTHER_KEY, SCOPE, World};

const WRONG: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=";
const WRONG_TOO: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvb28=";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl World {
    async fn fleet(&mut self, devices: usize) {
        for number in 0..devices {
            self.declare(&format!("truck-{number}"), json!({}));
        }
        self.spend(SECOND * 5).await;
        for number in 0..devices {
            self.until_ready(&format!("truck-{number}")).await;
        }
    }

    /// Time goes on in small steps, as it does.
    async fn spend(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while self.now.mono < until {
            self.pass(SECOND);
            self.until_idle(0).await;
        }
    }

    fn secrets(&self) -> Vec<Value> {
        let names = self.api.names("secrets");
        names.iter().map(|name| self.api.get("secrets", name).unwrap()).collect()
    }

    /// The devices that called since the ledger was this long.
    fn callers_since(&self, ledger: usize) -> BTreeSet<String> {
        let ledger = self.dps.control().ledger().into_iter().skip(ledger);
        ledger.filter_map(|entry| entry.registration_id).collect()
    }
}

#[tokio::test]
async fn a_wrong_id_scope_is_the_integrations_trouble_with_the_first_answer() {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"idScope": "0neELSEWHERE"}));
    for number in 0..20 {
        world.declare(&format!("truck-{number}"), json!({}));
    }

    world.until("the trouble", |world| world.integration_reason() == "IdScopeNotFound").await;
    world.spend(MINUTE / 2).await;

    assert_eq!(world.dps.control().ledger_len(), 1);
    let status = world.integration();
    let ready = super::condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(ready.contains("spec.idScope") && ready.contains("Id scope not found"), "{ready}");
    assert_eq!(super::condition(&status, "Stalled")["reason"], "IdScopeNotFound");
    world.declare_integration(json!({"idScope": SCOPE}));
    world.spend(SECOND * 11).await;
    for number in 0..20 {
        world.pass(SECOND);
        world.until_ready(&format!("truck-{number}")).await;
    }
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn an_enrollment_group_that_is_gone_is_the_integrations_trouble_after_three_devices() {
    let mut world = World::start(&[]).await;
    world.fleet(2).await;
    let before = world.dps.control().ledger_len();
    let gone = FaultAction::Status { status: 404, retry_after: None, error_code: Some(404_201) };
    world.dps.control().inject(Fault::global(gone)).unwrap();
    for number in 0..10 {
        world.declare(&format!("new-{number}"), json!({}));
    }

    world.until("the trouble", |world| world.integration_reason() == "EnrollmentNotFound").await;
    world.spend(MINUTE / 2).await;

    let callers = world.callers_since(before);
    // As many as had begun when the third was refused.
    assert!((3..=5).contains(&callers.len()), "{callers:?}");
    assert_eq!(world.reason("truck-0"), "Provisioned");
    // It passes by itself.
    world.dps.control().clear_faults();
    world.spend(MINUTE * 2).await;
    for number in 0..10 {
        world.until_ready(&format!("new-{number}")).await;
    }
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn a_refusal_that_passes_moves_no_device_to_the_other_key() {
    let mut world = World::start(&[]).await;
    world.fleet(8).await;
    let (secrets, before) = (world.secrets(), world.dps.control().ledger_len());
    let refused = FaultAction::Status { status: 401, retry_after: None, error_code: Some(401_002) };
    let control = world.dps.control();
    control.inject(Fault::global(refused).times(3)).unwrap();
    world.declare("new", json!({}));

    world.until("the refusals", |world| world.dps.control().ledger_len() >= before + 3).await;
    world.spend(MINUTE * 3).await;

    world.until_ready("new").await;
    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.integration()["credentials"]["inUse"], "Primary");
    assert_eq!(world.status("new")["credential"]["slot"], "Primary");
    let after = world.secrets();
    assert!(secrets.iter().all(|secret| after.contains(secret)), "no Secret was touched");
}

#[tokio::test]
async fn two_wrong_keys_touch_the_same_three_devices_and_the_rollout_is_blocked_at_once() {
    let mut world = World::start(&[]).await;
    world.fleet(12).await;
    world.pass(MINUTE);
    let (secrets, before) = (world.secrets(), world.dps.control().ledger_len());
    world.show_keys(WRONG, WRONG_TOO);

    world.until("the trouble", |world| world.integration_reason() == "Unauthorized").await;
    world.spend(SECOND * 12).await;
    assert_eq!(world.integration()["keyRotation"]["blocked"], true, "{}", world.integration());
    world.spend(MINUTE * 10).await;

    let callers = world.callers_since(before);
    assert_eq!(callers.len(), 3, "{callers:?}");
    assert_eq!(world.secrets(), secrets);
    world.show_keys(KEY, OTHER_KEY);
    world.spend(MINUTE).await;
    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.secrets(), secrets, "all have been registered with this key");
}

#[tokio::test]
async fn a_fleet_that_was_moved_returns_to_the_active_key_once_dps_accepts_it_again() {
    let mut world = World::start(&[]).await;
    world.fleet(6).await;
    world.dps.control().set_group_keys(SCOPE, "fleet", WRONG, OTHER_KEY).unwrap();
    world.declare("new", json!({}));
    world.spend(MINUTE * 2).await;
    world.until_ready("new").await;
    assert_eq!(world.integration()["credentials"]["inUse"], "Secondary");
    for number in 0..6 {
        assert_eq!(world.status(&format!("truck-{number}"))["credential"]["slot"], "Secondary");
    }

    world.dps.control().set_group_keys(SCOPE, "fleet", KEY, OTHER_KEY).unwrap();
    world.spend(MINUTE * 10).await;

    assert_eq!(world.integration()["credentials"]["inUse"], "Primary");
    for number in 0..6 {
        assert_eq!(world.status(&format!("truck-{number}"))["credential"]["slot"], "Primary");
    }
    assert_eq!(world.status("new")["credential"]["slot"], "Primary");
}

#[tokio::test]
async fn a_token_on_a_device_has_a_refused_key_tried_at_once() {
    let mut world = World::start(&[]).await;
    world.fleet(3).await;
    world.dps.control().set_group_keys(SCOPE, "fleet", WRONG, WRONG_TOO).unwrap();
    for number in 0..4 {
        world.declare(&format!("new-{number}"), json!({}));
    }
    world.spend(MINUTE * 4).await;
    assert_eq!(world.integration_reason(), "Unauthorized");
    // It was Azure that had to be mended.
    world.dps.control().set_group_keys(SCOPE, "fleet", KEY, OTHER_KEY).unwrap();
    let before = world.dps.control().ledger_len();

    let token = json!({"metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": "1"}}});
    // One that the integration is not for has no say in it.
    let stranger = json!({"spec": {"integrationRef": {"namespace": "fleet", "name": "factory"}}});
    for change in [stranger, token.clone()] {
        world.api.apply("provisioneddevices", "tenant/stranger", change);
        world.deliver();
        world.until_idle(0).await;
    }
    world.spend(SECOND * 10).await;
    assert_eq!(world.dps.control().ledger_len(), before);

    world.api.apply("provisioneddevices", "truck-0", token);
    world.deliver();
    world.spend(SECOND * 10).await;

    assert!(world.dps.control().ledger_len() > before);
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn if_the_device_whose_call_shows_whether_a_pause_is_over_is_deleted_another_one_shows_it() {
    let mut world = World::start(&[]).await;
    world.fleet(1).await;
    world.dps.control().inject(Fault::global(FaultAction::throttled("60")).times(1)).unwrap();
    world.declare("new-0", json!({}));
    world.until("the 429", |world| world.integration_reason() == "Throttled").await;
    for number in 1..=5 {
        world.declare(&format!("new-{number}"), json!({}));
    }
    world.until_idle(0).await;
    let hang = FaultAction::Delay { time: MINUTE * 60 };
    world.dps.control().inject(Fault::global(hang)).unwrap();
    let called = |world: &World| world.dps.control().faults().iter().map(|fault| fault.hit).sum::<u32>();
    let before = called(&world);

    world.pass(MINUTE + SECOND * 30);
    world.until("the first call", |world| called(world) > before).await;
    world.until_idle(1).await;
    let calls = |name: &String| {
        let id = world.engine.fleet.find("fleet", name).unwrap();
        world.engine.active.permit(id).is_some()
    };
    let first = (0..=5).map(|number| format!("new-{number}")).find(calls).unwrap();
    world.delete("provisioneddevices", &first);
    world.until("another call", |world| called(world) > before + 1).await;
    for _ in 0..3 {
        world.pass(SECOND);
        world.until_idle(1).await;
    }

    assert_eq!(called(&world), before + 2, "one after the other");
}

#[tokio::test]
async fn the_next_leader_waits_as_long_as_dps_has_asked_the_last_one_to() {
    let mut world = World::start(&[]).await;
    world.fleet(1).await;
    world.dps.control().inject(Fault::global(FaultAction::throttled("1000000000")).times(1)).unwrap();
    world.declare("new-1", json!({}));
    world.until("the 429", |world| world.integration_reason() == "Throttled").await;
    world.until_idle(0).await;
    let before = world.dps.control().ledger_len();

    world.engine.take_over(world.now);
    world.declare("new-2", json!({}));
    world.spend(MINUTE).await;
    world.pass(MINUTE * 57);
    world.until_idle(0).await;

    assert_eq!(world.dps.control().ledger_len(), before);
    assert_eq!(world.integration_reason(), "Throttled");
    world.pass(MINUTE * 3);
    world.spend(SECOND * 10).await;
    world.until_ready("new-2").await;
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn a_pause_that_was_written_by_a_clock_that_was_hours_ahead_lasts_as_long_as_dps_has_asked() {
    let mut world = World::start(&[]).await;
    world.fleet(1).await;
    world.declare_integration_named("second", json!({}));
    world.show_keys(KEY, OTHER_KEY);
    let of_second = json!({"integrationRef": {"name": "second"}});
    world.declare("old-2", of_second.clone());
    world.until_ready("old-2").await;
    world.until_idle(0).await;
    world.dps.control().inject(Fault::global(FaultAction::throttled("40")).times(1)).unwrap();
    world.declare("new-1", json!({}));
    world.until("the 429", |world| world.integration_reason() == "Throttled").await;
    // The other one has met nothing, but waits as well.
    world.declare("new-2", of_second);
    world.spend(SECOND * 11).await;
    world.until("its wait", |world| status_of(world, "second")["throttledUntil"].is_string()).await;
    world.until_idle(0).await;
    let before = world.dps.control().ledger_len();

    // The next leader's clock is right, or the same clock has been set.
    world.now.wall = world.now.wall.checked_sub(MINUTE * 120).unwrap();
    world.restart();
    world.spend(SECOND * 20).await;
    assert_eq!(world.dps.control().ledger_len(), before, "it is waited for");
    world.spend(SECOND * 30).await;

    world.until_ready("new-1").await;
    world.until_ready("new-2").await;
    assert_eq!(world.integration_reason(), "Available");
    assert!(world.integration()["throttledSince"].is_null());
}

fn status_of(world: &World, integration: &str) -> Value {
    world.api.get("dpsintegrations", integration).unwrap()["status"].clone()
}

#[tokio::test]
async fn a_pause_that_others_wrote_into_the_status_lasts_an_hour_at_most() {
    let mut world = World::start(&[]).await;
    world.fleet(1).await;
    let forged = json!({"status": {"throttledUntil": "2099-01-01T00:00:00Z"}});
    world.api.apply("dpsintegrations", "factory", forged);
    world.restart();
    world.declare("new", json!({}));
    world.spend(MINUTE).await;
    assert_eq!(world.registers(), 1);

    world.pass(MINUTE * 60);
    world.spend(SECOND * 10).await;

    world.until_ready("new").await;
}
