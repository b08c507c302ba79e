//! A registration is an operation that goes on: it stays open, is forgotten, answered for another device,
//! or ends otherwise than it began.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, LedgerEntry, OperationKind, Outcome, RegistrationStatus};
use serde_json::{Map, Value, json};

use super::{fired_at, is_thorough, seconds};
use crate::world::objects::{is_pending, is_ready};
use crate::world::proxy::{Action, Rule, Side};
use crate::world::{HUBS, Kind, SCOPE, World, condition};

fn calls_of(world: &World, device: &str) -> Vec<LedgerEntry> {
    let of_device = |entry: &LedgerEntry| entry.registration_id.as_deref() == Some(device);
    world.ledger().into_iter().filter(of_device).collect()
}

fn started(world: &World, device: &str) -> Vec<LedgerEntry> {
    calls_of(world, device).into_iter().filter(|entry| entry.outcome == Outcome::Started).collect()
}

async fn hub_in_secret(world: &World, device: &str) -> String {
    world.secret(&format!("{device}-hub")).await["iotHubHostname"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_operation_is_open_a_device_waits_and_begins_none() {
    let world = fired_at().await;
    let open = FaultAction::Status { status: 409, retry_after: None, error_code: Some(409_203) };
    world.dps.inject(Fault::device("truck-1", open).on(OperationKind::Register)).unwrap();
    let before = world.proxies().records.len();
    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "ServiceUnavailable").await;

    let said = condition(&device, "Reconciling").unwrap().message;
    assert!(said.contains("Another operation for this registration is going on"), "{said}");
    let calls = calls_of(&world, "truck-1");
    assert!(calls.iter().all(|entry| entry.operation == OperationKind::Register), "{calls:?}");
    let waits: Vec<f64> =
        calls.windows(2).map(|pair| pair[1].time.duration_since(pair[0].time).as_secs_f64()).collect();
    assert!(waits.len() == 2 && waits[0] >= 5.0 && waits[1] >= 10.0, "{waits:?}");
    world.dps.clear_faults();
    world.wait_ready("truck-1").await;
    world.come_to_rest().await;
    assert_eq!(started(&world, "truck-1").len(), 1);
    let records = world.proxies().records.since(before).into_iter();
    assert_eq!(records.filter(|record| record.call.to_string() == "poll").count(), 1);
}

/// The answer is lost, and with it the id of the operation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_id_was_lost_is_waited_for_before_another_one_begins() {
    const OPEN: Duration = Duration::from_secs(8);
    let world = fired_at().await;
    world.dps.set_think_time(OPEN);
    let _lost = world.proxies().arm(Side::Dps, Rule::next("register", Action::Lose));

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    world.come_to_rest().await;
    let started = started(&world, "truck-1");
    assert_eq!(started.len(), 2);
    assert!(started[1].time.duration_since(started[0].time).as_secs_f64() >= OPEN.as_secs_f64());
    let refused = calls_of(&world, "truck-1").into_iter().filter(|entry| entry.status == Some(409)).count();
    assert!((1..=2).contains(&refused), "{refused} times in {OPEN:?}");
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
}

