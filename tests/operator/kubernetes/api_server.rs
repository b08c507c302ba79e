//! The API server goes away, or is stricter than most.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::objects::uid;
use crate::world::{INTEGRATION, Kind, Setup, World, condition};

/// A world whose control plane may be broken.
async fn world_with_own_control_plane(api_server_flags: &[&str]) -> World {
    let world = World::with(Setup::own_control_plane(api_server_flags)).await;
    world.integration(INTEGRATION).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_restarts_during_registrations_causes_no_second_registration() {
    const DEVICES: usize = 10;
    let mut world = world_with_own_control_plane(&[]).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.devices("truck", DEVICES).await;
    world.wait_ledger("all registrations", |_| world.registers() == 1 + DEVICES).await;

    let control_plane = world.own_control_plane();
    tokio::task::block_in_place(|| control_plane.restart_api_server()).unwrap();

    world.wait_all_ready(1 + DEVICES).await;
    assert_eq!(world.registers(), 1 + DEVICES, "what DPS answered meanwhile is not forgotten");
    world.assert_secrets_accepted().await;

    // Settled devices sleep through the next one.
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 1 + DEVICES).await;
    let before = world.mark().await;
    let control_plane = world.own_control_plane();
    tokio::task::block_in_place(|| control_plane.restart_api_server()).unwrap();
    world.device("last").await;
    world.wait_ready("last").await;
    assert_eq!(world.devices_asked_since(before), ["last"]);
    let writes = world.writes_since(before).await;
    assert_eq!(writes.get("update provisioneddevices/status"), Some(&1), "{writes:?}");
    assert_eq!(writes.get("create secrets"), Some(&1), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_crd_ends_all_watches_and_leaves_settled_devices_alone() {
    let world = world_with_own_control_plane(&[]).await;
    world.devices("truck", 5).await;
    world.wait_all_ready(5).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 5).await;
    let before = world.mark().await;

    for crd in ["provisioneddevices.dps-operator.io", "dpsintegrations.dps-operator.io"] {
        let text = world.control_plane().kubectl_ok(&["get", "crd", crd, "-o", "json"]).unwrap();
        let mut crd: Value = serde_json::from_str(&text).unwrap();
        crd["metadata"].as_object_mut().unwrap().remove("managedFields");
        let properties = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        properties["spec"]["properties"]["later"] = json!({"type": "string", "maxLength": 10});
        world.control_plane().apply(&crd.to_string()).unwrap();
    }
    world.device("last").await;

    world.wait_ready("last").await;
    assert_eq!(world.devices_asked_since(before), ["last"]);
    assert_eq!(world.writes_since(before).await.get("update provisioneddevices/status"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_the_operator_may_not_change_is_reported_and_new_devices_work() {
    let world =
        world_with_own_control_plane(&["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"])
            .await;
    let device = world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid(&device));

    let retain = json!({"spec": {"secret": {"deletionPolicy": "Retain"}}});
    world.patch(Kind::Device, "truck-1", retain).await;

    let device = world.wait_reason("truck-1", "SecretWriteFailed").await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(
        ready.message.contains("cannot set an ownerRef on a resource you can't delete"),
        "{}",
        ready.message
    );
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "SecretWriteFailed");
    assert_eq!(world.get(Kind::Secret, "truck-1-hub").await["data"], secret["data"]);

    let delete = json!({"spec": {"secret": {"deletionPolicy": "Delete"}}});
    world.patch(Kind::Device, "truck-1", delete).await;
    world.wait_ready("truck-1").await;
}
