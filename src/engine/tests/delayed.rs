//! Registrations that DPS has accepted and about whose end it wants to be asked much later.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind};
use serde_json::{Value, json};

use super::{KEY, OTHER_KEY, World, condition};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// What DPS asks for.
const LONG: Duration = Duration::from_secs(20 * 60);
/// In which that is over, also on a slow machine.
const OVER: Duration = Duration::from_secs(30 * 60);
const FAST: &[&str] = &["--registrations-per-minute=1000000"];
const LOOK_AGAIN: &str = "reconcile.fluxcd.io/requestedAt";
const TOKEN: &str = "dps-operator.io/reprovision-requested-at";

impl World {
    /// With a device that is settled, and a DPS that asks for long waits from now on.
    async fn with_long_waits() -> Self {
        let mut world = Self::start(FAST).await;
        world.declare("first", json!({}));
        world.until_ready("first").await;
        world.until_idle(0).await;
        world.dps.control().set_retry_after(Some(LONG));
        world.dps.control().clear_ledger();
        world
    }

    /// A new device about which DPS wants to be asked later.
    async fn with_a_delayed_device() -> Self {
        let mut world = Self::with_long_waits().await;
        world.declare("truck-1", json!({}));
        world.until_reason("truck-1", "Registering").await;
        world.until_idle(0).await;
        world
    }

    pub(super) fn annotate_with(&mut self, device: &str, key: &str, value: Value) {
        self.api.apply("provisioneddevices", device, json!({"metadata": {"annotations": {key: value}}}));
        self.deliver();
    }

    /// Registrations and polls that DPS has seen.
    fn calls(&self) -> (usize, usize) {
        let ledger = self.dps.control().ledger();
        let of = |kind| ledger.iter().filter(|entry| entry.operation == kind).count();
        (of(OperationKind::Register), of(OperationKind::Poll))
    }

    /// Time goes on until DPS may be asked.
    async fn wait_over(&mut self) {
        self.pass(OVER);
        self.until_idle(0).await;
    }

    fn version(&self, device: &str) -> Value {
        self.api.get("provisioneddevices", device).unwrap()["metadata"]["resourceVersion"].clone()
    }

