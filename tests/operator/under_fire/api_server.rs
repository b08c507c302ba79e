//! The API server answers late, wrongly, or not at all.

use std::time::Duration;

use serde_json::{Value, json};

use super::{WATCHES, fired_at, seconds};
use crate::world::objects::{is_pending, is_ready, text, uid};
use crate::world::proxy::{Action, Rule, Side, status, status_body};
use crate::world::{INTEGRATION, Kind, Setup, World};

const STATUS: &str = "update provisioneddevices/status";

/// Has these requests answered so for a while.
async fn for_a_while(world: &World, rules: Vec<Rule>, time: Duration) {
    let armed: Vec<_> = rules.into_iter().map(|rule| world.proxies().arm(Side::ApiServer, rule)).collect();
    tokio::time::sleep(time).await;
    drop(armed);
}

/// So many new devices are Ready, each registered once; then nothing happens any longer.
async fn all_registered_once(world: &World, devices: usize) {
    world.wait_all_ready(1 + devices).await;
    // Their integration may wait longer after a refused write than they do.
    world.wait_counters(INTEGRATION, |counters| counters["ready"] == 1 + devices).await;
    world.come_to_rest().await;
    assert_eq!(world.registers(), 1 + devices);
    assert_eq!(world.assert_secrets_accepted().await, 1 + devices);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_initialises_its_storage_is_waited_for() {
    let world = fired_at().await;
    let busy = Action::Answer {
        status: 429,
        headers: vec![("retry-after", "1".to_owned())],
        body: status_body(429, "TooManyRequests", "storage is (re)initializing"),
    };
    world.proxies().api_server.watches.cut();
    let (before, time) = (world.proxies().records.len(), seconds(10, 40));
    world.devices("truck", 5).await;

    for_a_while(&world, vec![Rule::any(busy)], time).await;

    let asked = world.proxies().records.len() - before;
    assert!(asked < 6 * 15 + 4 * usize::try_from(time.as_secs()).unwrap(), "{asked} requests in {time:?}");
    all_registered_once(&world, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_carried_out_and_answered_with_504_are_not_made_twice() {
    let world = fired_at().await;
    let timeout = || Action::Replace { status: 504, body: status_body(504, "Timeout", "etcd timed out") };
    let rules = ["create secrets", STATUS].map(|call| Rule::all(call, timeout()).times(3));
    let _armed = rules.map(|rule| world.proxies().arm(Side::ApiServer, rule));

    world.devices("truck", 3).await;

    all_registered_once(&world, 3).await;
    let created = |record: &crate::world::proxy::Record| {
        record.call.to_string() == "create secrets" && record.status == Some(201)
    };
    assert_eq!(world.proxies().records.all().iter().filter(|record| created(record)).count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_takes_seconds_for_each_write_costs_time_and_nothing_else() {
    let world = fired_at().await;
    let slow = ["create secrets", "patch secrets", STATUS, "create events"];
    let slow = slow.map(|call| Rule::all(call, Action::Delay(Duration::from_secs(5))));
    let _armed = slow.map(|rule| world.proxies().arm(Side::ApiServer, rule));

    world.devices("truck", 8).await;

    all_registered_once(&world, 8).await;
}

/// What ends watches, or lets them say nothing.
async fn watches_that(action: Action, most: usize) {
    let world = fired_at().await;
    let rules = WATCHES.map(|watch| Rule::all(watch, action.clone())).to_vec();
    world.proxies().api_server.watches.cut();
    let (before, time) = (world.proxies().records.len(), seconds(10, 60));
    world.devices("truck", 3).await;

    for_a_while(&world, rules, time).await;

    let records = world.proxies().records.since(before);
    for watch in WATCHES {
        let begun = records.iter().filter(|record| record.call.to_string() == watch).count();
        assert!(begun <= most, "{watch}: begun {begun} times in {time:?}");
    }
    all_registered_once(&world, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_closed_at_once_are_not_hammered() {
    watches_that(Action::End { after: Duration::ZERO }, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_closed_every_second_show_what_happens() {
    watches_that(Action::End { after: Duration::from_secs(1) }, 70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_refused_as_expired_lead_to_a_list() {
    watches_that(status(410, "Expired", "too old resource version"), 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_say_that_they_have_expired_lead_to_a_list() {
    let object: Value = serde_json::from_str(&status_body(410, "Expired", "too old")).unwrap();
    let body = format!("{}\n", json!({"type": "ERROR", "object": object}));
    watches_that(Action::Answer { status: 200, headers: Vec::new(), body }, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_break_off_within_a_line_lose_nothing() {
    watches_that(Action::Cut { after: 7 }, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_watches_show_late_causes_no_second_write_and_no_second_call() {
    let world = fired_at().await;
    let mut register = world.proxies().arm(Side::Dps, Rule::next("register", Action::Delay(Duration::ZERO)));
    let before = world.proxies().records.len();
    world.device("truck-1").await;
    register.hit(1).await;
    world.proxies().api_server.watches.hold();
    world.wait_ready("truck-1").await;
    tokio::time::sleep(seconds(5, 30)).await;

    world.proxies().api_server.watches.release();

    all_registered_once(&world, 1).await;
    let records = world.proxies().records.since(before);
    let writes = records.iter().filter(|record| record.call.is_effect() && record.call.is_of("truck-1"));
    let writes: Vec<String> = writes
        .filter(|record| record.call.resource != "events")
        .map(|record| record.call.to_string())
        .collect();
    assert_eq!(writes, ["register", "poll", "create secrets", STATUS]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_list_brings_back_nothing_that_is_gone() {
    let world = fired_at().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let path = format!("/apis/dps-operator.io/v1alpha1/namespaces/{}/provisioneddevices", world.namespace);
    let old = world.control_plane().kubectl_ok(&["get", "--raw", &path]).unwrap();
    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Secret, "truck-1-hub").await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let registers = world.registers();
    let expired = Rule::next("watch provisioneddevices", status(410, "Expired", "too old"));
    let list = Action::Answer { status: 200, headers: Vec::new(), body: old };
    let _expired = world.proxies().arm(Side::ApiServer, expired);
    let mut listed = world.proxies().arm(Side::ApiServer, Rule::next("list provisioneddevices", list));

    world.proxies().api_server.watches.cut();

    tokio::time::timeout(world.patience, listed.hit(1)).await.expect("it lists again");
    world.device("truck-2").await;
    world.wait_ready("truck-2").await;
    world.come_to_rest().await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid(&device));
    assert_eq!(world.registers(), registers + 1, "truck-2's");
    world.assert_secrets_accepted().await;
}

/// Bookmarks come every minute: an API server that says nothing for longer is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_stay_open_and_say_nothing_are_given_up_for_lists() {
    let mut world = fired_at().await;
    // A watch ends by itself after 200 s.
    world.patience = Duration::from_secs(180);
    let before = world.proxies().records.len();
    world.proxies().api_server.watches.hold();

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    let records = world.proxies().records.since(before);
    let lists = records.iter().filter(|record| record.call.to_string() == "list provisioneddevices").count();
    assert!((1..=5).contains(&lists), "{lists} lists of devices");
    world.proxies().api_server.watches.release();
    world.device("truck-2").await;
    all_registered_once(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_on_every_status_write_are_met_with_patience() {
    let world = fired_at().await;
    let (before, time) = (world.proxies().records.len(), seconds(10, 60));
    world.devices("truck", 2).await;

    let conflict = status(409, "Conflict", "the object has been modified");
    for_a_while(&world, vec![Rule::all(STATUS, conflict)], time).await;

    let records = world.proxies().records.since(before);
    let tried = records.iter().filter(|record| record.call.to_string() == STATUS).count();
    assert!((2..=50).contains(&tried), "{tried} writes in {time:?}");
    all_registered_once(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_for_one_device_stop_no_other() {
    let world = fired_at().await;
    let forbidden = || status(403, "Forbidden", "secrets is forbidden");
    let no_secret = Rule::all("create secrets", forbidden()).of("denied");
    let no_status = Rule::all(STATUS, forbidden()).of("silent");
    let armed = [no_secret, no_status].map(|rule| world.proxies().arm(Side::ApiServer, rule));
    for device in ["denied", "silent", "truck-1", "truck-2"] {
        world.device(device).await;
    }

    world.wait_ready("truck-1").await;
    world.wait_ready("truck-2").await;
    world.wait_reason("denied", "SecretWriteFailed").await;
    world.wait(Kind::Secret, "silent-hub", "written", |_| true).await;
    assert!(is_pending(&world.get(Kind::Device, "silent").await));
    drop(armed);

    world.request_lookup(Kind::Device, "denied", "now").await;
    all_registered_once(&world, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spell_without_any_rights_passes() {
    let world = fired_at().await;
    world.proxies().api_server.watches.cut();
    world.devices("truck", 3).await;

    let forbidden = status(403, "Forbidden", "the server is not ready to authorize");
    for_a_while(&world, vec![Rule::any(forbidden)], seconds(10, 90)).await;

    all_registered_once(&world, 3).await;
}

/// A world whose operator watches two namespaces, each with an integration that DPS has accepted.
async fn two_namespaces() -> (World, String, String) {
    let mut world = World::without_operator(Setup { proxied: true, ..Setup::default() }).await;
    let (own, other) = (world.namespace.clone(), world.add_namespace(json!({})).await);
    world.start_operator().await;
    for namespace in [&other, &own] {
        world.switch_to(namespace);
        if *namespace == other {
            world.publish_ca().await;
        }
        world.integration(INTEGRATION).await;
        let first = format!("first-of-{namespace}");
        world.device(&first).await;
        world.wait_ready(&first).await;
    }
    (world, own, other)
}

/// Watches that are open already end now: they are asked for again, without rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_whose_rights_are_taken_away_for_a_while_stops_no_other() {
    let (mut world, own, other) = two_namespaces().await;
    world.switch_to(&other);
    world.delete(Kind::RoleBinding, "operator").await;
    world.proxies().api_server.watches.cut();
    world.devices("denied", 3).await;

    world.switch_to(&own);
    for number in 1..=5 {
        world.device(&format!("truck-{number}")).await;
        world.wait_ready(&format!("truck-{number}")).await;
    }

    world.switch_to(&other);
    let first = world.get(Kind::Device, &format!("first-of-{other}")).await;
    assert!(is_ready(&first), "what was provisioned there stays");
    for device in world.list(Kind::Device).await {
        assert!(!text(&device["metadata"]["name"]).starts_with("denied") || !is_ready(&device));
    }
    world.allow_operator_of(&own).await;
    world.patience = Duration::from_secs(180);
    world.wait_all_ready(4).await;
    assert_eq!(world.registers(), 2 + 5 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_never_come_in_one_namespace_hold_up_no_other() {
    const STUCK: usize = 60;
    let (mut world, stuck, other) = two_namespaces().await;
    let stalled = Rule::all("create secrets", Action::Stall { after: 0 }).of("stuck");
    let mut armed = world.proxies().arm(Side::ApiServer, stalled);
    for number in 1..=STUCK {
        world.device(&format!("stuck-{number}")).await;
    }
    tokio::time::timeout(world.patience, armed.hit(16)).await.expect("many are stalled");
    world.switch_to(&other);

    for number in 1..=5 {
        world.device(&format!("truck-{number}")).await;
        world.wait_ready(&format!("truck-{number}")).await;
    }

    world.switch_to(&stuck);
    let waits = is_pending(&world.get(Kind::Device, "stuck-1").await);
    assert!(waits, "no answer was given up meanwhile");
    drop(armed);
    world.patience = Duration::from_secs(120);
    world.wait_all_ready(1 + STUCK).await;
    assert_eq!(world.registers(), 2 + STUCK + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_closed_without_an_answer_are_made_again() {
    let world = fired_at().await;
    world.proxies().api_server.watches.cut();
    world.devices("truck", 3).await;

    for_a_while(&world, vec![Rule::any(Action::Refuse)], seconds(5, 60)).await;

    all_registered_once(&world, 3).await;
}
