//! What users declare stays theirs: the operator writes the status of their objects and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::commands::{list, manifest};
use crate::world::manifests::merged;
use crate::world::manifests::{device, integration};
use crate::world::objects::{Revision, revision};
use crate::world::requests::REPROVISION;
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, World};

/// Labels and annotations as GitOps tools put them on what they apply.
fn marked(object: Value) -> Value {
    let labels = json!({
        "app.kubernetes.io/instance": "fleet",
        "kustomize.toolkit.fluxcd.io/name": "fleet",
    });
    let annotations = json!({"argocd.argoproj.io/tracking-id": "fleet:dps-operator.io/x:y/z"});
    merged(object, json!({"metadata": {"labels": labels, "annotations": annotations}}))
}

fn manifests(world: &World) -> String {
    let formats = json!({"secret": {"formats": [{"type": "Env"}], "labels": {"example.com/line": "press"}}});
    let own = json!({"payload": {"site": "warsaw"}, "secret": {"keys": {"deviceId": ""}}});
    list(&[
        marked(manifest(
            "DpsIntegration",
            integration(INTEGRATION, world.host(), json!({"deviceDefaults": formats})),
        )),
        marked(manifest("ProvisionedDevice", device("press-01", json!({})))),
        marked(manifest("ProvisionedDevice", device("press-02", own))),
    ])
}

async fn apply_as(world: &World, manager: &str) {
    let manager = format!("--field-manager={manager}");
    world.kubectl_ok(&["apply", "--server-side", &manager, "-f", "-"], &manifests(world));
}

async fn declared(world: &World) -> Vec<Value> {
    let mut objects = world.list(Kind::Integration).await;
    objects.extend(world.list(Kind::Device).await);
    objects
}

/// How often each was written. An integration's counters move at their own pace.
fn written(objects: &[Value]) -> Vec<Revision> {
    objects.iter().filter(|object| object["kind"] == "ProvisionedDevice").map(revision).collect()
}

/// Managers of anything that users declare.
fn managers(objects: &[Value]) -> BTreeSet<String> {
    let entries = objects.iter().flat_map(|object| object["metadata"]["managedFields"].as_array().unwrap());
    let declaring = entries.filter(|entry| {
        let fields = entry["fieldsV1"].as_object().unwrap();
        fields.keys().any(|field| field != "f:status")
    });
    declaring.map(|entry| entry["manager"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_declare_is_never_changed_and_can_be_applied_again_by_any_manager() {
    let world = World::empty().await;
    world.group_key("factory-key", PRIMARY_KEY).await;
    apply_as(&world, "first").await;
    let first = declared(&world).await;
    world.wait_all_ready(2).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 2).await;
    // Work of other kinds than the first registration.
    world.delete(Kind::Secret, "press-01-hub").await;
    let restored = world.wait(Kind::Secret, "press-01-hub", "restored", |_| true).await;
    let recorded = |device: &Value| {
        device["status"]["secret"]["resourceVersion"] == restored["metadata"]["resourceVersion"]
    };
    world.wait(Kind::Device, "press-01", "settled", recorded).await;
    world.request_registration(Kind::Device, "press-02", "now").await;
    world.wait_registration_request(Kind::Device, "press-02", "now").await;

    apply_as(&world, "second").await;

    let second = declared(&world).await;
    // The test itself is the one without a name: it asked for the registration.
    assert_eq!(managers(&second), ["first", "second", "unknown"].map(str::to_owned).into());
    apply_as(&world, "second").await;
    apply_as(&world, "first").await;
    let again = declared(&world).await;
    assert_eq!(written(&again), written(&second), "nothing was left to be applied");
    for arguments in [
        &["diff", "--server-side", "--field-manager=first", "-f", "-"][..],
        &["diff", "--server-side", "--field-manager=third", "-f", "-"],
        &["diff", "-f", "-"],
    ] {
        let output = world.kubectl(arguments, &manifests(&world));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first["spec"], again["spec"]);
        assert_eq!(first["metadata"]["labels"], again["metadata"]["labels"]);
        assert_eq!(again["metadata"]["finalizers"], Value::Null);
    }
    let annotations = &world.get(Kind::Device, "press-02").await["metadata"]["annotations"];
    assert_eq!(annotations[REPROVISION], "now", "no manager sees it as drift");
}

/// A tool that prunes looks for its own marks: a Secret with a copy of them would be deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_annotations_of_gitops_tools_are_not_copied_to_secrets() {
    let world = World::empty().await;
    world.group_key("factory-key", PRIMARY_KEY).await;

    apply_as(&world, "first").await;

    world.wait_all_ready(2).await;
    let secrets = world.generated_secrets().await;
    assert_eq!(secrets.len(), 2);
    for secret in secrets {
        let metadata = json!([secret["metadata"]["labels"], secret["metadata"]["annotations"]]).to_string();
        assert!(metadata.contains("example.com/line"), "labels that were asked for are there");
        for mark in ["app.kubernetes.io/instance", "argoproj.io", "fluxcd.io"] {
            assert!(!metadata.contains(mark), "{metadata}");
        }
    }
}
