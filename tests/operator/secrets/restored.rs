//! The generated Secret is kept as it should be, without asking DPS.

use std::time::{Duration, Instant};

use dps_simulator::{AllocationPolicy, Webhook, WebhookAnswer};
use serde_json::{Value, json};

use crate::world::objects::{data, identity, is_ready, uid};
use crate::world::{HUBS, INTEGRATION, Kind, POLL, SCOPE, Setup, World, condition};

const SECRET: &str = "truck-1-hub";

/// A world with the settled device `truck-1`.
async fn settled(secret: Value) -> World {
    let world = World::start().await;
    world.device_with("truck-1", json!({"secret": secret})).await;
    world.wait_ready("truck-1").await;
    world
}

/// Waits until the device's status knows the Secret's present version: the repair is complete.
async fn wait_recorded(world: &World) -> Value {
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    loop {
        let device = world.get(Kind::Device, "truck-1").await;
        let secret = world.find(Kind::Secret, SECRET).await.unwrap_or_default();
        let recorded = &device["status"]["secret"]["resourceVersion"];
        if is_ready(&device) && recorded.is_string() && *recorded == secret["metadata"]["resourceVersion"] {
            return secret;
        }
        if std::time::Instant::now() >= deadline {
            world.give_up("the Secret's version was never recorded", &json!([device, secret]));
        }
        tokio::time::sleep(crate::world::POLL).await;
    }
}

