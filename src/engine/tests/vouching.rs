//! What others have written into a Secret is not believed against what DPS said.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{HUBS, KEY, OTHER_KEY, World};

/// Which the group gets after both of its keys.
const THIRD_KEY: &str = "ZW5naW5lLXRlc3Qta2V5LW9mLW5vLWdyb3VwLTAwMDM=";
pub(super) const SECRET: &str = "truck-1-hub";
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const TOKEN: &str = "dps-operator.io/reprovision-requested-at";

/// With the settled device `truck-1`, on the first hub.
pub(super) async fn settled() -> World {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world
}

pub(super) fn secret(world: &World) -> Value {
    world.api.get("secrets", SECRET).unwrap()
}

/// What is in the Secret and would be in one that was created from it.
pub(super) fn content(secret: &Value) -> Value {
    let meta = &secret["metadata"];
    json!({"type": secret["type"], "data": secret["data"],
        "metadata": {"labels": meta["labels"], "annotations": meta["annotations"]}})
}

pub(super) fn text(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap()).unwrap()
}

/// Everything that names the hub names the other one, long after.
fn moved(secret: &Value) -> Value {
    let mut forged = content(secret);
    let [from, to] = HUBS;
    let annotations = &mut forged["metadata"]["annotations"];
    let assignment = annotations["dps-operator.io/assignment"].as_str().unwrap().replace(from, to);
    let mut assignment: Value = serde_json::from_str(&assignment).unwrap();
    assignment["time"] = json!("2099-01-01T00:00:00Z");
    annotations["dps-operator.io/assignment"] = json!(assignment.to_string());
    for key in ["connectionString", "iotHubHostname"] {
        forged["data"][key] = json!(STANDARD.encode(text(secret, key).replace(from, to)));
    }
    forged
}

fn is_of_first_hub(world: &World) -> bool {
    let secret = world.api.get("secrets", SECRET).unwrap_or_default();
    world.status("truck-1")["assignedHub"] == HUBS[0]
        && text(&secret, "connectionString").contains(HUBS[0])
        && text(&secret, "iotHubHostname") == HUBS[0]
        && secret["metadata"]["annotations"]["dps-operator.io/assignment"].as_str().unwrap().contains(HUBS[0])
}

#[tokio::test]
async fn a_secret_that_is_edited_in_all_its_parts_is_undone_without_a_call() {
    let mut world = settled().await;
    let forged = moved(&secret(&world));
    let calls = world.dps.control().ledger_len();
    for restart in [false, true] {
        world.api.apply("secrets", SECRET, forged.clone());
        if restart {
            world.restart();
        }
        world.deliver();
        world.until("the Secret as it was", is_of_first_hub).await;
        world.until_idle(0).await;
        assert!(is_of_first_hub(&world));
    }
    assert_eq!(world.dps.control().ledger_len(), calls);
}

#[tokio::test]
async fn marks_that_the_seal_does_not_cover_are_put_back_too() {
    let mut world = settled().await;
    let calls = world.dps.control().ledger_len();
    let marks = |world: &World| {
        let secret = secret(world);
        json!([secret["metadata"]["labels"], secret["metadata"]["ownerReferences"]])
    };
    let before = marks(&world);
    for edit in [json!({"ownerReferences": null}), json!({"labels": {"dps-operator.io/device": "other"}})] {
        world.pass(MINUTE);
        world.api.apply("secrets", SECRET, json!({"metadata": edit}));
        world.deliver();
        assert_ne!(marks(&world), before);
        world.until("the marks", |world| marks(world) == before).await;
        world.until_idle(0).await;
    }
    assert_eq!(world.dps.control().ledger_len(), calls);
}

#[tokio::test]
async fn a_secret_that_lies_there_before_its_device_makes_it_ready_only_after_dps_was_asked() {
    let mut world = settled().await;
    let written = secret(&world);
    world.delete("provisioneddevices", "truck-1");
    world.delete("secrets", SECRET);
    let unsealed = |mut secret: Value| {
        secret["metadata"]["annotations"]["dps-operator.io/seal"].take();
        secret
    };
    for planted in [moved(&written), unsealed(moved(&written)), unsealed(content(&written))] {
        world.pass(MINUTE);
        world.api.apply("secrets", SECRET, planted);
        world.deliver();
        let calls = world.dps.control().ledger_len();

        world.declare("truck-1", json!({}));
        world.until_ready("truck-1").await;

        world.until_idle(0).await;
        assert!(is_of_first_hub(&world));
        assert_eq!(world.dps.control().ledger_len(), calls + 1, "it is looked up");
        assert_eq!(world.registers(), 1);
        assert_eq!(content(&secret(&world))["data"], content(&written)["data"]);
        world.delete("provisioneddevices", "truck-1");
        world.delete("secrets", SECRET);
    }
}

