//! What a device asks of its Secret, at first and when it changes.

use serde_json::{Value, json};

use super::{SECRET, settled, wait_recorded};
use crate::world::objects::{data, is_observed, revision, uid};
use crate::world::scanner::{base64, device_key};
use crate::world::{Kind, PRIMARY_KEY, SCOPE, World, manifests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_labels_and_annotations_of_the_secret_can_be_chosen() {
    let world = World::start().await;

    let secret = json!({
        "name": "warsaw-credentials",
        "labels": {"tier": "edge", "app.kubernetes.io/part-of": "fleet"},
        "annotations": {"example.com/owner": "ops"},
    });
    world.device_with("truck-1", json!({"secret": secret})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["secret"]["name"], "warsaw-credentials");
    let secret = world.get(Kind::Secret, "warsaw-credentials").await;
    assert_eq!(secret["metadata"]["labels"]["tier"], "edge");
    assert_eq!(secret["metadata"]["labels"]["app.kubernetes.io/part-of"], "fleet");
    assert_eq!(secret["metadata"]["annotations"]["example.com/owner"], "ops");
    assert_eq!(world.generated_secrets().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_keys_of_the_secret_can_be_renamed_and_left_out() {
    let world = World::start().await;

    let keys = json!({"connectionString": "conn", "idScope": "", "registrationId": ""});
    world.device_with("truck-1", json!({"secret": {"keys": keys}})).await;

    world.wait_ready("truck-1").await;
    let secret = world.secret("truck-1-hub").await;
    let names: Vec<&str> = secret.keys().map(String::as_str).collect();
    assert_eq!(names, ["conn", "deviceId", "iotHubHostname", "sharedAccessKey"]);
    assert!(secret["conn"].starts_with("HostName="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_behind_a_gateway_has_the_gateways_name_in_its_connection_string() {
    let world = World::start().await;

    world.device_with("leaf-1", json!({"secret": {"gatewayHostname": "gw.local"}})).await;

    world.wait_ready("leaf-1").await;
    let secret = world.secret("leaf-1-hub").await;
    assert!(secret["connectionString"].ends_with(";GatewayHostName=gw.local"), "the gateway comes last");
    assert!(!secret["iotHubHostname"].contains("gw.local"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_annotations_of_the_device_are_not_copied_to_its_secret() {
    let world = World::start().await;

    let mut manifest = manifests::device("truck-1", json!({}));
    manifest["metadata"]["labels"] = json!({"team": "logistics"});
    manifest["metadata"]["annotations"] = json!({"example.com/note": "hello"});
    world.create(Kind::Device, manifest).await;

    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert!(secret["metadata"]["labels"]["team"].is_null());
    assert!(secret["metadata"]["annotations"]["example.com/note"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formats_are_added_and_removed_without_a_call_to_dps() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let formats = |kinds: &[&str]| {
        let formats: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        json!({"spec": {"secret": {"formats": formats}}})
    };

    world
        .patch(Kind::Device, "truck-1", formats(&["Env", "Mqtt", "IotEdgeDpsConfigToml", "ServiceBinding"]))
        .await;

    let bound = |device: &Value| device["status"]["binding"]["name"] == "truck-1-hub";
    world.wait(Kind::Device, "truck-1", "bound", bound).await;
    let data = world.secret("truck-1-hub").await;
    let key = base64(&device_key(PRIMARY_KEY, "truck-1"));
    assert_eq!((data["IOTHUB_DEVICE_KEY"].as_str(), data["password"].as_str()), (key.as_str(), key.as_str()));
    assert_eq!(data["mqttHost"], data["iotHubHostname"]);
    assert!(data["config.toml"].contains(&world.host()) && data["config.toml"].contains(SCOPE));

    world.patch(Kind::Device, "truck-1", formats(&["Dotenv"])).await;
    let unbound = |device: &Value| is_observed(device) && device["status"]["binding"] == Value::Null;
    world.wait(Kind::Device, "truck-1", "unbound", unbound).await;
    let data = world.secret("truck-1-hub").await;
    assert!(
        data.contains_key("device.env") && !data.contains_key("config.toml") && !data.contains_key("type")
    );
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_labels_annotations_and_gateway_are_written_to_the_secret_without_calling_dps() {
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
async fn a_renamed_data_key_replaces_the_old_one_and_leaves_those_of_others() {
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
async fn a_renamed_secret_is_written_and_the_old_one_marked_as_superseded_until_the_device_is_deleted() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let old = world.get(Kind::Secret, "truck-1-hub").await;

    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"name": "renamed"}}})).await;

    let named = |device: &Value| device["status"]["secret"]["name"] == "renamed";
    world.wait(Kind::Device, "truck-1", "renamed", named).await;
    assert_eq!(world.secret("renamed").await, world.secret("truck-1-hub").await);
    let left = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(uid(&left), uid(&old));
    assert_eq!(left["metadata"]["annotations"]["dps-operator.io/superseded-by"], "renamed");

    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"name": "truck-1-hub"}}})).await;
    let back =
        |secret: &Value| secret["metadata"]["annotations"]["dps-operator.io/superseded-by"] == Value::Null;
    world.wait(Kind::Secret, "truck-1-hub", "in use again", back).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers(), 1);

    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Secret, "truck-1-hub").await;
    world.wait_gone(Kind::Secret, "renamed").await;
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
async fn a_retained_secret_outlives_its_device_and_is_used_by_the_next_one_without_calling_dps() {
    let world = settled(json!({"deletionPolicy": "Retain"})).await;
    let secret = world.get(Kind::Secret, SECRET).await;
    assert!(secret["metadata"]["ownerReferences"].is_null());
    world.device("other").await;
    world.wait_ready("other").await;

    world.delete(Kind::Device, "truck-1").await;
    world.delete(Kind::Device, "other").await;

    world.wait_gone(Kind::Secret, "other-hub").await;
    assert_eq!(revision(&world.get(Kind::Secret, SECRET).await), revision(&secret));
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