/// An operation that has not come to its end in five minutes is given up, and another one begun.
async fn goes_on_for_ever(action: FaultAction) {
    let mut world = fired_at().await;
    world.patience = seconds(60, 420);
    world.dps.inject(Fault::device("truck-1", action).on(OperationKind::Poll)).unwrap();

    world.device("truck-1").await;

    if is_thorough() {
        let device = world.wait_reason("truck-1", "Registering").await;
        let said = condition(&device, "Reconciling").unwrap().message;
        assert!(said.contains("has not come to its end"), "{said}");
        let polls = world.calls(OperationKind::Poll).of("truck-1");
        assert!((100..=160).contains(&polls), "{polls} polls");
        world.dps.clear_faults();
        world.wait_ready("truck-1").await;
        assert_eq!(started(&world, "truck-1").len(), 2);
    } else {
        world.wait_ledger("four polls", |_| world.calls(OperationKind::Poll).of("truck-1") >= 4).await;
        assert!(world.find(Kind::Secret, "truck-1-hub").await.is_none());
        assert!(is_pending(&world.get(Kind::Device, "truck-1").await));
        world.dps.clear_faults();
        world.wait_ready("truck-1").await;
        assert_eq!(world.registers_of("truck-1"), 1);
    }
    world.come_to_rest().await;
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_stays_assigning_is_followed_for_its_time_and_then_begun_again() {
    goes_on_for_ever(FaultAction::Assigning).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_unassigned_is_followed_for_its_time_and_then_registered_again() {
    let outcome = RegistrationStatus::Unassigned;
    goes_on_for_ever(FaultAction::Outcome { status: outcome, error_code: None, error_message: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_are_forgotten_again_and_again_are_begun_again_at_growing_intervals() {
    let world = fired_at().await;
    let forgotten = FaultAction::Status { status: 404, retry_after: None, error_code: Some(404_201) };
    world.dps.inject(Fault::device("truck-1", forgotten).on(OperationKind::Poll).times(3)).unwrap();

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "ServiceUnavailable").await;
    let said = condition(&device, "Reconciling").unwrap().message;
    assert!(said.contains("no longer knows the operation"), "{said}");
    world.wait_ready("truck-1").await;
    world.come_to_rest().await;
    let started = started(&world, "truck-1");
    let waits: Vec<f64> =
        started.windows(2).map(|pair| pair[1].time.duration_since(pair[0].time).as_secs_f64()).collect();
    assert!(waits.len() == 3 && waits[0] >= 5.0 && waits[1] >= 10.0 && waits[2] >= 20.0, "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_devices_result_is_taken_by_no_device() {
    let world = fired_at().await;
    world.device("other").await;
    world.wait_ready("other").await;
    let others = serde_json::to_value(world.dps.registration(SCOPE, "other").unwrap()).unwrap();
    let others: Map<String, Value> = others.as_object().unwrap().clone();
    let of = |keys: &[&str]| -> Map<String, Value> {
        others
            .clone()
            .into_iter()
            .filter(|(key, _)| keys.is_empty() || keys.contains(&key.as_str()))
            .collect()
    };
    let cases = [("all", of(&[])), ("its-id", of(&["registrationId"])), ("its-device", of(&["deviceId"]))];
    for (device, state) in cases.clone() {
        let rewrite = FaultAction::Rewrite { operation: Map::new(), registration_state: state };
        world.dps.inject(Fault::device(device, rewrite).on(OperationKind::Poll)).unwrap();
        world.device(device).await;
    }

    for (device, _) in &cases {
        let object = world.wait_reason(device, "InvalidResponse").await;
        let said = condition(&object, "Stalled").unwrap().message;
        assert!(said.contains("names another") && !said.contains("other-"), "{device}: {said}");
        assert!(object["status"]["assignedHub"].is_null(), "{device}");
    }
    assert_eq!(world.generated_secrets().await.len(), 2, "first's and other's");

    world.dps.clear_faults();
    for (device, _) in &cases {
        world.request_lookup(Kind::Device, device, "now").await;
        world.wait_ready(device).await;
    }
    world.come_to_rest().await;
    assert_eq!(world.assert_secrets_accepted().await, 5);
}

/// A device that registers again is moved while its operation is open; and the answer to the registration
/// still shows the former hub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_between_register_and_poll_is_written_once_and_whole() {
    let world = fired_at().await;
    world.device("truck-1").await;
    let hub = world.wait_ready("truck-1").await["status"]["assignedHub"].as_str().unwrap().to_owned();
    let other = HUBS.into_iter().find(|other| **other != hub).unwrap();
    let stale = serde_json::to_value(world.dps.registration(SCOPE, "truck-1").unwrap()).unwrap();
    let stale = Map::from_iter([("registrationState".to_owned(), stale)]);
    let stale = FaultAction::Rewrite { operation: stale, registration_state: Map::new() };
    world.dps.inject(Fault::device("truck-1", stale).on(OperationKind::Register)).unwrap();
    let before = world.proxies().records.len();
    let late = Rule::next("poll", Action::Delay(Duration::from_secs(2))).of("truck-1");
    let mut polled = world.proxies().arm(Side::Dps, late);

    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "gdansk"}}})).await;
    tokio::time::timeout(world.patience, polled.hit(1)).await.expect("it is polled");
    world.dps.move_device(SCOPE, "truck-1", other).unwrap();

    let moved = |device: &Value| is_ready(device) && device["status"]["assignedHub"] == other;
    world.wait(Kind::Device, "truck-1", "moved", moved).await;
    world.come_to_rest().await;
    assert_eq!(hub_in_secret(&world, "truck-1").await, other);
    let records = world.proxies().records.since(before).into_iter();
    let effects = records.filter(|record| record.call.is_effect() && record.call.is_of("truck-1"));
    let effects: Vec<String> =
        effects.filter(|r| r.call.resource != "events").map(|r| r.call.to_string()).collect();
    assert_eq!(effects, ["register", "poll", "patch secrets", "update provisioneddevices/status"]);
}

/// Code of a registration that failed, what the device says, and words of it.
const ENDS: [(Option<u32>, &str, &str); 7] = [
    (Some(400_207), "AllocationFailed", "allocation policy"),
    (Some(400_209), "AllocationFailed", "Renew the link"),
    (Some(401_002), "AllocationFailed", "Renew the link"),
    (Some(403_006), "AllocationFailed", "Renew the link"),
    (Some(999_999), "AllocationFailed", "allocation policy"),
    (Some(404_201), "EnrollmentNotFound", "no enrollment"),
    (Some(404_001), "AllocationFailed", "allocation policy"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_fails_is_named_by_its_code_and_goes_on_when_the_cause_is_gone() {
    let world = fired_at().await;
    let failed = |error_code| {
        let error_message = Some("It failed.".to_owned());
        FaultAction::Outcome { status: RegistrationStatus::Failed, error_code, error_message }
    };
    let name = |code: Option<u32>| format!("code-{}", code.unwrap_or_default());
    for (code, ..) in ENDS {
        world.dps.inject(Fault::device(&name(code), failed(code))).unwrap();
        world.device(&name(code)).await;
    }
    // What comes from within the service passes.
    let passing = [None, Some(0), Some(408_001), Some(409_203), Some(429_001), Some(500_000), Some(503_001)];
    for (number, code) in passing.into_iter().enumerate() {
        let device = format!("passing-{number}");
        world.dps.inject(Fault::device(&device, failed(code)).times(1)).unwrap();
        world.device(&device).await;
    }

    for (code, reason, words) in ENDS {
        let device = world.wait_reason(&name(code), reason).await;
        let said = condition(&device, "Stalled").unwrap().message;
        assert!(said.contains(words) && said.contains("It failed."), "{code:?}: {said}");
        assert_eq!(world.registers_of(&name(code)), 1, "{code:?}");
    }
    for number in 0..passing.len() {
        let device = format!("passing-{number}");
        world.wait_ready(&device).await;
        assert_eq!(world.registers_of(&device), 2, "{device}");
    }
    world.dps.clear_faults();
    for (code, ..) in ENDS {
        world.request_lookup(Kind::Device, &name(code), "now").await;
        world.wait_ready(&name(code)).await;
    }
    world.come_to_rest().await;
    assert_eq!(world.assert_secrets_accepted().await, 1 + ENDS.len() + passing.len());
}
