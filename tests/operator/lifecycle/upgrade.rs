//! What an earlier version left behind is taken over as it is.
//!
//! `tests/fixtures/fleet-VERSION.json` holds the objects of a fleet as that version wrote them. It is
//! recorded once, when a version is released, and never again:
//! `DPS_RECORD_FLEET=tests/fixtures/fleet-VERSION.json cargo test --test operator -- upgrade`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{INTEGRATION, Kind, SCOPE, Setup, World};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// The device's full name is in its Secret's annotations.
const NAMESPACE: &str = "fleet-of-an-earlier-version";
/// DPS has disabled this one.
const FAILING: &str = "failing";

/// One device for each thing that is written down about devices.
fn devices() -> Vec<(&'static str, Value)> {
    let secret = |settings: Value| json!({"secret": settings});
    let shapes = ["Env", "Dotenv", "Mqtt", "ServiceBinding", "IotEdgeConfigToml"];
    let shapes: Vec<Value> = shapes.into_iter().map(|kind| json!({"type": kind})).collect();
    vec![
        ("plain", json!({})),
        ("own-id", json!({"registrationId": "plant-1:own_id"})),
        (
            "payload",
            json!({"payload": {"site": "warsaw", "lines": [1, 2.5, null], "é": {"b": true, "a": "x"}}}),
        ),
        ("adopts", json!({"registration": {"onCreate": "LookupFirst"}})),
        ("periodic", json!({"reprovision": {"policy": "Periodic", "interval": "8760h"}})),
        ("never", json!({"reprovision": {"policy": "Never"}, "driftCheck": {"interval": "8760h"}})),
        (
            "renamed",
            secret(json!({"name": "credentials", "keys": {"connectionString": "conn", "idScope": ""}})),
        ),
        ("shapes", secret(json!({"formats": shapes}))),
        ("labelled", secret(json!({"labels": {"tier": "core"}, "annotations": {"example.com/a": "b"}}))),
        ("behind", secret(json!({"gatewayHostname": "gw.local"}))),
        ("direct", secret(json!({"gatewayHostname": "", "formats": []}))),
        ("retained", secret(json!({"deletionPolicy": "Retain"}))),
        ("asked", json!({})),
        ("suspended", json!({})),
        (FAILING, json!({})),
    ]
}

fn setup() -> Setup {
    Setup { namespace: Some(NAMESPACE.to_owned()), ..Setup::returned_payload(&json!({"topic": "eu"})) }
}

/// A fleet as this version writes it.
async fn record(file: &Path) {
    let world = World::with(setup()).await;
    let defaults = json!({
        "driftCheck": {"interval": "0s"},
        "secret": {"labels": {"line": "nord"}, "formats": [{"type": "Env"}], "gatewayHostname": "gw.default"},
    });
    world.integration_with(INTEGRATION, json!({"deviceDefaults": defaults})).await;
    world.dps.set_device_enabled(SCOPE, FAILING, false).unwrap();
    for (name, spec) in devices() {
        world.device_with(name, spec).await;
        if name == FAILING {
            world.wait_reason(name, "Disabled").await;
        } else {
            world.wait_ready(name).await;
        }
    }
    world.request_registration(Kind::Device, "asked", "2026-11-01").await;
    world.wait_registration_request(Kind::Device, "asked", "2026-11-01").await;
    world.patch(Kind::Device, "suspended", json!({"spec": {"suspend": true}})).await;
    world.wait_reason("suspended", "Suspended").await;
    world
        .wait_counters(INTEGRATION, |counted| {
            counted["suspended"] == 1 && counted["ready"] == devices().len() - 2
        })
        .await;
    let mut objects = Vec::new();
    for kind in [Kind::Secret, Kind::Integration, Kind::Device] {
        for mut object in world.list(kind).await {
            object["metadata"].as_object_mut().unwrap().retain(|key, _| {
                ["name", "labels", "annotations", "ownerReferences", "generation"].contains(&key.as_str())
            });
            objects.push(json!({"kind": format!("{kind:?}"), "object": object}));
        }
    }
    let text = serde_json::to_string_pretty(&objects).unwrap();
    tokio::task::block_in_place(|| std::fs::write(file, text + "\n")).unwrap();
}

