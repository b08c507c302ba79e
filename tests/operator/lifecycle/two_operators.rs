//! Two operators over the same objects: not what one should do, and nothing is lost by it.

use dps_dev::Guarded;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::keys::{NEW_KEY, fingerprint};
use crate::world::objects::uid;
use crate::world::waiting::until;
use crate::world::{INTEGRATION, Kind, POLL, Setup, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_over_the_same_objects_make_more_calls_and_lose_nothing() {
    const DEVICES: usize = 12;
    let world = World::empty().await;
    let _second = world.second_operator().await;
    let quiet = json!({"deviceDefaults": {"driftCheck": {"interval": "0s"}}});
    world.integration_with(INTEGRATION, quiet).await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;

    world.rotate_group_key(NEW_KEY).await;

    let fingerprint = fingerprint(NEW_KEY);
    for number in 1..=DEVICES {
        let name = format!("truck-{number}");
        let moved = |device: &Value| device["status"]["credential"]["fingerprint"] == fingerprint;
        let device = world.wait(Kind::Device, &name, "on the new key", moved).await;
        let secret = world.get(Kind::Secret, &format!("{name}-hub")).await;
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid(&device));
        assert!(world.hub_accepts(&name, &format!("{name}-hub")).await, "{name}");
    }
    world.assert_only_device_calls();
    let registers = world.registers();
    assert!((2 * DEVICES..=6 * DEVICES).contains(&registers), "{registers} registers");
}

const SAID: &str = "is a second dps-operator running?";

/// The most of these within so many seconds.
fn most_within(times: &[Timestamp], seconds: i64) -> usize {
    let within = |begin: &Timestamp, at: &&Timestamp| {
        **at >= *begin && at.duration_since(*begin) < SignedDuration::from_secs(seconds)
    };
    times.iter().map(|begin| times.iter().filter(|at| within(begin, at)).count()).max().unwrap_or_default()
}

/// Waits until both have said that there is another writer and somebody has waited for eight seconds, then
/// checks how often the status was written.
async fn assert_slow(world: &World, second: &Guarded, kind: Kind, name: &str) {
    world.first_replica().wait_log(SAID).await;
    world.replica(second).wait_log(SAID).await;
    let long = |times: &[Timestamp]| {
        let begun = times.len().saturating_sub(8);
        times[begun..].windows(2).any(|pair| pair[1].duration_since(pair[0]).as_secs() >= 4)
    };
    let waits = until(world.patience, POLL, async || {
        long(&world.status_writes(kind, name).await).then_some(()).ok_or(())
    });
    waits.await.expect("the waits grow");
    let times = world.status_writes(kind, name).await;
    // What each had to write before it knew of the other, and then after 1, 2 and 4 s.
    let (ten, sixty) = (most_within(&times, 10), most_within(&times, 60));
    assert!(ten <= 16 && sixty <= 28, "{ten} in ten seconds, {sixty} in sixty: {times:?}");
    for log in [world.first_replica().log(), world.replica(second).log()] {
        assert!((1..=2).contains(&log.matches(SAID).count()), "it is said once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_with_other_flags_write_an_integration_more_and_more_slowly_and_say_so() {
    let world = World::empty().await;
    let second = world.second_operator_with(&[("--allowed-dps-hosts", "elsewhere.example.net")]).await;
    world.integration(INTEGRATION).await;

    assert_slow(&world, &second, Kind::Integration, INTEGRATION).await;

    let events = world.list(Kind::Event).await;
    let said = events.iter().filter(|event| event["reason"] == "StatusContested").count();
    assert!((1..=2).contains(&said), "{events:?}");
    let contested = "dps_operator_contested_objects{resource=\"dpsintegrations\"}";
    assert_eq!(world.first_replica().metric(contested).await, Some(1.0));
    // With the other one gone it says what is.
    drop(second);
    world.wait_integration(INTEGRATION, "Available").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_that_count_other_devices_write_counters_once_in_ten_seconds_at_most() {
    let mut world = World::without_operator(Setup::default()).await;
    let home = world.namespace.clone();
    let tenant = world.add_namespace(json!({})).await;
    world.start_operator().await;
    let second = world.second_operator_with(&[("--watch-namespaces", &home)]).await;
    let admit = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": admit})).await;
    world.device("truck-1").await;
    world.switch_to(&tenant);
    let elsewhere = json!({"integrationRef": {"name": INTEGRATION, "namespace": home}});
    world.device_with("truck-2", elsewhere).await;
    world.switch_to(&home);

    world.wait_ready("truck-1").await;
    for total in [2, 1, 2] {
        world.wait_counters(INTEGRATION, |devices| devices["total"] == total).await;
    }

    let counters = world.status_writes(Kind::Integration, INTEGRATION).await;
    // Before they are counted, each says that DPS has accepted the key; a conflict is tried again.
    assert!(most_within(&counters, 10) <= 8, "{counters:?}");
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_of_which_one_does_not_see_the_integration_write_a_device_more_and_more_slowly() {
    let mut world = World::without_operator(Setup::default()).await;
    let home = world.namespace.clone();
    let tenant = world.add_namespace(json!({})).await;
    world.start_operator().await;
    let second = world.second_operator_with(&[("--watch-namespaces", &tenant)]).await;
    let admit = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": admit})).await;
    world.switch_to(&tenant);
    let elsewhere = json!({"integrationRef": {"name": INTEGRATION, "namespace": home}});
    world.device_with("truck-1", elsewhere).await;
    world.wait_ready("truck-1").await;
    world.wait_reason("truck-1", "ReferenceNotAllowed").await;
    world.switch_to(&home);

    assert_slow(&world, &second, Kind::Device, "truck-1").await;

    world.switch_to(&tenant);
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
    assert_eq!(world.registers(), 1);
    drop(second);
    world.wait_reason("truck-1", "Provisioned").await;
}
