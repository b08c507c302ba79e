//! A backup without status, ownerReferences and uids is restored into another cluster.

use serde_json::{Value, json};

use crate::world::objects::{data, is_ready, uid};
use crate::world::{INTEGRATION, Kind, Setup, World};

const DEVICES: usize = 10;

/// What a backup tool keeps of an object.
fn stripped(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = json!({"metadata": {"name": metadata["name"]}});
    for part in ["labels", "annotations"] {
        if metadata[part].is_object() {
            kept["metadata"][part] = metadata[part].clone();
        }
    }
    for part in ["spec", "data", "type"] {
        if !object[part].is_null() {
            kept[part] = object[part].clone();
        }
    }
    kept
}

/// Everything that a namespace's backup holds, with its kinds in the order of their restoration.
async fn dump(world: &World) -> Vec<(Kind, Value)> {
    let mut objects = Vec::new();
    for kind in [Kind::Secret, Kind::Integration, Kind::Device] {
        objects.extend(world.list(kind).await.iter().map(|object| (kind, stripped(object))));
    }
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_restored_into_another_cluster_is_ready_without_a_call_to_dps() {
    let source = World::start().await;
    source.devices("truck", DEVICES).await;
    let devices = source.wait_all_ready(DEVICES).await;
    source
        .wait(Kind::Integration, INTEGRATION, "accepted", |i| i["status"]["acceptedIdScope"].is_string())
        .await;
    let backup = dump(&source).await;
    let setup = Setup { namespace: Some(source.namespace.clone()), ..Setup::own_control_plane(&[]) };
    let mut target = World::without_operator(setup).await;

    for (kind, mut object) in backup {
        if kind == Kind::Integration {
            // A route, not an identity: here the simulator has another port.
            object["spec"]["hostname"] = json!(target.host());
        }
        target.create(kind, object).await;
    }
    target.start_operator().await;

    let restored = target.wait_all_ready(DEVICES).await;
    assert_eq!(target.ledger(), []);
    for (device, before) in restored.iter().zip(&devices) {
        for field in [
            "assignedHub",
            "registrationId",
            "deviceId",
            "idScope",
            "registeredHash",
            "credential",
            "assignment",
        ] {
            assert_eq!(device["status"][field], before["status"][field], "{field}");
        }
        let name = format!("{}-hub", device["metadata"]["name"].as_str().unwrap());
        let secret = target.get(Kind::Secret, &name).await;
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid(device));
        assert_eq!(data(&secret), source.secret(&name).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_restored_without_its_secret_registers_like_a_new_one() {
    let mut world = World::start().await;
    world.devices("truck", 2).await;
    world.wait_all_ready(2).await;
    world.stop_operator().await;
    for name in ["truck-1", "truck-2"] {
        world.forget_status(name).await;
    }
    world.delete(Kind::Secret, "truck-2-hub").await;
    let before = world.mark().await;

    world.start_operator().await;

    world.wait_all_ready(2).await;
    assert!(is_ready(&world.get(Kind::Device, "truck-1").await));
    assert_eq!(world.devices_asked_since(before), ["truck-2"]);
}
