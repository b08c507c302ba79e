//! Objects change faster than anybody can follow, are larger than usual, or are deleted while they are in use.

use std::time::Duration;

use serde_json::{Value, json};

use super::{fired_at, seconds};
use crate::world::objects::{data, is_ready, revision, uid};
use crate::world::proxy::{Action, Rule, Side};
use crate::world::{INTEGRATION, Kind, Setup, World, manifests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_watch_has_shown_is_done_as_if_it_had_been_seen() {
    let world = fired_at().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(4).await;
    let registers = world.registers();
    let expired = super::expire_watches(&world);
    world.proxies().api_server.watches.hold();

    world.device("gone").await;
    world.delete(Kind::Device, "gone").await;
    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Secret, "truck-1-hub").await;
    world.device("truck-1").await;
    world.patch(Kind::Device, "truck-2", json!({"spec": {"payload": {"site": "a"}}})).await;
    world.patch(Kind::Device, "truck-2", json!({"spec": {"payload": null}})).await;
    world.patch(Kind::Secret, "truck-3-hub", json!({"data": {"deviceId": "bWUK"}})).await;
    world.delete(Kind::Secret, "truck-3-hub").await;
    world.proxies().api_server.watches.cut();
    world.proxies().api_server.watches.release();

    world.wait_ready("truck-1").await;
    world.wait(Kind::Secret, "truck-3-hub", "restored", |secret| data(secret)["deviceId"] == "truck-3").await;
    drop(expired);
    world.wait_all_ready(4).await;
    world.come_to_rest().await;
    assert_eq!(world.registers(), registers + 1, "truck-1's");
    assert_eq!(world.registers_of("gone"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_edited_ten_times_a_second_is_neither_written_nor_registered_for_it() {
    let world = fired_at().await;
    let before = world.proxies().records.len();
    let registers = world.registers();
    let edits = usize::try_from(seconds(5, 60).as_secs()).unwrap() * 10;

    for number in 0..edits {
        let stamp = json!({"metadata": {"annotations": {"example.com/stamp": number.to_string()}}});
        world.patch(Kind::Device, "first", stamp).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    world.come_to_rest().await;
    let records = world.proxies().records.since(before);
    let writes = records.iter().filter(|record| record.call.is_effect() && record.call.is_of("first"));
    // That it was assigned may be told a moment later.
    let writes = writes.filter(|record| record.call.resource != "events").count();
    assert_eq!((writes, world.registers()), (0, registers));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_back_and_forth_end_where_they_began() {
    let world = fired_at().await;
    let secret = world.get(Kind::Secret, "first-hub").await;
    for _ in 0..10 {
        for site in [json!({"site": "a"}), Value::Null] {
            world.patch(Kind::Device, "first", json!({"spec": {"payload": site}})).await;
        }
    }

    world.wait_ready("first").await;
    world.come_to_rest().await;

    assert_eq!(world.get(Kind::Secret, "first-hub").await["data"], secret["data"]);
    let calls = world.registers();
    assert!(calls <= 22, "{calls} registrations for 20 edits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_as_large_as_the_api_server_admits_are_read_and_written() {
    let world = fired_at().await;
    let note = "n".repeat(250_000);
    let mut large = manifests::device("large", json!({}));
    large["metadata"]["annotations"] = json!({"example.com/note": note});
    world.create(Kind::Device, large).await;
    world.wait_ready("large").await;
    let secret = world.get(Kind::Secret, "large-hub").await;
    let mut owners = secret["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    for number in 0..100 {
        let name = format!("owner-{number}");
        let owner = world.create(Kind::ConfigMap, json!({"metadata": {"name": name}})).await;
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid(&owner)}));
    }
    let extra = json!({
        "metadata": {"ownerReferences": owners, "annotations": {"example.com/note": note}},
        "data": {"extra": "QUFB".repeat(150_000)},
    });
    world.patch(Kind::Secret, "large-hub", extra).await;

    world.patch(Kind::Device, "large", json!({"spec": {"payload": {"site": "a"}}})).await;

    world.wait(Kind::Device, "large", "Ready", is_ready).await;
    world.come_to_rest().await;
    let after = world.get(Kind::Secret, "large-hub").await;
    assert_eq!(data(&after)["extra"].len(), 450_000);
    assert_eq!(after["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(101));
    assert_eq!(after["metadata"]["annotations"]["example.com/note"], note);
    assert_eq!(world.registers_of("large"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_are_all_written_anew_cost_no_call_and_no_write() {
    const DEVICES: usize = 30;
    let world = fired_at().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(1 + DEVICES).await;
    world.come_to_rest().await;
    let before = world.proxies().records.len();

    // As a new encryption key has it done: the same content, under another version.
    for number in 1..=DEVICES {
        let stamp = json!({"metadata": {"annotations": {"example.com/encrypted": "again"}}});
        world.patch(Kind::Secret, &format!("truck-{number}-hub"), stamp).await;
    }

    world.device("witness").await;
    world.wait_ready("witness").await;
    world.come_to_rest().await;
    let records = world.proxies().records.since(before).into_iter();
    let writes: Vec<String> = records
        .filter(|record| record.call.is_effect() && record.call.is_of("truck"))
        .filter(|record| record.call.to_string() != "update provisioneddevices/status")
        .map(|record| format!("{} {}", record.call, record.call.name))
        .collect();
    assert_eq!(writes, [""; 0]);
}

/// A device is replaced by one of its name while this request of the first one is under way.
async fn replaced_at(world: &World, device: &str, (side, call): (Side, &str), action: Action) {
    let mut armed = world.proxies().arm(side, Rule::next(call, action).of(device));
    world.device(device).await;
    tokio::time::timeout(world.patience, armed.hit(1)).await.expect("it comes to this request");
    world.delete(Kind::Device, device).await;
    let second = world.device(device).await;

    world.wait(Kind::Device, device, "Ready", |object| is_ready(object) && uid(object) == uid(&second)).await;
    let own = |secret: &Value| secret["metadata"]["ownerReferences"][0]["uid"] == uid(&second);
    world.wait(Kind::Secret, &format!("{device}-hub"), "its own", own).await;
    world.wait_ready(device).await;
    assert!(world.hub_accepts(device, &format!("{device}-hub")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_replaced_at_any_point_of_its_registration_gives_way_to_the_new_one() {
    let world = fired_at().await;
    let late = Duration::from_millis(500);
    let points = [
        (Side::Dps, "register"),
        (Side::Dps, "poll"),
        (Side::ApiServer, "create secrets"),
        (Side::ApiServer, "update provisioneddevices/status"),
    ];
    let mut number = 0;
    for point in points {
        for action in [Action::Delay(late), Action::Late(late)] {
            number += 1;
            replaced_at(&world, &format!("truck-{number}"), point, action).await;
        }
    }

    world.come_to_rest().await;
    assert_eq!(world.list(Kind::Device).await.iter().filter(|device| is_ready(device)).count(), 1 + number);
    assert_eq!(world.assert_secrets_accepted().await, 1 + number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_runs_out_of_descriptors_goes_on_when_it_can() {
    const DEVICES: usize = 60;
    let world = World::start().await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.limit_descriptors(40);

    world.devices("truck", DEVICES).await;

    world.wait_all_ready(1 + DEVICES).await;
    assert_eq!(world.assert_secrets_accepted().await, 1 + DEVICES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crds_that_come_after_the_operator_are_waited_for() {
    let mut world = World::without_operator(Setup::own_control_plane(&[])).await;
    let crds = ["provisioneddevices.dps-operator.io", "dpsintegrations.dps-operator.io"];
    for crd in crds {
        world.control_plane().kubectl_ok(&["delete", "crd", crd]).unwrap();
    }
    world.start_operator().await;
    world.first_replica().wait_log("are its CRDs installed").await;
    assert!(world.operator_runs(), "{}", world.operator_log_tail());

    for crd in ["provisioneddevices", "dpsintegrations"] {
        let text = crate::world::commands::read(&format!("crds/{crd}.dps-operator.io.yaml"));
        world.control_plane().apply(&text).unwrap();
    }
    world.control_plane().kubectl_ok(&["wait", "crd", "--all", "--for=condition=Established"]).unwrap();
    world.integration(INTEGRATION).await;
    let first = world.device("first").await;

    world.wait_ready("first").await;
    assert_eq!(world.registers(), 1);
    assert_ne!(revision(&world.get(Kind::Device, "first").await), revision(&first));
}
