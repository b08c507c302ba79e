//! The clock of the operator's own machine is wrong, or is set while it runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::leader::{LEADS, LEASE, lead};
use crate::world::objects::{is_observed, is_ready};
use crate::world::{INTEGRATION, Kind, Setup, World};

const HOURS: i64 = 2 * 3600;

/// An integration that DPS has accepted, with daily checks, and the clock that the operator goes by.
async fn with_clock(ahead: i64) -> World {
    let mut world = World::without_operator(Setup::default()).await;
    world.set_up_clock();
    set_ahead(&world, ahead);
    world.start_operator().await;
    let daily = json!({"deviceDefaults": {"driftCheck": {"interval": "24h"}}});
    world.integration_with(INTEGRATION, daily).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world
}

fn set_ahead(world: &World, seconds: i64) {
    world.clock.as_ref().expect("it has a clock").set_ahead(seconds);
}

/// A new device is Ready, a changed one registered again, and the key is as good as it was.
async fn works(world: &World, device: &str) {
    world.device(device).await;
    world.wait_ready(device).await;
    world.patch(Kind::Device, device, json!({"spec": {"payload": {"site": "gdansk"}}})).await;
    let changed = |object: &Value| is_ready(object) && is_observed(object);
    world.wait(Kind::Device, device, "changed", changed).await;
    world.wait_integration(INTEGRATION, "Available").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_while_the_operator_runs_asks_nothing_again_and_stops_nothing() {
    let world = with_clock(0).await;
    works(&world, "truck-0").await;

    for (number, ahead) in [HOURS, -HOURS, 0, -HOURS, HOURS].into_iter().enumerate() {
        let before = world.mark().await;
        set_ahead(&world, ahead);

        works(&world, &format!("truck-{}", number + 1)).await;

        let asked = world.devices_asked_since(before);
        assert_eq!(asked, [format!("truck-{}", number + 1)], "no other was asked about: {ahead}");
        let calls = world.registers_since(before);
        assert!(
            (2..=3).contains(&calls),
            "{calls} for a new device and a change; a token may be refused once"
        );
    }
    assert_eq!(world.assert_secrets_accepted().await, 7);
    let refused = world.ledger().into_iter().filter(|entry| entry.status == Some(401)).count();
    assert!(refused > 0, "DPS has seen the wrong clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_whose_clock_is_wrong_from_the_start_works() {
    for ahead in [HOURS, -HOURS] {
        let world = with_clock(ahead).await;

        works(&world, "truck-1").await;

        let refused = world.ledger().into_iter().filter(|entry| entry.status == Some(401)).count();
        assert_eq!(refused > 0, ahead < 0, "tokens are over for DPS where the clock is behind: {ahead}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_give_the_lease_to_no_other_replica() {
    let mut world = World::without_operator(Setup { proxied: true, ..Setup::default() }).await;
    world.set_up_clock();
    let mut world = lead(world).await;
    let leaders = world.clock.take().expect("it has one");
    world.set_up_clock();
    let second = world.second_operator().await;
    world.replica(&second).wait_synced().await;

    // Each for longer than a Lease lasts.
    for (ours, theirs) in [(0, HOURS), (HOURS, 0), (-HOURS, HOURS)] {
        leaders.set_ahead(ours);
        set_ahead(&world, theirs);
        tokio::time::sleep(LEASE + Duration::from_secs(5)).await;
    }

    assert!(world.operator_runs());
    assert!(!world.replica(&second).log().contains(LEADS));
    works(&world, "truck-1").await;
    world.kill_operator().await;
    world.replica(&second).wait_log(LEADS).await;
    works(&world, "truck-2").await;
}
