//! The API server goes away, or is stricter than most.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::objects::{data, uid};
use crate::world::{INTEGRATION, Kind, SCOPE, Setup, World, condition, control_plane};

/// A world whose control plane may be broken.
async fn world_of_its_own(api_server_flags: &[&str]) -> World {
    let started = tokio::task::block_in_place(|| control_plane::start_with(api_server_flags));
    let world = World::with(Setup { control_plane: Some(Arc::new(started)), ..Setup::default() }).await;
    world.integration(INTEGRATION).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_dies_during_registrations_costs_no_second_one() {
    const DEVICES: usize = 10;
    let mut world = world_of_its_own(&[]).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.devices("truck", DEVICES).await;
    world.wait_ledger("all registrations", |_| world.registers() == 1 + DEVICES).await;

    let control_plane = world.own_control_plane();
    tokio::task::block_in_place(|| control_plane.restart_api_server()).unwrap();

    world.wait_all_ready(1 + DEVICES).await;
    assert_eq!(world.registers(), 1 + DEVICES, "what DPS answered meanwhile is not forgotten");
    for secret in world.generated_secrets().await {
        let values = data(&secret);
        assert!(world.dps.accepts_device_key(SCOPE, &values["deviceId"], &values["sharedAccessKey"]));
    }

    // Settled devices sleep through the next one.
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 1 + DEVICES).await;
    let before = world.mark().await;
    let control_plane = world.own_control_plane();
    tokio::task::block_in_place(|| control_plane.restart_api_server()).unwrap();
    world.device("last").await;
    world.wait_ready("last").await;
    let asked: BTreeSet<_> =
        world.ledger_since(before).into_iter().filter_map(|e| e.registration_id).collect();
    assert_eq!(asked, BTreeSet::from(["last".to_owned()]));
    let writes = world.writes_since(before).await;
    assert_eq!(writes.get("update provisioneddevices/status"), Some(&1), "{writes:?}");
    assert_eq!(writes.get("create secrets"), Some(&1), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_crd_ends_all_watches_and_disturbs_nobody() {
    let world = world_of_its_own(&[]).await;
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
    let asked: BTreeSet<_> =
        world.ledger_since(before).into_iter().filter_map(|e| e.registration_id).collect();
    assert_eq!(asked, BTreeSet::from(["last".to_owned()]));
    assert_eq!(world.writes_since(before).await.get("update provisioneddevices/status"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_owners_may_not_be_changed_the_device_says_so_and_new_ones_work() {
    let world = world_of_its_own(&["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"]).await;
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
