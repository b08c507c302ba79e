//! Several replicas, one of which acts.

use std::time::{Duration, Instant};

use dps_dev::{Guarded, Signal};
use serde_json::json;

use crate::world::objects::is_ready;
use crate::world::{INTEGRATION, Kind, SCOPE, Setup, World};

const LEADS: &str = "this replica leads now";
const PATIENCE: Duration = Duration::from_secs(180);

/// A leader, and a standby that has read everything.
async fn two_replicas() -> (World, Guarded) {
    let mut world = World::without_operator(Setup::default()).await;
    world.leader_elect = true;
    world.patience = PATIENCE;
    world.start_operator().await;
    world.first_replica().wait_log(LEADS).await;
    world.integration(INTEGRATION).await;
    let second = world.second_operator().await;
    world.replica(&second).wait_synced().await;
    (world, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_at_once_from_a_leader_that_ends_and_reads_nothing_again() {
    const DEVICES: usize = 20;
    let (mut world, second) = two_replicas().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == DEVICES).await;
    let (first, standby) = (world.first_replica(), world.replica(&second));
    assert_eq!(first.metric("dps_operator_leader").await, Some(1.0));
    assert_eq!(standby.metric("dps_operator_leader").await, Some(0.0));
    assert_eq!(standby.page("/readyz").await.status, 200, "ready to lead, and it does not");
    assert!(!standby.log().contains(LEADS));
    let before = world.mark().await;

    let asked = Instant::now();
    assert!(world.stop_operator().await.success());
    world.replica(&second).wait_log(LEADS).await;
    let took = asked.elapsed();

    println!("handed over {:.1} s after SIGTERM", took.as_secs_f64());
    assert!(took < Duration::from_secs(15), "it did not wait for the lease to expire: {took:?}");
    world.device("late").await;
    world.wait_ready("late").await;
    assert_eq!(world.devices_asked_since(before), ["late"]);
    let requests = world.events_since(before).await;
    let listed: Vec<_> = requests.iter().filter(|event| event.request.verb == "list").collect();
    assert!(listed.is_empty(), "{listed:?}");
    let writes = world.writes_since(before).await;
    assert_eq!(writes.get("update provisioneddevices/status"), Some(&1), "the new device's: {writes:?}");
    assert_eq!(writes.get("patch secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_during_registrations_costs_only_the_calls_in_flight() {
    const DEVICES: usize = 500;
    let (mut world, second) = two_replicas().await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.dps.set_think_time(Duration::from_millis(500));
    world.devices("truck", DEVICES - 1).await;
    world.wait_ledger("a part of the fleet", |_| world.registers() > DEVICES / 4).await;

    world.kill_operator().await;
    let killed = Instant::now();
    let registered = world.registers();
    let settled = world.list(Kind::Device).await.iter().filter(|device| is_ready(device)).count();
    world.replica(&second).wait_log(LEADS).await;
    let took = killed.elapsed();
    world.wait_all_ready(DEVICES).await;

    let extra = world.registers() - DEVICES;
    println!("took over {:.1} s after SIGKILL; {extra} registrations more than devices", took.as_secs_f64());
    assert!(extra <= registered - settled, "{extra} extra, {registered} begun, {settled} written");
    assert_eq!(world.assert_secrets_accepted().await, DEVICES);
    world.assert_only_device_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_may_not_renew_its_lease_ends_at_its_deadline() {
    let mut world = World::without_operator(Setup::default()).await;
    world.leader_elect = true;
    world.patience = PATIENCE;
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let binding = world.namespace.clone();
    let arguments = ["delete", "rolebinding", &binding, "-n", crate::world::operator::ACCOUNTS];
    world.control_plane().kubectl_ok(&arguments).unwrap();

    let ended = world.operator_ended().await;

    assert_eq!(ended.code(), Some(1));
    let log = world.operator_log();
    assert!(log.contains("was lost: another replica may lead now"), "{}", world.operator_log_tail());
    assert!(log.contains("check the RBAC rules"), "{}", world.operator_log_tail());
    let registers = world.registers();
    world.device("late").await;
    world.start_operator().await;
    world.wait_ready("late").await;
    assert_eq!(world.registers(), registers + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_until_its_lease_ended_begins_no_call_and_ends() {
    const DEVICES: usize = 10;
    let (mut world, second) = two_replicas().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    world.signal_operator(Signal::Stop).await;
    world.devices("late", DEVICES).await;
    world.replica(&second).wait_log(LEADS).await;
    world.wait_all_ready(2 * DEVICES).await;
    let before = world.mark().await;

    world.signal_operator(Signal::Continue).await;

    assert_eq!(world.operator_ended().await.code(), Some(1));
    assert_eq!(world.ledger_since(before), [], "it begins nothing although it has just seen ten new devices");
    assert_eq!(world.wait_all_ready(2 * DEVICES).await.len(), 2 * DEVICES);
    world.assert_secrets_accepted().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_knows_the_latest_state_of_failed_devices() {
    let (mut world, second) = two_replicas().await;
    for name in ["suspended", "waits", "changes"] {
        world.dps.set_device_enabled(SCOPE, name, false).unwrap();
        world.device(name).await;
        world.wait_reason(name, "Disabled").await;
    }
    world.patch(Kind::Device, "suspended", json!({"spec": {"suspend": true}})).await;
    world.wait_reason("suspended", "Suspended").await;
    world.dps.set_device_enabled(SCOPE, "changes", true).unwrap();
    let before = world.mark().await;

    assert!(world.stop_operator().await.success());
    world.replica(&second).wait_log(LEADS).await;
    world.patch(Kind::Device, "changes", json!({"spec": {"payload": {"site": "b"}}})).await;
    world.wait_ready("changes").await;

    let asked = world.devices_asked_since(before);
    assert_eq!(asked, ["changes"], "the others wait, or are suspended");
    let requests = world.events_since(before).await;
    let read =
        |resource: &str| requests.iter().any(|e| e.request.verb == "get" && e.request.resource == resource);
    assert!(!read("provisioneddevices"), "the watch has brought all that is to be known");
}
