//! A device that lost what it had does not seem to have it again when something else goes wrong.

use serde_json::{Value, json};

use crate::world::keys::NEW_KEY;
use crate::world::{GROUP, INTEGRATION, Kind, SCOPE, World, condition, manifests};

fn assert_condition(object: &Value, kind: &str, status: &str, reason: &str) {
    let condition = condition(object, kind).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), (status, reason), "{kind}");
}

/// A world with a device whose Secret was deleted and created by something else.
async fn replaced(labels: Value) -> World {
    let mut world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    // While no operator is there to restore it.
    world.stop_operator().await;
    world.delete(Kind::Secret, "truck-1-hub").await;
    let foreign = manifests::secret("truck-1-hub", &[("note", "not yours")]);
    world.create(Kind::Secret, manifests::merged(foreign, json!({"metadata": {"labels": labels}}))).await;
    world.start_operator().await;
    world.wait_reason("truck-1", "SecretConflict").await;
    world
}

async fn is_not_ready_again_without_its_integration(labels: Value) {
    let world = replaced(labels).await;

    world.delete(Kind::Integration, INTEGRATION).await;

    let device = world.wait_reason("truck-1", "IntegrationNotFound").await;
    assert_condition(&device, "Ready", "False", "IntegrationNotFound");
    assert_condition(&device, "SecretReady", "False", "SecretConflict");
    assert_condition(&device, "Registered", "Unknown", "IntegrationNotFound");
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_secret_was_replaced_stays_not_ready_when_its_integration_is_deleted() {
    is_not_ready_again_without_its_integration(json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_secret_was_replaced_by_one_with_our_label_stays_not_ready_as_well() {
    let label = json!({"app.kubernetes.io/managed-by": "dps-operator"});
    is_not_ready_again_without_its_integration(label).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_enrollment_was_disabled_stays_not_ready_when_it_is_suspended() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.dps.set_group_enabled(SCOPE, GROUP, false).unwrap();
    world.rotate_group_key(NEW_KEY).await;
    let device = world.wait_reason("truck-1", "Disabled").await;
    assert_condition(&device, "Ready", "False", "Disabled");

    world.patch(Kind::Device, "truck-1", json!({"spec": {"suspend": true}})).await;

    let device = world.wait_reason("truck-1", "Suspended").await;
    assert_condition(&device, "Ready", "False", "Suspended");
    assert_eq!(world.registers(), 2);
}
