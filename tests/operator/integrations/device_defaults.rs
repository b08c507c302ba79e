//! What devices inherit from their integration reaches them when it changes, unless they have settings of their own.

use serde_json::{Value, json};

use crate::world::objects::{is_ready, revision, uid};
use crate::world::{INTEGRATION, Kind, World, condition};

async fn set_defaults(world: &World, secret: Value) {
    let defaults = json!({"spec": {"deviceDefaults": {"secret": secret}}});
    world.patch(Kind::Integration, INTEGRATION, defaults).await;
}

fn label(secret: &Value) -> &Value {
    &secret["metadata"]["labels"]["line"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inherited_deletion_policy_removes_the_owner_and_puts_it_back() {
    let world = World::start().await;
    let plain = world.devices("plain", 3).await;
    let own = json!({"secret": {"deletionPolicy": "Delete"}});
    world.device_with("own", own).await;
    world.wait_all_ready(4).await;
    let before = world.mark().await;

    set_defaults(&world, json!({"deletionPolicy": "Retain"})).await;

    for name in &plain {
        let orphaned = |secret: &Value| secret["metadata"]["ownerReferences"].is_null();
        world.wait(Kind::Secret, &format!("{name}-hub"), "without an owner", orphaned).await;
    }
    let kept = world.get(Kind::Secret, "own-hub").await;
    assert_eq!(kept["metadata"]["ownerReferences"][0]["name"], "own");

    set_defaults(&world, Value::Null).await;

    for name in &plain {
        let device = world.get(Kind::Device, name).await;
        let owned = |s: &Value| s["metadata"]["ownerReferences"][0]["uid"] == uid(&device);
        let secret = world.wait(Kind::Secret, &format!("{name}-hub"), "owned again", owned).await;
        let owner = &secret["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(true), &json!(false)));
    }
    world.wait_all_ready(4).await;
    assert_eq!(world.ledger_since(before), []);
    assert_eq!(revision(&world.get(Kind::Secret, "own-hub").await), revision(&kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_that_clash_with_a_devices_own_keys_are_refused_for_that_device_only() {
    let world = World::start().await;
    world.devices("plain", 2).await;
    world.device_with("own", json!({"secret": {"keys": {"idScope": "x"}}})).await;
    world.wait_all_ready(3).await;
    let written = world.get(Kind::Secret, "own-hub").await;

    set_defaults(&world, json!({"keys": {"deviceId": "x"}})).await;

    let device = world.wait_reason("own", "InvalidConfiguration").await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(ready.is_true() && ready.message.contains("\"x\""), "{}", ready.message);
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "InvalidConfiguration");
    assert_eq!(condition(&device, "Registered").unwrap().status, "False");
    for name in ["plain-1", "plain-2"] {
        let renamed = |s: &Value| s["data"]["deviceId"].is_null() && s["data"]["x"].is_string();
        world.wait(Kind::Secret, &format!("{name}-hub"), "renamed", renamed).await;
        assert_eq!(world.secret(&format!("{name}-hub")).await["x"], name);
    }
    assert_eq!(revision(&world.get(Kind::Secret, "own-hub").await), revision(&written));

    set_defaults(&world, json!({"keys": {"deviceId": "id"}})).await;

    world.wait_reason("own", "Provisioned").await;
    assert!(condition(&world.get(Kind::Device, "own").await, "Stalled").is_none());
    let values = world.secret("own-hub").await;
    assert_eq!((values["id"].as_str(), values["x"].as_str()), ("own", crate::world::SCOPE));
    assert_eq!(world.registers(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_rollout_holds_changed_labels_as_well() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"rollout": {"paused": true}})).await;
    let plain = world.devices("plain", 3).await;
    world.wait_all_ready(3).await;
    let written = world.secret_revisions().await;

    set_defaults(&world, json!({"labels": {"line": "north"}})).await;
    world.device("late").await;
    world.wait_ready("late").await;

    assert_eq!(label(&world.get(Kind::Secret, "late-hub").await), "north", "new devices have it at once");
    // One that a user changes is not held, and shows that the others had the time.
    world.patch(Kind::Device, "plain-3", json!({"spec": {"secret": {"labels": {"own": "yes"}}}})).await;
    world.wait(Kind::Secret, "plain-3-hub", "labelled", |secret| label(secret) == "north").await;
    for (name, before) in plain.iter().zip(&written).take(2) {
        let secret = world.get(Kind::Secret, &format!("{name}-hub")).await;
        assert_eq!(&revision(&secret), before, "{name}");
        assert!(is_ready(&world.get(Kind::Device, name).await));
    }

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rollout": {"paused": false}}})).await;

    for name in &plain {
        world.wait(Kind::Secret, &format!("{name}-hub"), "labelled", |s| label(s) == "north").await;
    }
    assert_eq!(world.registers(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_defaults_reach_every_device_without_own_settings() {
    let world = World::start().await;
    let own = json!({"secret": {"labels": {"line": "own"}}, "payload": {"site": "own"}});
    world.device("plain").await;
    world.device_with("own", own).await;
    world.wait_all_ready(2).await;

    let defaults = json!({"secret": {"labels": {"line": "inherited", "plant": "nord"}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"deviceDefaults": defaults}})).await;

    for (secret, line) in [("plain-hub", "inherited"), ("own-hub", "own")] {
        let labels = |secret: &Value| secret["metadata"]["labels"].clone();
        let there = |secret: &Value| labels(secret)["plant"] == "nord" && labels(secret)["line"] == line;
        world.wait(Kind::Secret, secret, "labelled", there).await;
    }
    assert_eq!(world.registers(), 2, "labels are not DPS's business");

    let defaults = json!({"payload": {"site": "inherited"}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"deviceDefaults": defaults}})).await;
    world.wait_ledger("another registration of the plain one", |_| world.registers() == 3).await;
    world.wait_all_ready(2).await;
    let hashes = |device: &Value| device["status"]["registeredHash"].clone();
    assert_ne!(hashes(&world.get(Kind::Device, "plain").await), Value::Null);
}
