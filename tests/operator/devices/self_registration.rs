//! A device that also registers itself, as an Edge device or a physical one does.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::scanner::{base64, device_key};
use crate::world::{GROUP, HUBS, Kind, PRIMARY_KEY, SCOPE, World};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/simulator/tests/node");

/// Registers with Microsoft's client for Node.js and returns what DPS assigned.
fn register_itself(world: &World, id: &str, ca: &Path) -> Value {
    let client = Path::new(CLIENT);
    let installed = Command::new(client.join("install.sh")).status().expect("npm is there");
    assert!(installed.success(), "the client's packages cannot be installed");
    let key = base64(&device_key(PRIMARY_KEY, id));
    let output = Command::new("node")
        .args([&client.join("client.js"), Path::new(&world.port().to_string()), ca])
        .args([SCOPE, id, &key])
        .output()
        .expect("node is there");
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("not registered: {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_also_registers_itself_is_followed_to_its_new_hub_and_not_registered_again() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let hub = device["status"]["assignedHub"].clone();
    let other = HUBS.into_iter().find(|other| hub != *other).unwrap();
    let ca = world.control_plane().logs_dir().join(format!("ca-{}.pem", world.namespace));
    let config_map = world.get(Kind::ConfigMap, "simulator-ca").await;
    std::fs::write(&ca, config_map["data"]["ca.crt"].as_str().unwrap()).unwrap();
    world.dps.set_static_hub(SCOPE, GROUP, other).unwrap();

    let assigned = tokio::task::block_in_place(|| register_itself(&world, "truck-1", &ca));
    assert_eq!(assigned["assignedHub"], other);
    world.request_lookup(Kind::Device, "truck-1", "now").await;

    let followed = |device: &Value| device["status"]["assignedHub"] == other;
    let device = world.wait(Kind::Device, "truck-1", "where it went", followed).await;
    assert_eq!(device["status"]["previousHub"], hub);
    assert_eq!(device["status"]["assignment"]["etag"], assigned["etag"]);
    assert_eq!(world.secret("truck-1-hub").await["iotHubHostname"], other);
    assert_eq!(world.registers(), 2, "once by the operator, once by the device itself");
}
