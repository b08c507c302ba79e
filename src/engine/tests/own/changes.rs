//! What becomes of a device when its own key, or what it is registered with, changes.

use serde_json::{Value, json};

use super::super::vouching::text;
use super::super::{KEY, SCOPE, World, condition};
use super::{MINUTE, in_slot, key, own, ready};

fn shared_access_key(world: &World) -> String {
    text(&world.hub_secret("edge-7"), "sharedAccessKey")
}

fn versions(world: &World) -> [Value; 2] {
    let version = |object: Value| object["metadata"]["resourceVersion"].clone();
    let device = world.api.get("provisioneddevices", "edge-7").unwrap();
    [version(world.hub_secret("edge-7")), version(device)]
}

async fn settled() -> World {
    let mut world = World::per_device().await.with_own("edge-7").await;
    world.until_idle(0).await;
    world
}

#[tokio::test]
async fn a_changed_key_is_registered_before_the_device_sees_it_and_a_touched_secret_is_not() {
    let mut world = settled().await;
    let before = (world.registers(), world.writes());
    let touched = json!({"metadata": {"annotations": {"example.com/touched": "1"}}});
    world.api.apply("secrets", "edge-7-dps", touched);
    world.deliver();
    world.until_idle(0).await;
    assert_eq!((world.registers(), world.writes()), before);
    assert_eq!(world.api.reads("secrets", "edge-7-dps"), 2, "it is read once");

    world.give_keys("edge-7", &key(3), &key(4));
    world.until_reason("edge-7", "Unauthorized").await;
    world.until_idle(0).await;
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Unauthorized"]), "what it has is good still");
    let status = world.status("edge-7");
    assert_eq!(condition(&status, "Registered")["status"], "False");
    assert_eq!(shared_access_key(&world), key(1));

    world.enroll("edge-7", 3, 4);
    world.pass(MINUTE * 2);
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!(shared_access_key(&world), key(3));
    assert!(world.dps.control().accepts_device_key(SCOPE, "edge-7", &key(3)));
    assert_eq!(world.status("edge-7")["credential"]["secretResourceVersion"], world.source_version("edge-7"));
    let before = (world.asked(), world.writes());
    world.restart();
    world.until_idle(0).await;
    assert_eq!((world.asked(), world.writes()), before);
}

#[tokio::test]
async fn the_other_slot_is_used_when_it_is_asked_for() {
    let mut world = settled().await;
    world.declare("edge-7", in_slot("edge-7", "Secondary"));
    world.until("the other key", |world| shared_access_key(world) == key(2)).await;
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!(world.status("edge-7")["credential"]["slot"], "Secondary");
    assert_eq!(world.registers(), 2);
    world.declare("edge-7", in_slot("edge-7", "Primary"));
    world.until("the first key", |world| shared_access_key(world) == key(1)).await;
    assert_eq!(world.registers(), 3);
}

#[tokio::test]
async fn a_device_goes_from_its_group_to_a_key_of_its_own_and_back_with_one_registration_each() {
    let mut world = World::start(&[]).await;
    world.declare("edge-7", json!({}));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    let derived = shared_access_key(&world);

    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", own("edge-7"));
    world.until("its own key", |world| shared_access_key(world) == key(1)).await;
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!(world.registers(), 2);
    assert_eq!(world.status("edge-7")["credential"]["secretName"], "edge-7-dps");

    // Its enrollment is gone in Azure.
    world.dps.control().set_device_enabled(SCOPE, "edge-7", true).unwrap();
    world.dps.control().remove_device_enrollment(SCOPE, "edge-7").unwrap();
    world.declare("edge-7", json!({"attestation": null}));
    world.until("the derived key", |world| shared_access_key(world) == derived).await;
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!(world.registers(), 3);
    assert_eq!(world.status("edge-7")["credential"]["secretName"], Value::Null);
    assert_ne!(derived, KEY);
}

