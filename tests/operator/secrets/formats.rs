//! What is in a Secret has to be understood by programs that we did not write. It is written down
//! here; `tests/formats` hands it to them.

use std::path::Path;

use serde_json::{Value, json};

use crate::world::certificates;
use crate::world::scanner::{base64, device_key};
use crate::world::{Kind, PRIMARY_KEY, SCOPE, World};

/// Every character that a registration id may contain.
const REGISTRATION_ID: &str = "plant-1:line_2.truck";
const GATEWAY: &str = "gateway.plant-1.example";
/// What each device has besides one of the two formats that write `config.toml`.
const FORMATS: [&str; 4] = ["Env", "Dotenv", "Mqtt", "ServiceBinding"];

/// The gateway of each device, and its format that writes `config.toml`.
const DEVICES: [(Option<&str>, &str); 4] = [
    (None, "IotEdgeConfigToml"),
    (None, "IotEdgeDpsConfigToml"),
    (Some(GATEWAY), "IotEdgeConfigToml"),
    (Some(GATEWAY), "IotEdgeDpsConfigToml"),
];

fn formats(config: &str) -> Vec<Value> {
    FORMATS.into_iter().chain([config]).map(|kind| json!({"type": kind})).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_every_format_are_recorded_for_the_clients_that_have_to_read_them() {
    let world = World::start().await;
    let mut devices = Vec::new();
    for (gateway, config) in DEVICES {
        let name = format!("device-{}", devices.len());
        let id = format!("{REGISTRATION_ID}-{}", devices.len());
        let secret = json!({"formats": formats(config), "gatewayHostname": gateway});
        world.device_with(&name, json!({"registrationId": id, "secret": secret})).await;
        let device = world.wait_ready(&name).await;
        devices.push(json!({
            "config": config,
            "gateway": gateway,
            "hub": device["status"]["assignedHub"],
            "registrationId": id,
            "key": base64(&device_key(PRIMARY_KEY, &id)),
            "idScope": SCOPE,
            "dps": world.host(),
            "data": world.secret(&format!("{name}-hub")).await,
        }));
    }

    // 6 of every Secret, 4 variables, 2 files, 4 of MQTT, 5 of a service binding.
    record("formats.json", &devices, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_are_those_of_devices_with_certificates() {
    let root = certificates::root("fleet-root");
    let ca = root.intermediate("factory").unwrap();
    let world = World::with_certificates(&root).await;
    let mut devices = Vec::new();
    for (gateway, config) in DEVICES {
        let name = format!("device-{}", devices.len());
        let id = format!("{REGISTRATION_ID}-{}", devices.len());
        let own = certificates::device(&ca, &id);
        world.issue(&name, &own, &[&ca]).await;
        let authority = json!({"data": {"ca.crt": base64(root.pem.as_bytes())}});
        world.patch(Kind::Secret, &format!("{name}-tls"), authority).await;
        let secret = json!({
            "formats": formats(config), "gatewayHostname": gateway, "certificateDirectory": "/etc/device",
        });
        world.device_with(&name, json!({"registrationId": id, "secret": secret})).await;
        let device = world.wait_ready(&name).await;
        devices.push(json!({
            "config": config,
            "gateway": gateway,
            "hub": device["status"]["assignedHub"],
            "deviceId": device["status"]["deviceId"],
            "registrationId": id,
            "fingerprint": device["status"]["credential"]["fingerprint"],
            "idScope": SCOPE,
            "dps": world.host(),
            "data": world.secret(&format!("{name}-hub")).await,
        }));
    }
    // 5 of every Secret and 3 files, 3 variables, 2 files, 4 of MQTT, 6 of a service binding.
    record("certificates.json", &devices, 23);
}

fn record(file: &str, devices: &[Value], keys: usize) {
    for device in devices {
        assert_eq!(device["data"].as_object().map(serde_json::Map::len), Some(keys), "{device:#}");
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::write(&file, json!(devices).to_string()).expect("the target folder can be written to");
}