    pub(super) fn message(&self, device: &str) -> String {
        condition(&self.status(device), "Ready")["message"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn devices_that_dps_puts_off_keep_no_other_one_waiting_and_are_polled_once() {
    let mut world = World::with_long_waits().await;
    let trucks: Vec<_> = (0..200).map(|number| format!("truck-{number}")).collect();
    trucks.iter().for_each(|truck| world.declare(truck, json!({})));
    world.pass(SECOND);
    world.until("all are accepted", |world| world.calls().0 == 200).await;
    world.until_idle(0).await;
    assert!(trucks.iter().all(|truck| world.reason(truck) == "Registering"));

    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.declare("innocent", json!({}));
    world.until_ready("innocent").await;
    assert_eq!(world.calls(), (201, 1), "none of the others was asked for");

    world.pass(OVER);
    for truck in &trucks {
        world.until_ready(truck).await;
    }
    world.until_idle(0).await;
    assert_eq!(world.calls(), (201, 201));
    let (dump, ledger) = (world.api.dump(), world.dps.control().ledger());
    let mut ids = ledger.iter().filter_map(|entry| entry.path.split_once("/operations/"));
    assert!(ids.all(|(_, id)| id.len() > 10 && !dump.contains(id)), "no operation is named anywhere");
}

#[tokio::test]
async fn those_that_sleep_in_a_crowd_are_polled_too() {
    let mut world = World::with_long_waits().await;
    let trucks: Vec<_> = (0..530).map(|number| format!("truck-{number}")).collect();
    trucks.iter().for_each(|truck| world.declare(truck, json!({})));
    world.pass(SECOND);
    world.until("all are accepted", |world| world.calls().0 == 530).await;
    world.until_idle(0).await;
    assert!(world.engine.active.awake() < 520, "{} are awake", world.engine.active.awake());
    // One of them is edited, which changes nothing of that.
    for truck in &trucks {
        world.api.apply("provisioneddevices", truck, json!({"metadata": {"labels": {"a": "b"}}}));
    }
    world.deliver();
    world.until_idle(0).await;

    world.pass(OVER);
    world.until("all are assigned", |world| world.calls().1 == 530).await;
    for truck in &trucks {
        world.until_ready(truck).await;
    }
    assert_eq!(world.calls(), (530, 530));
}

#[tokio::test]
async fn a_new_device_says_until_when_it_waits_and_its_status_is_written_once() {
    let mut world = World::with_a_delayed_device().await;
    let (status, version) = (world.status("truck-1"), world.version("truck-1"));
    let said = world.message("truck-1");
    assert!(said.contains("asks to be asked again at ") && said.contains(" UTC"), "{said}");
    assert_eq!(condition(&status, "Reconciling")["reason"], "Registering");
    assert_eq!(condition(&status, "Ready")["status"], "False");

    for _ in 0..15 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!((world.version("truck-1"), world.calls()), (version, (1, 0)));

    // Then DPS asks for another wait.
    let again = Fault::global(FaultAction::Assigning).on(OperationKind::Poll).times(1);
    world.dps.control().inject(again).unwrap();
    world.dps.control().set_retry_after(Some(55 * MINUTE));
    world.pass(OVER - 15 * MINUTE);
    world.until("another time", |world| world.message("truck-1") != said).await;
    assert_eq!((world.reason("truck-1"), world.calls()), ("Registering".to_owned(), (1, 1)));
    world.wait_over().await;
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (1, 2));
}

#[tokio::test]
async fn a_spec_that_is_changed_meanwhile_is_registered_after_the_end_of_the_operation() {
    let mut world = World::with_a_delayed_device().await;
    world.declare("truck-1", json!({"payload": {"site": "b"}}));
    world.until_idle(0).await;
    assert_eq!(world.calls(), (1, 0), "DPS has one operation open");

    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.wait_over().await;
    world.until("the changed payload", |world| world.calls() == (2, 2)).await;
    world.until_ready("truck-1").await;
    let operations: Vec<_> = world.dps.control().ledger().iter().map(|entry| entry.operation).collect();
    let (register, poll) = (OperationKind::Register, OperationKind::Poll);
    assert_eq!(operations, [register, poll, register, poll]);
    assert_eq!(world.status("truck-1")["observedGeneration"], 2);
}

#[tokio::test]
async fn a_device_that_is_deleted_meanwhile_is_gone_and_another_of_its_name_registers() {
    let mut world = World::with_a_delayed_device().await;
    world.delete("provisioneddevices", "truck-1");
    world.until_idle(0).await;
    world.wait_over().await;
    assert_eq!(world.calls(), (1, 0));

    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (2, 1));
}

#[tokio::test]
async fn a_device_that_is_suspended_meanwhile_is_asked_for_when_it_goes_on() {
    let mut world = World::with_a_delayed_device().await;
    world.declare("truck-1", json!({"suspend": true}));
    world.until_reason("truck-1", "Suspended").await;
    world.wait_over().await;
    assert_eq!(world.calls(), (1, 0));

    world.declare("truck-1", json!({"suspend": false}));
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (1, 1));
}

#[tokio::test]
async fn an_integration_that_is_suspended_meanwhile_goes_on_with_what_was_accepted() {
    let mut world = World::with_a_delayed_device().await;
    world.declare_integration(json!({"suspend": true}));
    world.wait_over().await;
    assert_eq!(world.calls(), (1, 0));

    world.declare_integration(json!({"suspend": false}));
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (1, 1));
}

#[tokio::test]
async fn with_another_key_it_is_registered_anew_and_the_operation_dropped() {
    let mut world = World::with_a_delayed_device().await;
    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.show_keys(OTHER_KEY, KEY);
    world.until_ready("truck-1").await;
    world.wait_over().await;

    let ledger = world.dps.control().ledger();
    let of_it: Vec<_> =
        ledger.iter().filter(|entry| entry.registration_id.as_deref() == Some("truck-1")).collect();
    let operations: Vec<_> = of_it.iter().map(|entry| entry.operation).collect();
    assert_eq!(operations, [OperationKind::Register, OperationKind::Register, OperationKind::Poll]);
    assert!(of_it[2].path.contains("/operations/"), "{}", of_it[2].path);
}

