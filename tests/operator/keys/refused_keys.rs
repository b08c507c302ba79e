//! DPS refuses the group key: a few devices try it as canaries, not the fleet.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, LedgerEntry, Outcome};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::keys::{NEWEST_KEY, fingerprint};
use crate::world::objects::{is_observed, is_pending, ready_reason};
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, WRONG_KEY, World, condition};

const MINUTE: Duration = Duration::from_secs(60);

fn refused(entry: &LedgerEntry) -> bool {
    entry.outcome == Outcome::Refused
}

fn refusals(world: &World) -> Vec<LedgerEntry> {
    world.ledger().into_iter().filter(refused).collect()
}

/// Progress of a rotation without the time of its beginning.
fn rotation(integration: &Value) -> Value {
    let mut rotation = integration["status"]["keyRotation"].clone();
    if let Some(rotation) = rotation.as_object_mut() {
        rotation.remove("startedAt").expect("it says since when");
    }
    rotation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_tried_by_three_canaries_and_the_right_one_makes_all_devices_ready() {
    const DEVICES: usize = 30;
    let world = World::with_wrong_key().await;

    world.devices("truck", DEVICES).await;

    let integration = world.wait_integration(INTEGRATION, "Unauthorized").await;
    assert_eq!(condition(&integration, "Stalled").unwrap().reason, "Unauthorized");
    assert!(condition(&integration, "Ready").unwrap().message.contains("401002"), "DPS's own code");
    world.wait_counters(INTEGRATION, |devices| devices["failed"] == 3 && devices["pending"] == 27).await;
    assert_eq!(world.registers(), 3);
    assert!(world.generated_secrets().await.is_empty());
    let reporting = world.list(Kind::Device).await.iter().filter(|device| !is_pending(device)).count();
    assert_eq!(reporting, 3, "the others only wait");

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    world.wait_all_ready(DEVICES).await;
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    assert!(condition(&integration, "Stalled").is_none());
    assert_eq!(world.registers(), 3 + DEVICES);
    world.assert_only_device_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_device_explains_what_a_401_may_mean_and_keeps_the_answer_of_dps() {
    let world = World::with_wrong_key().await;

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "Unauthorized").await;
    let message = condition(&device, "Ready").unwrap().message;
    for cause in ["key is wrong", "enrollment is gone", "IP filter", "clock"] {
        assert!(message.contains(cause), "{cause}: {message}");
    }
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "Unauthorized");
    assert_eq!(condition(&device, "Registered").unwrap().reason, "Unauthorized");
    let error = &device["status"]["lastError"];
    assert_eq!((&error["httpStatus"], &error["code"]), (&json!(401), &json!(401_002)));
    assert!(error["trackingId"].is_string() && error["time"].is_string());
    assert_eq!(device["status"]["attempts"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_leaves_no_fingerprint_and_is_known_again_after_a_restart() {
    let mut world = World::with_wrong_key().await;
    world.devices("truck", 5).await;
    world.wait_integration(INTEGRATION, "Unauthorized").await;
    world.wait_counters(INTEGRATION, |devices| devices["failed"] == 3).await;
    let before = world.registers();

    world.restart_operator().await;

    // It is the first that the restarted one does after everything has been read.
    world.group_key("other-key", PRIMARY_KEY).await;
    world.integration_without_key("other", json!({})).await;
    world.device_with("other", json!({"integrationRef": {"name": "other"}})).await;
    world.wait_ready("other").await;
    assert_eq!(world.registers(), before + 1, "the refused key was not tried again");
    let integration = world.wait_integration(INTEGRATION, "Unauthorized").await;
    assert!(integration["status"]["credentials"]["unproven"]["primaryVersion"].is_string());
    let mut shown = vec![world.operator_log()];
    for kind in [Kind::Integration, Kind::Device, Kind::Secret, Kind::Event] {
        shown.extend(world.list(kind).await.iter().map(Value::to_string));
    }
    assert!(!shown.iter().any(|text| text.contains(&fingerprint(WRONG_KEY))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_in_place_of_a_right_one_leaves_devices_and_secrets_as_they_are() {
    const DEVICES: usize = 12;
    let mut world = World::start().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    // A key that is not accepted yet has six calls a minute; the first device has spent one of them.
    world.restart_operator().await;
    let secrets = world.secret_revisions().await;
    let before = world.registers();

    world.change_group_key("factory-key", WRONG_KEY).await;

    world.wait_integration(INTEGRATION, "Unauthorized").await;
    let refused = json!([{"reason": "Unauthorized", "devices": 3}]);
    let counted = |integration: &Value| integration["status"]["failures"] == refused;
    world.wait(Kind::Integration, INTEGRATION, "three failures", counted).await;
    assert_eq!(world.registers(), before + 3);
    let devices = world.list(Kind::Device).await;
    assert!(devices.iter().all(|device| condition(device, "Ready").unwrap().is_true()));
    let after = world.secret_revisions().await;
    assert_eq!(after, secrets);

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    world.wait_integration(INTEGRATION, "Available").await;
    let counted = |integration: &Value| integration["status"]["failures"].is_null();
    world.wait(Kind::Integration, INTEGRATION, "no failures", counted).await;
    assert_eq!(world.registers(), before + 3, "the key they were registered with is back: nothing to do");
    let after = world.secret_revisions().await;
    assert_eq!(after, secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_does_not_hold_up_another_integration_of_the_same_id_scope() {
    let world = World::start().await;
    world.group_key("other-key", WRONG_KEY).await;
    world.integration_without_key("other", json!({})).await;
    let other = json!({"integrationRef": {"name": "other"}});
    world.device_with("refused", other).await;
    world.wait_reason("refused", "Unauthorized").await;

    world.devices("truck", 5).await;
    // The same registration id does not make it a duplicate, either: only accepted integrations count.
    let duplicate = json!({"integrationRef": {"name": "other"}, "registrationId": "truck-1"});
    world.device_with("duplicate", duplicate).await;

    world.wait_reason("duplicate", "Unauthorized").await;
    for name in ["truck-1", "truck-2", "truck-3", "truck-4", "truck-5"] {
        world.wait_ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_whose_key_is_refused_stays_not_ready_when_it_is_suspended() {
    let world = World::with_wrong_key().await;
    world.device("truck-1").await;
    world.wait_integration(INTEGRATION, "Unauthorized").await;

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"suspend": true}})).await;

    let refused = |integration: &Value| {
        let ready = condition(integration, "Ready").unwrap();
        assert_eq!((ready.reason.as_str(), ready.is_true()), ("Unauthorized", false));
        is_observed(integration)
    };
    world.wait(Kind::Integration, INTEGRATION, "looked at", refused).await;
    // Its status is written once more for another reason.
    world.device("truck-2").await;
    let counted =
        |integration: &Value| refused(integration) && integration["status"]["devices"]["total"] == 2;
    let integration = world.wait(Kind::Integration, INTEGRATION, "counted", counted).await;
    assert_eq!(condition(&integration, "Stalled").unwrap().reason, "Unauthorized");
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_in_a_rotation_is_refused_three_times_in_a_minute_and_the_right_one_costs_no_call() {
    const DEVICES: usize = 60;
    let world = World::start().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    let (before, devices) = (world.secret_revisions().await, world.history(Kind::Device).await);

    world.change_group_key("factory-key", WRONG_KEY).await;

    let progress = format!("0/{DEVICES} blocked");
    let blocked =
        json!({"total": DEVICES, "pending": DEVICES, "excluded": 0, "blocked": true, "progress": progress});
    let is_blocked = |integration: &Value| rotation(integration) == blocked;
    let integration = world.wait(Kind::Integration, INTEGRATION, "blocked", is_blocked).await;
    assert_eq!(ready_reason(&integration), "Unauthorized");
    world.wait_ledger("three refusals", |_| refusals(&world).len() == 3).await;
    let [_, _, third] = &refusals(&world)[..] else { panic!("more than three at once") };
    let fourth = timeout(2 * MINUTE, world.dps.wait_for(third.sequence, refused)).await;
    let fourth = fourth.expect("it is tried again after a minute");
    let waited = fourth.time.duration_since(third.time).unsigned_abs();
    assert!(waited >= MINUTE, "{waited:?}");
    assert_eq!(world.secret_revisions().await, before);
    let corrected = world.mark().await;

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    let is_over = |i: &Value| rotation(i).is_null() && i["status"]["failures"].is_null();
    let integration = world.wait(Kind::Integration, INTEGRATION, "no longer rotating", is_over).await;
    assert_eq!(ready_reason(&integration), "Available");
    world.wait_all_ready(DEVICES).await;
    assert_eq!(world.ledger_since(corrected), [], "all have been registered with this key");
    assert_eq!(world.secret_revisions().await, before);
    let devices = devices.so_far(&world).await;
    assert!(devices.iter().all(|device| condition(device, "Ready").unwrap().is_true()));
    let refused = devices.iter().filter(|device| ready_reason(device) == "Unauthorized").count();
    assert!((3..=4).contains(&refused), "{refused} devices say so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wrong_keys_cost_at_most_six_refusals_in_the_first_minute() {
    const DEVICES: usize = 20;
    let world = World::empty().await;
    // Slow enough for every change of the status to be written before the next.
    let late = FaultAction::Delay { time: Duration::from_millis(300) };
    let late = world.dps.inject(Fault::global(late)).unwrap();
    world.integration_with_both_keys(INTEGRATION, WRONG_KEY, NEWEST_KEY).await;
    let integrations = world.history(Kind::Integration).await;
    world.devices("truck", DEVICES).await;
    world.wait_ledger("a refusal", |_| !refusals(&world).is_empty()).await;

    let seventh = async {
        let mut sequence = 0;
        for _ in 0..7 {
            sequence = world.dps.wait_for(sequence, refused).await.sequence;
        }
    };
    let within_a_minute = timeout(MINUTE, seventh).await.is_ok();

    let times = refusals(&world).len();
    assert!(!within_a_minute && times > 3, "{times} refusals; both slots should be tried");
    let states = integrations.so_far(&world).await;
    let refused: Vec<_> = states.iter().skip_while(|i| ready_reason(i) != "Unauthorized").collect();
    assert!(!refused.is_empty());
    for integration in refused {
        let ready = condition(integration, "Ready").unwrap();
        assert_eq!((ready.reason.as_str(), ready.is_true()), ("Unauthorized", false));
        assert_eq!(integration["status"]["credentials"]["working"], Value::Null);
    }
    assert!(world.generated_secrets().await.is_empty());

    world.dps.clear_fault(late);
    world.change_group_key("factory-key", PRIMARY_KEY).await;

    world.wait_all_ready(DEVICES).await;
    world.wait_integration(INTEGRATION, "Available").await;
}
