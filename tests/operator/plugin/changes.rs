//! What users ask of the operator through it.

use dps_simulator::OperationKind;
use serde_json::Value;

use crate::world::{GROUP, INTEGRATION, Kind, SCOPE, SECONDARY_KEY, WRONG_KEY, World};

fn suspended(object: &Value) -> bool {
    object["spec"]["suspend"] == true
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_has_failed_devices_tried_at_once() {
    let world = World::with_wrong_key().await;
    world.device("truck").await;
    world.wait_reason("truck", "Unauthorized").await;
    let refused = world.dps(&["status", "device/truck"]).ok();
    assert!(refused.contains("HTTP 401"), "{refused}");
    // Now the key is right, and the operator would find that out in a minute or later.
    world.dps.set_group_keys(SCOPE, GROUP, WRONG_KEY, SECONDARY_KEY).unwrap();
    let said = world.dps(&["retry", "--failed", "--wait"]).ok();
    assert!(said.contains(&format!("device {}/truck is tried now", world.namespace)), "{said}");
    assert!(said.contains("truck done"), "{said}");
    world.wait_ready("truck").await;
    let nothing = world.dps(&["retry", "--failed"]);
    assert!(nothing.err.contains("No device has failed"), "{nothing:?}");
    world.dps(&["retry", "integration/factory", "truck", "--wait"]).ok();
    let missing = world.dps(&["retry", "nothing", "truck"]);
    assert!(missing.out.contains("truck is tried now"), "{missing:?}");
    assert!(missing.failed(1).contains("There is no provisioneddevices.dps-operator.io \"nothing\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reprovision_has_one_device_registered_once_more() {
    let world = World::accepted().await;
    let before = world.mark().await;
    let said = world.dps(&["reprovision", "first", "--wait"]).ok();
    assert!(said.contains("first done"), "{said}");
    let calls = world.calls_since(before, OperationKind::Register);
    assert_eq!((calls.devices(), calls.most()), (1, 1), "{calls:?}");
    assert!(
        world
            .dps(&["reprovision", "integration/factory"])
            .failed(2)
            .contains("kubectl annotate dpsi factory")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspend_holds_what_is_asked_for_until_resume() {
    let world = World::accepted().await;
    world.dps(&["suspend", "first", "integration/factory", "--wait"]).ok();
    for (kind, name) in [(Kind::Device, "first"), (Kind::Integration, INTEGRATION)] {
        let object = world.get(kind, name).await;
        assert!(suspended(&object), "{object}");
    }
    let held = world.dps(&["reprovision", "first", "--wait"]).ok();
    assert!(held.contains("is suspended, so it waits"), "{held}");
    world.wait_counters(INTEGRATION, |counters| counters["suspended"] == 1).await;
    let shown = world.dps(&["status"]).ok();
    assert!(shown.contains("Suspended") && shown.contains("1 suspended"), "{shown}");
    let before = world.mark().await;
    world.dps(&["resume", "integration/factory", "first", "--wait"]).ok();
    world
        .wait(Kind::Device, "first", "registered once more", |device| {
            device["status"]["lastHandledReprovisionToken"].is_string()
        })
        .await;
    assert_eq!(world.calls_since(before, OperationKind::Register).devices(), 1);
}
