//! The generated Secret is kept as it should be, without asking DPS.

use serde_json::{Value, json};

use super::{SECRET, settled, wait_recorded};
use crate::world::objects::{data, uid};
use crate::world::{INTEGRATION, Kind, condition};

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
async fn a_secret_that_gets_a_label_from_others_is_not_written_again() {
    let mut world = settled(json!({})).await;
    // Afterwards it knows of the device only what its status says, as after weeks without a change.
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
async fn data_labels_annotations_and_owners_that_others_add_to_the_secret_stay() {
    let world = settled(json!({})).await;
    let other = world.create(Kind::ConfigMap, json!({"metadata": {"name": "other"}})).await;
    let ours = world.get(Kind::Secret, SECRET).await["metadata"]["ownerReferences"][0].clone();
    let others = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid(&other)});

    let additions = json!({
        "metadata": {
            "labels": {"team": "logistics"},
            "annotations": {"example.com/note": "hello"},
            "ownerReferences": [ours, others],
        },
        "data": {"extra": "Z3Vlc3Q=", "deviceId": "bWFuZ2xlZA=="},
    });
    world.patch(Kind::Secret, SECRET, additions).await;

    let restored = |secret: &Value| data(secret)["deviceId"] == "truck-1";
    let secret = world.wait(Kind::Secret, SECRET, "restored", restored).await;
    assert_eq!(data(&secret)["extra"], "guest");
    assert_eq!(secret["metadata"]["labels"]["team"], "logistics");
    assert_eq!(secret["metadata"]["annotations"]["example.com/note"], "hello");
    assert_eq!(secret["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_deleted_while_the_key_is_missing_is_restored_when_the_key_is_back() {
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
    assert!(world.hub_accepts("truck-1", SECRET).await);
    assert_eq!(world.ledger_since(before), []);
}
