//! Devices with individual enrollments, whose keys are their own.

mod changes;
mod neighbours;

use serde_json::{Value, json};

use crate::world::keys::{OWN_KEYS, fingerprint, made_from};
use crate::world::objects::data;
use crate::world::{INTEGRATION, Kind, SCOPE, World, condition, manifests};

const OWN: [&str; 2] = [OWN_KEYS[0], OWN_KEYS[1]];

/// With an integration whose devices share nothing.
async fn per_device() -> World {
    let world = World::empty().await;
    let attestation = json!({"attestation": {"symmetricKey": null, "perDevice": {}}});
    world.integration_without_key(INTEGRATION, attestation).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_the_key_and_the_device_id_of_its_enrollment() {
    let world = per_device().await;
    world.dps.set_device_id(SCOPE, "edge-7", Some("Edge.Seven")).unwrap();
    world.enrolled("edge-7", OWN).await;

    let device = world.wait_ready("edge-7").await;

    let secret = world.get(Kind::Secret, "edge-7-hub").await;
    assert_eq!(made_from(&secret), OWN[0]);
    assert_eq!(data(&secret)["deviceId"], "Edge.Seven");
    assert!(world.hub_accepts("edge-7", "edge-7-hub").await);
    let status = &device["status"];
    assert_eq!((&status["deviceId"], &status["enrollmentGroupId"]), (&json!("Edge.Seven"), &Value::Null));
    let source = world.get(Kind::Secret, "edge-7-dps").await;
    let credential = json!({
        "type": "SymmetricKey", "slot": "Primary", "fingerprint": fingerprint(OWN[0]),
        "secretName": "edge-7-dps", "secretResourceVersion": source["metadata"]["resourceVersion"],
    });
    assert_eq!(status["credential"], credential);
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    assert_eq!(integration["status"]["credentials"], Value::Null);
    let accepted = |object: &Value| object["status"]["acceptedIdScope"] == SCOPE;
    world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_settled_devices_reads_no_key() {
    let mut world = per_device().await;
    let names: Vec<String> = (1..=20).map(|number| format!("edge-{number}")).collect();
    for name in &names {
        world.enrolled(name, OWN).await;
    }
    world.wait_all_ready(names.len()).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 20).await;

    world.assert_quiet_restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_wrong_is_named_and_mended_by_its_owner() {
    let world = per_device().await;
    world.device("edge-6").await;
    world.wait_reason("edge-6", "InvalidConfiguration").await;
    world.dps.set_device_keys(SCOPE, "edge-7", OWN[0], OWN[1]).unwrap();
    world.device_with("edge-7", manifests::own_keys("edge-7")).await;
    let missing = world.wait_reason("edge-7", "KeySecretNotFound").await;
    assert!(condition(&missing, "Reconciling").is_some(), "it may come in a moment");

    world.own_keys("edge-7", ["SharedAccessKeyName=x;SharedAccessKey=y", OWN[1]]).await;
    let invalid = world.wait_reason("edge-7", "KeyInvalid").await;
    assert!(condition(&invalid, "Stalled").is_some());
    world.change_own_keys("edge-7", [OWN_KEYS[2], OWN[1]]).await;
    let refused = world.wait_reason("edge-7", "Unauthorized").await;
    let message = condition(&refused, "Ready").unwrap().message;
    assert!(message.contains("individual enrollment"), "{message}");
    world.change_own_keys("edge-7", OWN).await;

    world.wait_ready("edge-7").await;
    world.wait_integration(INTEGRATION, "Available").await;
    assert_eq!(world.registers(), 2);
}