#[tokio::test]
async fn a_missing_key_is_waited_for_and_one_that_is_none_is_named_and_mended() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.declare("edge-7", own("edge-7"));
    world.until_reason("edge-7", "KeySecretNotFound").await;
    let status = world.status("edge-7");
    let condition = |status: &Value, kind: &str| super::condition(status, kind).clone();
    assert_eq!(condition(&status, "Reconciling")["status"], "True");
    let message = condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("\"edge-7-dps\" does not exist") && message.contains("\"primaryKey\""),
        "{message}"
    );
    assert_eq!(condition(&status, "Registered")["reason"], "KeySecretNotFound");

    world.give_keys("edge-7", "HostName=x.azure-devices.net;SharedAccessKey=abc", &key(2));
    world.until_reason("edge-7", "KeyInvalid").await;
    let status = world.status("edge-7");
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert!(!world.api.dump().contains("abc"), "nothing of it is shown");
    assert_eq!(world.asked(), 0);

    world.give_keys("edge-7", &key(1), &key(2));
    world.until_ready("edge-7").await;
    assert_eq!(world.registers(), 1);
}

#[tokio::test]
async fn a_key_that_goes_changes_nothing_before_it_is_needed() {
    let mut world = settled().await;
    let before = (world.asked(), world.writes(), versions(&world));
    world.delete("secrets", "edge-7-dps");
    world.until_idle(0).await;
    world.restart();
    world.until_idle(0).await;
    assert_eq!((world.asked(), world.writes(), versions(&world)), before);

    // A payload cannot be handed over without it.
    world.declare("edge-7", json!({"payload": {"site": "north"}}));
    world.until_reason("edge-7", "KeySecretNotFound").await;
    assert_eq!(ready(&world, "edge-7"), json!(["True", "KeySecretNotFound"]));
    world.delete("secrets", "edge-7-hub");
    world.until_reason("edge-7", "CredentialUnavailable").await;
    assert_eq!(ready(&world, "edge-7"), json!(["False", "CredentialUnavailable"]));

    world.give_keys("edge-7", &key(1), &key(2));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!((world.registers(), shared_access_key(&world)), (2, key(1)));
}

#[tokio::test]
async fn a_deleted_secret_is_written_again_from_its_key_without_a_call() {
    let mut world = settled().await;
    let calls = world.asked();
    world.delete("secrets", "edge-7-hub");
    world.until("it is back", |world| !world.hub_secret("edge-7").is_null()).await;
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!((world.asked(), shared_access_key(&world)), (calls, key(1)));
}

#[tokio::test]
async fn without_its_status_a_device_is_looked_up_and_not_registered() {
    let mut world = settled().await;
    world.api.forget_statuses();
    world.restart();
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    let operations: Vec<_> = world.dps.control().ledger().iter().map(|entry| entry.operation).collect();
    let lookups = operations.iter().filter(|kind| **kind == dps_simulator::OperationKind::Lookup).count();
    assert_eq!((world.registers(), lookups), (1, 1), "whoever has its key could have made up its Secret");
    assert_eq!(world.status("edge-7")["credential"]["secretName"], "edge-7-dps");
}

#[tokio::test]
async fn with_policy_never_a_new_key_is_left_out_and_said() {
    let mut world = settled().await;
    let mut spec = own("edge-7");
    spec["reprovision"] = json!({"policy": "Never"});
    world.declare("edge-7", spec);
    world.until_idle(0).await;
    world.give_keys("edge-7", &key(3), &key(4));
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_idle(0).await;
    let status = world.status("edge-7");
    let message = condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("policy is Never: the new key"), "{message}");
    assert_eq!((world.registers(), shared_access_key(&world)), (1, key(1)));
}

#[tokio::test]
async fn the_secret_that_is_written_is_never_its_own_source() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    let mut spec = own("edge-7");
    spec["secret"] = json!({"name": "edge-7-dps"});
    world.declare("edge-7", spec);
    world.until_reason("edge-7", "InvalidConfiguration").await;
    assert_eq!(world.asked(), 0);
    let source = world.api.get("secrets", "edge-7-dps").unwrap();
    assert_eq!(source["data"]["connectionString"], Value::Null);
}

