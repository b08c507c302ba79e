//! A device is declared and gets its hub and its credentials.

use serde_json::json;

use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SCOPE, World, condition, objects};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_its_hub_and_a_secret_that_the_hub_accepts() {
    let world = World::start().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let hub = device["status"]["assignedHub"].as_str().unwrap();
    let secret = world.secret("truck-1-hub").await;
    let key = &secret["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", key));
    assert_eq!(secret["connectionString"], format!("HostName={hub};DeviceId=truck-1;SharedAccessKey={key}"));
    assert_eq!(secret["iotHubHostname"], hub);
    assert_eq!(secret["deviceId"], "truck-1");
    assert_eq!(secret["registrationId"], "truck-1");
    assert_eq!(secret["idScope"], SCOPE);
    assert_eq!(secret.len(), 6, "{:?}", secret.keys());
    world.assert_only_device_calls();
}