/// Whether the two say the same. Of the assignment's time, the status keeps whole seconds only.
fn looks_like(secret: &Value, other: &Value) -> bool {
    let essence = |secret: &Value| {
        let mut annotations = secret["metadata"]["annotations"].clone();
        let assignment = annotations["dps-operator.io/assignment"].take();
        let mut assignment: Value =
            serde_json::from_str(assignment.as_str().unwrap_or_default()).unwrap_or_default();
        assignment["time"] = json!(assignment["time"].as_str().unwrap_or_default().get(..19));
        let metadata = &secret["metadata"];
        json!([secret["data"], metadata["labels"], metadata["ownerReferences"], annotations, assignment])
    };
    essence(secret) == essence(other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_secret_is_restored_without_calling_dps() {
    let world = settled(json!({})).await;
    let (written, before) = (world.get(Kind::Secret, SECRET).await, world.mark().await);

    for _ in 0..3 {
        let gone = wait_recorded(&world).await;
        world.delete(Kind::Secret, SECRET).await;

        world.wait(Kind::Secret, SECRET, "another one", |secret| uid(secret) != uid(&gone)).await;
    }
    let restored = wait_recorded(&world).await;
    assert_eq!(restored["data"], written["data"]);
    assert!(looks_like(&restored, &written), "{restored:#} {written:#}");
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_emptied_or_unlabelled_secret_is_restored_without_calling_dps() {
    let world = settled(json!({})).await;
    let (written, before) = (world.get(Kind::Secret, SECRET).await, world.mark().await);
    let edits = [
        json!({"data": {"sharedAccessKey": "bWFuZ2xlZA=="}}),
        json!({"data": {"connectionString": null}}),
        json!({"data": null}),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"dps-operator.io/rendered-hash": "v1:0000000000000000"}}}),
        json!({"metadata": {"annotations": {"dps-operator.io/assignment": "not json"}}}),
        json!({"metadata": {"ownerReferences": null}}),
    ];

    for edit in edits {
        world.patch(Kind::Secret, SECRET, edit.clone()).await;

        let same = |secret: &Value| uid(secret) == uid(&written) && looks_like(secret, &written);
        world.wait(Kind::Secret, SECRET, &format!("as before {edit}"), same).await;
        wait_recorded(&world).await;
    }
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_touched_but_is_right_is_not_written() {
    let mut world = settled(json!({})).await;
    // Afterwards it knows of the device what its status tells, as after weeks of rest.
    world.restart_operator().await;
    let before = world.mark().await;

    let label = json!({"metadata": {"labels": {"team": "logistics"}}});
    world.patch(Kind::Secret, SECRET, label).await;

    world.device("witness").await;
    world.wait_ready("witness").await;
    wait_recorded(&world).await;
    assert_eq!(world.writes_since(before).await.get("patch secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_into_our_secret_stays() {
    let world = settled(json!({})).await;
    let friend = world.create(Kind::ConfigMap, json!({"metadata": {"name": "friend"}})).await;
    let ours = world.get(Kind::Secret, SECRET).await["metadata"]["ownerReferences"][0].clone();
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "friend", "uid": uid(&friend)});

    let additions = json!({
        "metadata": {
            "labels": {"team": "logistics"},
            "annotations": {"example.com/note": "hello"},
            "ownerReferences": [ours, theirs],
        },
        "data": {"extra": "Z3Vlc3Q=", "deviceId": "bWFuZ2xlZA=="},
    });
    world.patch(Kind::Secret, SECRET, additions).await;

    let mended = |secret: &Value| data(secret)["deviceId"] == "truck-1";
    let secret = world.wait(Kind::Secret, SECRET, "mended", mended).await;
    assert_eq!(data(&secret)["extra"], "guest");
    assert_eq!(secret["metadata"]["labels"]["team"], "logistics");
    assert_eq!(secret["metadata"]["annotations"]["example.com/note"], "hello");
    assert_eq!(secret["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_key_replaces_the_old_one_and_spares_those_of_others() {
    let world = settled(json!({})).await;
    world.patch(Kind::Secret, SECRET, json!({"data": {"extra": "Z3Vlc3Q="}})).await;
    let before = world.mark().await;

    let keys = json!({"connectionString": "conn", "idScope": ""});
    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"keys": keys}}})).await;

    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, SECRET).await;
    let names: Vec<String> = data(&secret).into_keys().collect();
    assert_eq!(names, ["conn", "deviceId", "extra", "iotHubHostname", "registrationId", "sharedAccessKey"]);
    let managed = secret["metadata"]["annotations"]["dps-operator.io/managed-keys"].as_str().unwrap();
    assert!(!managed.contains("extra") && !managed.contains("connectionString"), "{managed}");
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_labels_annotations_and_gateway_rewrite_the_secret_without_calling_dps() {
    let world = settled(json!({"labels": {"tier": "edge"}})).await;
    let before = world.mark().await;

    let changed = json!({
        "labels": {"tier": "core"}, "annotations": {"example.com/a": "b"}, "gatewayHostname": "gw.local",
    });
    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": changed}})).await;

    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, SECRET).await;
    assert_eq!(secret["metadata"]["labels"]["tier"], "core");
    assert_eq!(secret["metadata"]["annotations"]["example.com/a"], "b");
    assert!(data(&secret)["connectionString"].ends_with(";GatewayHostName=gw.local"));
    assert_eq!(world.ledger_since(before), []);
    assert_eq!(world.writes_since(before).await.get("patch secrets"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_secret_outlives_its_device_and_serves_the_next_one_without_calling_dps() {
    let world = settled(json!({"deletionPolicy": "Retain"})).await;
    let secret = world.get(Kind::Secret, SECRET).await;
    assert!(secret["metadata"]["ownerReferences"].is_null());
    world.device("other").await;
    world.wait_ready("other").await;

    world.delete(Kind::Device, "truck-1").await;
    world.delete(Kind::Device, "other").await;

    world.wait_gone(Kind::Secret, "other-hub").await;
    assert_eq!(identity(&world.get(Kind::Secret, SECRET).await), identity(&secret));
    let before = world.mark().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let taken = wait_recorded(&world).await;
    assert_eq!(uid(&taken), uid(&secret));
    assert_eq!(taken["data"], secret["data"]);
    assert_eq!(taken["metadata"]["ownerReferences"][0]["uid"], uid(&device));
    assert_eq!(device["status"]["assignedHub"].as_str().unwrap(), data(&secret)["iotHubHostname"]);
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn toggling_the_deletion_policy_adds_and_removes_the_owner_and_nothing_else() {
    let world = settled(json!({})).await;
    let (written, before) = (world.get(Kind::Secret, SECRET).await, world.mark().await);

    for (policy, owners) in [("Retain", 0), ("Delete", 1), ("Retain", 0)] {
        let toggled = json!({"spec": {"secret": {"deletionPolicy": policy}}});
        world.patch(Kind::Device, "truck-1", toggled).await;
        world.wait_ready("truck-1").await;

        let secret = wait_recorded(&world).await;
        let present = secret["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
        assert_eq!(present, owners, "{policy}");
        assert_eq!((uid(&secret), &secret["data"]), (uid(&written), &written["data"]));
    }
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_restored_for_lack_of_the_key_is_restored_when_the_key_is_back() {
    let world = settled(json!({})).await;
    let before = world.mark().await;
    world.delete(Kind::Secret, "factory-key").await;
    world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    world.delete(Kind::Secret, SECRET).await;

    let device = world.wait_reason("truck-1", "CredentialUnavailable").await;
    assert!(!condition(&device, "Ready").unwrap().is_true());
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "CredentialUnavailable");
    assert_eq!(condition(&device, "SecretReady").unwrap().reason, "CredentialUnavailable");

    world.group_key("factory-key", crate::world::PRIMARY_KEY).await;

    world.wait_ready("truck-1").await;
    let key = &world.secret(SECRET).await["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", key));
    assert_eq!(world.ledger_since(before), []);
}

/// The same, of a device whose allocation returns a payload. The operator has forgotten that payload:
/// it is in the Secret only.
async fn settled_with_payload(integration: Value, devices: usize) -> World {
    let mut setup = Setup::default();
    let group = &mut setup.simulator.id_scopes[0].enrollment_groups[0];
    let payload = json!({"topic": "eu"}).as_object().cloned();
    let otherwise = Some(WebhookAnswer { hub: HUBS[0].to_owned(), payload });
    group.allocation_policy = AllocationPolicy::Custom;
    group.webhook = Some(Webhook { field: "site".to_owned(), rules: Vec::new(), otherwise });
    let mut world = World::with(setup).await;
    world.integration_with(INTEGRATION, integration).await;
    world.devices("truck", devices).await;
    world.wait_all_ready(devices).await;
    world.restart_operator().await;
    world
}

fn topic(payload: &str) -> Value {
    serde_json::from_str::<Value>(payload).unwrap()["topic"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_payload_that_was_lost_with_the_secret_is_fetched_by_registering() {
    let world = settled_with_payload(json!({}), 1).await;
    world.delete(Kind::Secret, SECRET).await;

    let secret = world.wait(Kind::Secret, SECRET, "whole", |s| data(s).contains_key("returnedPayload")).await;

    assert_eq!(topic(&data(&secret)["returnedPayload"]), "eu");
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_payload_moves_to_its_new_key_without_registering() {
    let world = settled_with_payload(json!({}), 1).await;
    let before = world.mark().await;

    for (old, new) in [("returnedPayload", "allocation"), ("allocation", "topics")] {
        let keys = json!({"spec": {"secret": {"keys": {"returnedPayload": new}}}});
        world.patch(Kind::Device, "truck-1", keys).await;

        world.wait_ready("truck-1").await;
        let values = world.secret(SECRET).await;
        assert_eq!(topic(&values[new]), "eu");
        assert!(!values.contains_key(old), "{:?}", values.keys());
    }
    assert_eq!(world.ledger_since(before), []);
}

/// Waits until so many Secrets carry the new label; returns when it was seen.
async fn wait_labelled(world: &World, count: usize) -> Instant {
    let deadline = Instant::now() + world.patience;
    loop {
        let secrets = world.generated_secrets().await;
        let labelled = secrets.iter().filter(|secret| secret["metadata"]["labels"]["line"] == "nord");
        if labelled.count() >= count {
            return Instant::now();
        }
        if Instant::now() >= deadline {
            world.give_up(&format!("{count} labelled Secrets"), &json!(secrets.len()));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_defaults_reach_devices_with_returned_payloads_at_the_pace_of_the_rollout() {
    let world = settled_with_payload(json!({"rollout": {"maxPerMinute": 6}}), 4).await;
    let before = world.mark().await;

    let defaults = json!({"deviceDefaults": {"secret": {"labels": {"line": "nord"}}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": defaults})).await;
    let first = wait_labelled(&world, 1).await;
    let took = wait_labelled(&world, 2).await - first;

    assert!(took >= Duration::from_secs(8), "{took:?}");
    assert_eq!(world.ledger_since(before), []);
    let secrets = world.generated_secrets().await;
    assert!(secrets.iter().all(|secret| topic(&data(secret)["returnedPayload"]) == "eu"));
}
