//! What a device asks for together with what it inherits, and what becomes of it when it changes.

use serde_json::{Value, json};

use crate::world::objects::{is_observed, uid};
use crate::world::scanner::{base64, device_key};
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SCOPE, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_defaults_reach_every_device_that_says_nothing_itself() {
    let world = World::start().await;
    let own = json!({"secret": {"labels": {"line": "own"}}, "payload": {"site": "own"}});
    world.device("silent").await;
    world.device_with("outspoken", own).await;
    world.wait_all_ready(2).await;

    let defaults = json!({"secret": {"labels": {"line": "inherited", "plant": "nord"}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"deviceDefaults": defaults}})).await;

    for (secret, line) in [("silent-hub", "inherited"), ("outspoken-hub", "own")] {
        let labels = |secret: &Value| secret["metadata"]["labels"].clone();
        let there = |secret: &Value| labels(secret)["plant"] == "nord" && labels(secret)["line"] == line;
        world.wait(Kind::Secret, secret, "labelled", there).await;
    }
    assert_eq!(world.registers(), 2, "labels are not DPS's business");

    let defaults = json!({"payload": {"site": "inherited"}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"deviceDefaults": defaults}})).await;
    world
        .wait_ledger("the silent one again", |ledger| {
            let register =
                |entry: &&dps_simulator::LedgerEntry| format!("{:?}", entry.operation) == "Register";
            ledger.iter().filter(register).count() == 3
        })
        .await;
    world.wait_all_ready(2).await;
    let hashes = |device: &Value| device["status"]["registeredHash"].clone();
    assert_ne!(hashes(&world.get(Kind::Device, "silent").await), Value::Null);
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
async fn a_renamed_secret_is_written_anew_and_the_old_one_says_so_and_goes_with_the_device() {
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
async fn a_payload_that_dps_would_refuse_for_its_size_is_refused_before() {
    let world = World::start().await;
    let of_size = |size: usize| -> Value { json!({"payload": {"text": "x".repeat(size)}}) };

    world.device_with("large", of_size(66_000)).await;
    world.device_with("fits", of_size(65_000)).await;

    world.wait_ready("fits").await;
    let device = world.wait_reason("large", "InvalidConfiguration").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("64 KiB"));
    assert!(world.ledger().iter().all(|entry| entry.registration_id.as_deref() == Some("fits")));
}
