//! Payloads that are nested more deeply than most JSON readers go.

use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::objects::{is_observed, ready_reason};
use crate::world::waiting::until;
use crate::world::{INTEGRATION, Kind, PATIENCE, POLL, World, condition, manifests};

const LEVELS: usize = 300;
const DEVICES: &str = "provisioneddevices";
const INTEGRATIONS: &str = "dpsintegrations";

fn deep_payload() -> Value {
    (0..LEVELS).fold(json!(1), |inner, _| json!({"a": inner}))
}

/// An object without what cannot be read here either: its spec and its managed fields.
#[derive(Deserialize)]
struct Outline {
    metadata: OutlineMeta,
    status: Value,
}

#[derive(Deserialize)]
struct OutlineMeta {
    generation: i64,
}

impl Outline {
    fn object(self) -> Value {
        json!({"metadata": {"generation": self.metadata.generation}, "status": self.status})
    }
}

fn path(world: &World, plural: &str) -> String {
    format!("/apis/dps-operator.io/v1alpha1/namespaces/{}/{plural}", world.namespace)
}

async fn create(world: &World, plural: &str, kind: &str, mut manifest: Value) {
    manifest["apiVersion"] = json!("dps-operator.io/v1alpha1");
    manifest["kind"] = json!(kind);
    let body = serde_json::to_vec(&manifest).unwrap();
    let request =
        Request::post(path(world, plural)).header("content-type", "application/json").body(body).unwrap();
    world.client.request_text(request).await.expect("the API server admits it");
}

/// Waits until the object's status has this reason for the present spec.
async fn wait_reason(world: &World, plural: &str, name: &str, reason: &str) -> Value {
    let found = until(PATIENCE, POLL, async || {
        let request = Request::get(format!("{}/{name}", path(world, plural))).body(Vec::new()).unwrap();
        let object = world.client.request::<Outline>(request).await.unwrap().object();
        if is_observed(&object) && ready_reason(&object) == reason { Ok(object) } else { Err(object) }
    });
    found.await.unwrap_or_else(|last| world.give_up(&format!("{name} never became: {reason}"), &last))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_nested_too_deeply_to_be_read_is_reported_and_holds_up_no_other_device() {
    let mut world = World::start().await;
    let deep = manifests::device("deep", json!({"payload": deep_payload()}));
    create(&world, DEVICES, "ProvisionedDevice", deep).await;
    world.device("before").await;

    let device = wait_reason(&world, DEVICES, "deep", "InvalidConfiguration").await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(!ready.is_true() && ready.message.contains("spec.payload"), "{}", ready.message);
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "InvalidConfiguration");
    world.wait_ready("before").await;

    // Now it is read from a page of a list.
    world.stop_operator().await;
    world.delete(Kind::Secret, "before-hub").await;
    world.start_operator().await;

    world.device("after").await;
    world.wait_ready("after").await;
    world.wait(Kind::Secret, "before-hub", "restored", |_| true).await;
    wait_reason(&world, DEVICES, "deep", "InvalidConfiguration").await;
    assert_eq!(world.devices_asked(), ["after", "before"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_nested_too_deeply_to_be_read_are_reported_and_hold_up_no_other_integration() {
    let mut world = World::start().await;
    world.group_key("deep-key", crate::world::PRIMARY_KEY).await;
    let defaults = json!({"deviceDefaults": {"payload": deep_payload()}});
    let deep = manifests::integration("deep", world.host(), defaults);
    create(&world, INTEGRATIONS, "DpsIntegration", deep).await;
    world.device("before").await;

    let integration = wait_reason(&world, INTEGRATIONS, "deep", "InvalidConfiguration").await;
    let ready = condition(&integration, "Ready").unwrap();
    assert!(!ready.is_true() && ready.message.contains("spec.deviceDefaults"), "{}", ready.message);
    world.wait_ready("before").await;

    world.restart_operator().await;

    world.device("after").await;
    world.wait_ready("after").await;
    world.wait_integration(INTEGRATION, "Available").await;
}
