//! The Lease is lost, taken, deleted, or its leader dies with it in its hand.

use std::time::{Duration, Instant};

use dps_dev::{Guarded, Signal};

use crate::world::operator::ACCOUNTS;
use crate::world::proxy::{Action, Moment, Record, Rule, Side};
use crate::world::{INTEGRATION, Setup, World};

pub const LEADS: &str = "this replica leads now";
/// As long as others wait before they take a Lease that is not renewed.
pub const LEASE: Duration = Duration::from_secs(30);
const RENEWAL: &str = "update leases";

/// A leader behind a proxy, with an integration that DPS has accepted.
pub async fn leader() -> World {
    lead(World::without_operator(Setup { proxied: true, ..Setup::default() }).await).await
}

/// The first operator in this world leads.
pub async fn lead(mut world: World) -> World {
    world.leader_elect = true;
    world.patience = Duration::from_secs(180);
    world.start_operator().await;
    world.first_replica().wait_log(LEADS).await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world
}

/// The same, and a replica that has read everything and goes its own way.
async fn leader_and_standby() -> (World, Guarded) {
    let world = leader().await;
    let second = world.second_operator().await;
    world.replica(&second).wait_synced().await;
    (world, second)
}

/// Nothing was written and nothing called once the Lease could be another's.
fn assert_nothing_after_the_lease(records: &[Record]) {
    let held = records.iter().filter(|record| record.call.resource == "leases" && record.call.is_effect());
    let held = held.filter(|record| record.status.is_some_and(|status| status < 300));
    let renewed: Instant = held.map(|record| record.at).max().expect("it has led");
    let counts = |record: &&Record| match record.call.side {
        Side::ApiServer => record.call.is_effect() && record.call.resource != "leases",
        Side::Dps => record.is_own,
    };
    let effects: Vec<&Record> = records.iter().filter(counts).collect();
    assert!(effects.iter().any(|record| record.call.side == Side::Dps), "it has called DPS");
    let late: Vec<String> = effects
        .into_iter()
        .filter(|record| record.at > renewed + LEASE)
        .map(|record| format!("{} {} {:?}", record.call, record.call.name, record.at - renewed))
        .collect();
    assert_eq!(late, [""; 0], "after the Lease was over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_renewals_are_lost_does_nothing_once_another_may_lead() {
    const DEVICES: usize = 150;
    let (mut world, second) = leader_and_standby().await;
    world.dps.set_think_time(Duration::from_secs(2));
    let renewals = ["get leases", RENEWAL]
        .map(|call| world.proxies().arm(Side::ApiServer, Rule::all(call, Action::Refuse)));

    // There is work to do all the time.
    for number in 0..DEVICES {
        world.device(&format!("truck-{number}")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    assert_eq!(world.operator_ended().await.code(), Some(1));
    drop(renewals);
    world.replica(&second).wait_log(LEADS).await;
    world.wait_all_ready(1 + DEVICES).await;
    let records = world.proxies().records.all();
    assert!(records.iter().filter(|record| record.call.is_effect()).count() > DEVICES, "it had work to do");
    assert_nothing_after_the_lease(&records);
    world.assert_secrets_accepted().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_frozen_in_a_write_does_nothing_after_it() {
    let (mut world, second) = leader_and_standby().await;
    let freeze = Action::Freeze(Moment::Before, LEASE + Duration::from_secs(10));
    let mut frozen = world.proxies().arm(Side::ApiServer, Rule::next("create secrets", freeze));
    world.device("truck-1").await;
    frozen.hit(1).await;
    for number in 2..=5 {
        world.device(&format!("truck-{number}")).await;
    }

    world.replica(&second).wait_log(LEADS).await;
    world.wait_all_ready(6).await;

    assert_eq!(world.operator_ended().await.code(), Some(1));
    assert_nothing_after_the_lease(&world.proxies().records.all());
    assert_eq!(world.assert_secrets_accepted().await, 6);
    assert!(world.registers() <= 7, "only the frozen device's registration is made once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_deleted_is_made_again_by_one_of_the_replicas() {
    let (world, second) = leader_and_standby().await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.devices("truck", 10).await;

    let name = world.namespace.clone();
    world.control_plane().kubectl_ok(&["delete", "lease", &name, "-n", ACCOUNTS]).unwrap();

    world.wait_all_ready(11).await;
    assert!(world.registers() <= 2 * 11, "each is made once more at most, where the other one leads now");
    world.assert_secrets_accepted().await;
    world.device("late").await;
    world.wait_ready("late").await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_with_the_lease_in_its_hand_is_followed() {
    let moments: &[Moment] = if super::is_thorough() {
        &[Moment::Before, Moment::Forwarded, Moment::Answered]
    } else {
        &[Moment::Forwarded]
    };
    let mut world = leader().await;
    for (number, moment) in moments.iter().enumerate() {
        let mut killed = world.proxies().arm(Side::ApiServer, Rule::next(RENEWAL, Action::Kill(*moment)));
        killed.hit(1).await;
        world.operator_ended().await;
        world.device(&format!("renewal-{number}")).await;
        world.start_operator().await;
        world.wait_ready(&format!("renewal-{number}")).await;
        // The Lease is given back by an update, too.
        let mut killed = world.proxies().arm(Side::ApiServer, Rule::next(RENEWAL, Action::Kill(*moment)));
        world.signal_operator(Signal::Terminate).await;
        killed.hit(1).await;
        world.operator_ended().await;
        world.device(&format!("release-{number}")).await;
        world.start_operator().await;
        world.wait_ready(&format!("release-{number}")).await;
    }
    assert_eq!(world.registers(), 1 + 2 * moments.len());
}
