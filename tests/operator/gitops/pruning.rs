//! A fleet is pruned and applied again.

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use crate::world::commands::{list, manifest};
use crate::world::manifests::device;
use crate::world::objects::{Revision, revision};
use crate::world::{Kind, Mark, World};

/// So many devices that lose their Secrets with them, and as many that leave them behind.
const HALF: usize = 100;

fn names(prefix: &str) -> Vec<String> {
    (1..=HALF).map(|number| format!("{prefix}-{number:04}")).collect()
}

fn manifests() -> String {
    let retain = json!({"secret": {"deletionPolicy": "Retain"}});
    let of = |prefix: &str, spec: &Value| -> Vec<Value> {
        let one = |name: String| manifest("ProvisionedDevice", device(&name, spec.clone()));
        names(prefix).into_iter().map(one).collect()
    };
    list(&[of("plain", &json!({})), of("kept", &retain)].concat())
}

async fn retained(world: &World) -> Vec<Revision> {
    let secrets = world.generated_secrets().await;
    let kept = secrets.iter().filter(|s| s["metadata"]["name"].as_str().unwrap().starts_with("kept-"));
    kept.map(revision).collect()
}

/// Fails unless exactly these were registered, once each, and none was looked up.
fn assert_registered_once(world: &World, since: Mark, devices: Vec<String>) {
    assert_eq!(world.calls_since(since, OperationKind::Register), devices.into_iter().collect());
    assert_eq!(world.calls_since(since, OperationKind::Lookup).total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_pruned_and_applied_again_registers_again_unless_its_secrets_were_retained() {
    let world = World::start().await;
    let (start, manifests) = (world.mark().await, manifests());
    world.kubectl_ok(&["apply", "--server-side", "-f", "-"], &manifests);
    world.wait_all_ready(2 * HALF).await;
    assert_registered_once(&world, start, [names("plain"), names("kept")].concat());
    let (kept, before) = (retained(&world).await, world.mark().await);
    assert_eq!(kept.len(), HALF);

    world.kubectl_ok(&["delete", "--wait=false", "-f", "-"], &manifests);
    for name in names("plain") {
        world.wait_gone(Kind::Secret, &format!("{name}-hub")).await;
    }
    assert_eq!(world.list(Kind::Device).await.len(), 0, "no finalizer holds a device");
    assert_eq!(world.ledger_since(before), [], "nothing is deleted in Azure");
    world.kubectl_ok(&["apply", "--server-side", "-f", "-"], &manifests);
    world.wait_all_ready(2 * HALF).await;

    assert_registered_once(&world, before, names("plain"));
    assert_eq!(retained(&world).await, kept, "Secrets that stayed are not written either");
}
