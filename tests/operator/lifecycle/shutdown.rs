//! The operator is asked to end.

use std::time::{Duration, Instant};

use dps_simulator::{OperationKind, Outcome};

use crate::world::objects::is_ready;
use crate::world::{Kind, World};

const DEVICES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_dps_has_accepted_are_recorded_before_the_operator_ends() {
    let mut world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(2));
    world.devices("truck", DEVICES).await;
    let started = |entry: &&dps_simulator::LedgerEntry| {
        entry.operation == OperationKind::Register && entry.outcome == Outcome::Started
    };
    world
        .wait_ledger("all registrations", |ledger| ledger.iter().filter(started).count() == 1 + DEVICES)
        .await;
    let asked = Instant::now();

    let status = world.stop_operator().await;

    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let devices = world.list(Kind::Device).await;
    assert_eq!(devices.iter().filter(|device| is_ready(device)).count(), 1 + DEVICES);
    for number in 1..=DEVICES {
        assert!(world.hub_accepts(&format!("truck-{number}"), &format!("truck-{number}-hub")).await);
    }
    let before = world.mark().await;
    world.start_operator().await;
    world.device("last").await;
    world.wait_ready("last").await;
    assert_eq!(world.devices_asked_since(before), ["last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_registration_is_begun_after_the_operator_was_asked_to_end() {
    let mut world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(2));
    world.device("under-way").await;
    world.wait_ledger("a registration", |_| world.registers() == 2).await;

    let mut operator = world.ask_operator_to_end();
    world.devices("late", 3).await;
    let status = tokio::task::block_in_place(|| operator.wait()).unwrap();

    assert_eq!(status.code(), Some(0));
    assert!(is_ready(&world.get(Kind::Device, "under-way").await));
    // Those that were seen before the signal may have been begun.
    assert!(world.registers() <= 3, "{}", world.registers());
    world.start_operator().await;
    world.wait_all_ready(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_takes_too_long_does_not_hold_up_the_shutdown() {
    let mut world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(60));
    world.device("slow").await;
    world.wait_ledger("a registration", |_| world.registers() == 2).await;
    let asked = Instant::now();

    let status = world.stop_operator().await;

    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(world.find(Kind::Secret, "slow-hub").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_operator_ends_at_once() {
    let mut world = World::accepted().await;
    let asked = Instant::now();

    let status = world.stop_operator().await;

    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}