#[tokio::test]
async fn a_request_to_look_again_has_dps_asked_at_once() {
    let mut world = World::with_a_delayed_device().await;
    world.annotate_with("truck-1", LOOK_AGAIN, json!("1"));
    world.until_ready("truck-1").await;
    assert_eq!((world.calls(), &world.status("truck-1")["lastHandledReconcileAt"]), ((1, 1), &json!("1")));

    // One that DPS answers with the same wait is served all the same.
    let mut world = World::with_a_delayed_device().await;
    world.dps.control().inject(Fault::global(FaultAction::Assigning).on(OperationKind::Poll)).unwrap();
    world.annotate_with("truck-1", LOOK_AGAIN, json!("1"));
    world.until("it is served", |world| world.status("truck-1")["lastHandledReconcileAt"] == "1").await;
    world.until_idle(0).await;
    assert_eq!((world.reason("truck-1"), world.calls()), ("Registering".to_owned(), (1, 1)));
}

#[tokio::test]
async fn a_provisioned_device_stays_as_it_is_until_dps_has_come_to_an_end() {
    let mut world = World::with_long_waits().await;
    world.annotate_with("first", TOKEN, json!("1"));
    let version = world.version("first");
    world.until("the registration", |world| world.calls().0 == 1).await;
    world.until_idle(0).await;
    assert_eq!(world.version("first"), version);

    world.wait_over().await;
    world.until("it is served", |world| world.status("first")["lastHandledReprovisionToken"] == "1").await;
    assert_eq!((world.reason("first"), world.calls()), ("Provisioned".to_owned(), (1, 1)));
}

#[tokio::test]
async fn one_that_needs_nothing_any_more_is_asked_for_all_the_same() {
    let mut world = World::with_long_waits().await;
    world.annotate_with("first", TOKEN, json!("1"));
    world.until("the registration", |world| world.calls().0 == 1).await;
    world.until_idle(0).await;
    world.annotate_with("first", TOKEN, Value::Null);
    world.until_idle(0).await;

    world.wait_over().await;
    assert_eq!(world.calls(), (1, 1), "what DPS has begun may have moved it");
    assert_eq!(world.reason("first"), "Provisioned");
    world.until("it is settled", |world| world.engine.active.work(0).is_none()).await;
}

#[tokio::test]
async fn a_fleet_that_is_rotated_is_polled_once_each() {
    let mut world = World::with_long_waits().await;
    world.show_keys(OTHER_KEY, KEY);
    world.until("the registration", |world| world.calls().0 == 1).await;
    world.until_idle(0).await;
    let status = world.status("first");
    assert_eq!(world.reason("first"), "Provisioned");

    // Its Secret goes on being maintained.
    world.delete("secrets", "first-hub");
    world.until("the Secret", |world| world.api.get("secrets", "first-hub").is_some()).await;
    world.wait_over().await;
    world.until("the other key", |w| w.status("first")["credential"] != status["credential"]).await;
    world.until_idle(0).await;
    assert_eq!((world.reason("first"), world.calls()), ("Provisioned".to_owned(), (1, 1)));
}

#[tokio::test]
async fn after_a_restart_the_device_registers_anew() {
    let mut world = World::with_a_delayed_device().await;
    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.restart();
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (2, 1));
}

#[tokio::test]
async fn a_poll_that_is_throttled_slows_the_scope_down_and_the_device_waits_on() {
    let mut world = World::with_a_delayed_device().await;
    let throttled = Fault::global(FaultAction::throttled("1200")).on(OperationKind::Poll).times(1);
    world.dps.control().inject(throttled).unwrap();
    world.pass(OVER);
    world.until("the integration says so", |world| world.integration_reason() == "Throttled").await;
    world.until_idle(0).await;
    assert_eq!((world.reason("truck-1"), world.calls()), ("Registering".to_owned(), (1, 1)));

    world.wait_over().await;
    world.pass(OVER);
    world.until_ready("truck-1").await;
    assert_eq!(world.calls(), (1, 2));
}