fn kind_of(entry: &Value) -> Kind {
    let known = [Kind::Secret, Kind::Integration, Kind::Device];
    known.into_iter().find(|kind| entry["kind"] == format!("{kind:?}")).expect("a recorded kind")
}

/// Creates the objects as they were recorded. What only this cluster can know is put in place: uids,
/// versions, the simulator's port.
async fn restore(world: &World, recorded: &[Value]) {
    let of = |kind: Kind| {
        recorded.iter().filter(move |entry| kind_of(entry) == kind).map(|entry| &entry["object"])
    };
    for integration in of(Kind::Integration) {
        let name = integration["metadata"]["name"].as_str().unwrap();
        let mut spec = integration["spec"].clone();
        spec["hostname"] = json!(world.host());
        let annotations = &integration["metadata"]["annotations"];
        world
            .create(
                Kind::Integration,
                json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec}),
            )
            .await;
        let status = as_written(&integration["status"]);
        world.patch_status_of(Kind::Integration, name, json!({"status": status})).await;
    }
    let mut uids = std::collections::HashMap::new();
    for device in of(Kind::Device) {
        let metadata =
            json!({"name": device["metadata"]["name"], "annotations": device["metadata"]["annotations"]});
        let made = world.create(Kind::Device, json!({"metadata": metadata, "spec": device["spec"]})).await;
        uids.insert(device["metadata"]["name"].clone(), made["metadata"]["uid"].clone());
    }
    let mut versions = std::collections::HashMap::new();
    for secret in of(Kind::Secret) {
        let mut metadata = secret["metadata"].clone();
        for owner in metadata["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner["uid"] = uids[&owner["name"]].clone();
        }
        let made = world
            .create(
                Kind::Secret,
                json!({"metadata": metadata, "data": secret["data"], "type": secret["type"]}),
            )
            .await;
        versions.insert(made["metadata"]["name"].clone(), made["metadata"]["resourceVersion"].clone());
    }
    for device in of(Kind::Device) {
        let mut status = as_written(&device["status"]);
        // A device that was changed since its creation has a generation that a new object has not.
        status["observedGeneration"] = json!(1);
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition["observedGeneration"] = json!(1);
        }
        if status["secret"].is_object() {
            status["secret"]["resourceVersion"] = versions[&status["secret"]["name"]].clone();
        }
        if status["lastError"].is_object() {
            // Its next try is a minute away.
            status["lastError"]["time"] = json!(jiff::Timestamp::now().to_string());
        }
        world.patch_status(device["metadata"]["name"].as_str().unwrap(), json!({"status": status})).await;
    }
}

/// A patch that leaves nothing of what the API server says of a new object.
fn as_written(status: &Value) -> Value {
    let mut status = status.clone();
    if status.get("state").is_none() {
        status["state"] = Value::Null;
    }
    status
}

fn fixtures() -> Vec<PathBuf> {
    let files = std::fs::read_dir(FIXTURES).expect("there are fixtures").map(|entry| entry.unwrap().path());
    let is_fleet =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("fleet-"));
    files.filter(is_fleet).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_an_earlier_version_wrote_are_taken_over_without_a_call_and_without_a_write() {
    if let Some(file) = std::env::var_os("DPS_RECORD_FLEET") {
        return record(Path::new(&file)).await;
    }
    let files = fixtures();
    assert!(!files.is_empty());
    for file in files {
        let text = tokio::task::block_in_place(|| std::fs::read_to_string(&file)).unwrap();
        let recorded: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut world = World::without_operator(setup()).await;
        restore(&world, &recorded).await;

        world.assert_quiet_start().await;

        let devices = world.list(Kind::Device).await.len();
        world
            .wait_counters(INTEGRATION, |counted| counted["total"] == devices && counted["suspended"] == 1)
            .await;
        assert!(world.stop_operator().await.success());
        world.delete(Kind::Namespace, NAMESPACE).await;
        world.wait_gone(Kind::Namespace, NAMESPACE).await;
    }
}