#[tokio::test]
async fn a_device_restored_without_its_status_takes_it_from_its_sealed_secret_without_a_call() {
    let mut world = settled().await;
    let (before, written) = (world.status("truck-1"), content(&secret(&world)));
    let calls = world.dps.control().ledger_len();
    world.delete("provisioneddevices", "truck-1");
    world.delete("secrets", SECRET);
    world.api.apply("secrets", SECRET, written);
    world.deliver();

    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;

    world.until_idle(0).await;
    for field in ["assignedHub", "credential", "registeredHash", "assignment", "lastRegistrationTime"] {
        assert_eq!(world.status("truck-1")[field], before[field], "{field}");
    }
    assert!(secret(&world)["metadata"]["ownerReferences"].is_array());
    assert_eq!(world.dps.control().ledger_len(), calls);
}

#[tokio::test]
async fn an_old_secret_that_is_put_back_whole_is_replaced_by_the_present_one() {
    let mut world = settled().await;
    let old = content(&secret(&world));
    world.pass(MINUTE);
    world.dps.control().move_device(super::SCOPE, "truck-1", HUBS[1]).unwrap();
    world.api.apply(
        "provisioneddevices",
        "truck-1",
        json!({"metadata": {"annotations": {
            "reconcile.fluxcd.io/requestedAt": "1",
        }}}),
    );
    world.deliver();
    let of_second = |world: &World| {
        world.status("truck-1")["assignedHub"] == HUBS[1] && text(&secret(world), "iotHubHostname") == HUBS[1]
    };
    world.until("the other hub", of_second).await;
    world.until_idle(0).await;
    let calls = world.dps.control().ledger_len();

    world.api.apply("secrets", SECRET, old);
    world.deliver();
    assert!(!of_second(&world));
    world.until("the present hub", of_second).await;

    world.until_idle(0).await;
    assert!(of_second(&world));
    assert_eq!(
        world.dps.control().ledger_len(),
        calls + 1,
        "it is looked up: the status might be forged as well"
    );
}

#[tokio::test]
async fn an_end_between_secret_and_status_serves_no_request_and_no_change_twice() {
    let mut world = settled().await;
    let (token, payload) =
        (json!({"metadata": {"annotations": {TOKEN: "1"}}}), json!({"spec": {"payload": {"site": "b"}}}));
    for (number, (kind, name, change)) in [
        ("provisioneddevices", "truck-1", token.clone()),
        ("provisioneddevices", "truck-1", payload),
        ("dpsintegrations", "factory", token),
    ]
    .into_iter()
    .enumerate()
    {
        world.pass(MINUTE);
        let version = secret(&world)["metadata"]["resourceVersion"].clone();
        world.api.set_unavailable(&["truck-1/status"]);
        world.api.apply(kind, name, change);
        world.deliver();
        let written = |world: &World| secret(world)["metadata"]["resourceVersion"] != version;
        world.until("the Secret", written).await;

        world.api.set_unavailable(&[]);
        world.restart();

        let echoed = |world: &World| {
            let object = world.api.get("provisioneddevices", "truck-1").unwrap();
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
                && object["status"]["lastHandledReprovisionToken"] == "1"
                && (kind != "dpsintegrations" || object["status"]["lastHandledIntegrationToken"] == "1")
        };
        world.until("the status", echoed).await;
        world.until_idle(0).await;
        assert_eq!(world.registers(), number + 2);
    }
}

#[tokio::test]
async fn no_edit_of_a_status_reaches_the_secret_and_what_dps_said_is_put_back() {
    let mut world = settled().await;
    let (status, data) = (world.status("truck-1"), secret(&world)["data"].clone());
    for (edit, restart) in [
        (json!({"assignedHub": HUBS[1]}), false),
        (json!({"assignedHub": HUBS[1]}), true),
        (json!({"assignedHub": HUBS[1], "lastRegistrationTime": "2099-01-01T00:00:00Z"}), true),
        (json!({"assignedHub": "hub.example.com"}), false),
        (json!({"deviceId": "truck-9", "registrationId": "truck-9"}), true),
        (json!({"deviceId": "truck-9"}), false),
        (json!({"registeredHash": "v1:0000000000000000"}), false),
        (json!({"credential": {"fingerprint": "0000000000000000"}}), false),
        (json!({"idScope": "0neOTHER"}), true),
        (json!({"returnedPayloadHash": "v1:0000000000000000"}), true),
        (json!({"secret": {"resourceVersion": "1"}}), false),
        (json!({"secret": {"name": "other"}}), false),
        (json!({"secret": null}), true),
        (json!({"conditions": []}), false),
    ] {
        world.pass(20 * MINUTE);
        world.api.apply("provisioneddevices", "truck-1", json!({"status": edit.clone()}));
        if restart {
            world.restart();
        }
        world.deliver();
        // Another writer of the status is given way to for a while.
        for _ in 0..3 {
            world.until_idle(0).await;
            world.pass(MINUTE);
        }
        let fields = ["assignedHub", "deviceId", "registrationId", "idScope", "credential", "registeredHash"];
        let as_before = |world: &World| {
            let now = world.status("truck-1");
            fields.iter().all(|field| now[field] == status[field]) && now["secret"]["name"] == SECRET
        };
        world.until(&format!("as before {edit}"), as_before).await;
        world.until_ready("truck-1").await;
        world.until_idle(0).await;
        assert_eq!(secret(&world)["data"], data, "{edit}");
    }
}

