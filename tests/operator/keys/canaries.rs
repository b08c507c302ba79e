//! A key that DPS refuses is tried with a few devices, not with the fleet.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, LedgerEntry, Outcome};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::keys::NEWEST_KEY;
use crate::world::objects::{identity, ready_reason};
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, WRONG_KEY, World, condition};

const MINUTE: Duration = Duration::from_secs(60);

fn refused(entry: &LedgerEntry) -> bool {
    entry.outcome == Outcome::Refused
}

fn refusals(world: &World) -> Vec<LedgerEntry> {
    world.ledger().into_iter().filter(refused).collect()
}

async fn secrets(world: &World) -> Vec<(String, String)> {
    world.generated_secrets().await.iter().map(identity).collect()
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
async fn a_wrong_key_over_a_good_one_is_refused_three_times_in_a_minute_and_the_mended_one_costs_nothing() {
    const DEVICES: usize = 60;
    let world = World::start().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    let (before, devices) = (secrets(&world).await, world.history(Kind::Device).await);

    world.change_group_key("factory-key", WRONG_KEY).await;

    let blocked = json!({"total": DEVICES, "pending": DEVICES, "excluded": 0, "blocked": true});
    let is_blocked = |integration: &Value| rotation(integration) == blocked;
    let integration = world.wait(Kind::Integration, INTEGRATION, "blocked", is_blocked).await;
    assert_eq!(ready_reason(&integration), "Unauthorized");
    world.wait_ledger("three refusals", |_| refusals(&world).len() == 3).await;
    let [_, _, third] = &refusals(&world)[..] else { panic!("more than three at once") };
    let fourth = timeout(2 * MINUTE, world.dps.wait_for(third.sequence, refused)).await;
    let fourth = fourth.expect("it is tried again after a minute");
    let waited = fourth.time.duration_since(third.time).unsigned_abs();
    assert!(waited >= MINUTE, "{waited:?}");
    assert_eq!(secrets(&world).await, before);
    let mended = world.mark().await;

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    let is_over = |i: &Value| rotation(i).is_null() && i["status"]["failures"].is_null();
    let integration = world.wait(Kind::Integration, INTEGRATION, "no longer rotating", is_over).await;
    assert_eq!(ready_reason(&integration), "Available");
    world.wait_all_ready(DEVICES).await;
    assert_eq!(world.ledger_since(mended), [], "all have been registered with this key");
    assert_eq!(secrets(&world).await, before);
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
    world.integration_with_both_keys(WRONG_KEY, NEWEST_KEY).await;
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