#[tokio::test]
async fn a_key_that_changes_while_its_integration_is_suspended_is_registered_afterwards() {
    let mut world = settled().await;
    let suspended =
        |suspend: bool| json!({"attestation": {"perDevice": {}, "symmetricKey": null}, "suspend": suspend});
    world.declare_integration(suspended(true));
    world.enroll("edge-7", 3, 4);
    world.give_keys("edge-7", &key(3), &key(4));
    for _ in 0..3 {
        world.until_idle(0).await;
        world.pass(MINUTE);
    }
    assert_eq!((world.registers(), shared_access_key(&world)), (1, key(1)));
    world.declare_integration(suspended(false));
    world.until("the new key", |world| shared_access_key(world) == key(3)).await;
    world.until_ready("edge-7").await;
    assert_eq!(world.registers(), 2);
}

#[tokio::test]
async fn also_if_another_process_goes_on() {
    let mut world = settled().await;
    let attestation = json!({"perDevice": {}, "symmetricKey": null});
    world.declare_integration(json!({"attestation": attestation, "suspend": true}));
    world.enroll("edge-7", 3, 4);
    world.give_keys("edge-7", &key(3), &key(4));
    for _ in 0..3 {
        world.until_idle(0).await;
        world.pass(MINUTE);
    }
    world.restart();
    world.until_idle(0).await;
    world.declare_integration(json!({"attestation": attestation, "suspend": false}));
    world.until("the new key", |world| shared_access_key(world) == key(3)).await;
    assert_eq!(world.registers(), 2);
}

/// What is written meanwhile does not say that the new key was looked at: the next process knows no more.
#[tokio::test]
async fn nor_is_one_lost_that_policy_never_has_left_out() {
    let mut world = settled().await;
    let attestation = json!({"perDevice": {}, "symmetricKey": null});
    let policy = |policy: &str| {
        json!({
            "attestation": attestation,
            "deviceDefaults": {"driftCheck": {"interval": "0s"}, "reprovision": {"policy": policy}},
        })
    };
    world.declare_integration(policy("Never"));
    world.enroll("edge-7", 3, 4);
    world.give_keys("edge-7", &key(3), &key(4));
    for _ in 0..3 {
        world.until_idle(0).await;
        world.pass(MINUTE);
    }
    assert_eq!(world.registers(), 1);
    world.restart();
    world.until_idle(0).await;
    world.declare_integration(policy("OnChange"));
    world.until("the new key", |world| shared_access_key(world) == key(3)).await;
    assert_eq!(world.registers(), 2);
}

#[tokio::test]
async fn what_was_read_for_a_spec_of_before_is_not_used() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.api.set_latency(std::time::Duration::from_millis(100));
    world.declare("edge-7", own("edge-7"));
    world.engine.turn(true, world.now);
    world.declare("edge-7", in_slot("edge-7", "Secondary"));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!((world.registers(), shared_access_key(&world)), (1, key(2)));
}

#[tokio::test]
async fn a_secret_that_a_key_is_read_from_is_never_written() {
    let mut world = settled().await;
    let adopt = json!({"metadata": {"annotations": {"dps-operator.io/adopt": "true"}}});
    world.api.apply("secrets", "edge-7-dps", adopt);
    world.deliver();
    let source = world.api.get("secrets", "edge-7-dps").unwrap();
    let mut other = own("edge-8");
    other["secret"] = json!({"name": "edge-7-dps"});
    world.enroll("edge-8", 1, 2);
    world.give_keys("edge-8", &key(1), &key(2));
    world.declare("edge-8", other);
    world.until_reason("edge-8", "SecretConflict").await;
    assert_eq!(world.api.get("secrets", "edge-7-dps").unwrap(), source);
    assert_eq!(world.registers(), 1);
    // Nobody reads it any more.
    world.declare("edge-7", json!({"attestation": null}));
    world.until("another device may have it", |world| world.registers() >= 2).await;
}