/// Consistent in itself: its hashes are as the operator would have made them.
fn lie(world: &World, time: &str) -> Value {
    let version = secret(world)["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let (_, status) = world.provisioned("truck-1", HUBS[1], version);
    let mut status = serde_json::to_value(status).unwrap();
    status["lastRegistrationTime"] = json!(time);
    status
}

#[tokio::test]
async fn a_lie_in_a_status_that_is_consistent_in_itself_is_looked_up() {
    let mut world = settled().await;
    let (hub, data) = (world.status("truck-1")["assignedHub"].clone(), secret(&world)["data"].clone());
    for also_deleted in [false, true] {
        world.pass(20 * MINUTE);
        let calls = world.dps.control().ledger_len();
        let lie = lie(&world, "2099-01-01T00:00:00Z");
        world.api.apply("provisioneddevices", "truck-1", json!({"status": lie}));
        if also_deleted {
            world.api.delete("secrets", SECRET);
        }
        world.deliver();
        let wrong = |world: &World| {
            world
                .api
                .count("secrets", |secret| secret["metadata"]["name"] == SECRET && secret["data"] != data)
        };
        // Another writer of the status is given way to for a while.
        for _ in 0..3 {
            world
                .until("nothing to do", |world| {
                    assert_eq!(wrong(world), 0);
                    world.engine.active.going_on() == 0 && !world.engine.ready.has_ready()
                })
                .await;
            world.pass(MINUTE);
        }
        world.until("what DPS says", |world| world.status("truck-1")["assignedHub"] == hub).await;
        world.until_ready("truck-1").await;
        world.until_idle(0).await;
        assert_eq!(secret(&world)["data"], data);
        assert_eq!((world.dps.control().ledger_len(), world.registers()), (calls + 1, 1), "{also_deleted}");
    }
}

#[tokio::test]
async fn such_a_lie_of_the_time_when_no_operator_ran_is_looked_up_as_well() {
    let mut world = settled().await;
    let (hub, data) = (world.status("truck-1")["assignedHub"].clone(), secret(&world)["data"].clone());
    let lie = lie(&world, "2099-01-01T00:00:00Z");
    let calls = world.dps.control().ledger_len();
    world.api.apply("provisioneddevices", "truck-1", json!({"status": lie}));
    world.restart();
    world.show_keys(KEY, OTHER_KEY);
    world.until("what DPS says", |world| world.status("truck-1")["assignedHub"] == hub).await;
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    assert_eq!(secret(&world)["data"], data);
    assert_eq!((world.dps.control().ledger_len(), world.registers()), (calls + 1, 1));
}

#[tokio::test]
async fn of_a_secret_whose_key_is_gone_nothing_is_believed_that_dps_and_the_rest_of_it_do_not_say() {
    let policies = [json!({}), json!({"reprovision": {"policy": "Never"}})];
    let edits = [
        ("connectionString", "HostName=hub-x.azure-devices.net;DeviceId=truck-1;SharedAccessKey=eA=="),
        ("iotHubHostname", "hub-x.azure-devices.net"),
        ("deviceId", "truck-2"),
        ("sharedAccessKey", "eA=="),
    ];
    for (policy, paused) in policies.iter().flat_map(|policy| [(policy, false), (policy, true)]) {
        for (key, forged) in edits {
            let mut world = World::start(&[]).await;
            let spec = json!({"secret": {"deletionPolicy": "Retain"}});
            world.declare("truck-1", spec.clone());
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            world.delete("provisioneddevices", "truck-1");
            world.api.apply("secrets", SECRET, json!({"data": {key: STANDARD.encode(forged)}}));
            world.deliver();
            world.declare_integration(json!({"rollout": {"paused": paused}}));
            world.show_keys(OTHER_KEY, THIRD_KEY);
            world.declare("truck-2", json!({}));
            world.until_ready("truck-2").await;

            let mut again = policy.clone();
            again["secret"] = spec["secret"].clone();
            world.declare("truck-1", again);

            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            let says = text(&secret(&world), key);
            assert_ne!(says, forged, "{policy} {paused}");
        }
    }
}
