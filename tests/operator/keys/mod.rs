//! Group keys: right, wrong, and changed under a fleet.

mod primary_and_secondary;
mod refused_keys;
mod rollout;
mod rotation;

use serde_json::Value;

use crate::world::{INTEGRATION, Kind, World};

/// Waits until all devices were moved to this key and the integration's status says so.
async fn wait_all_moved(world: &World, devices: usize, key: &str) {
    world.wait_moved(devices, "Primary", key).await;
    let over = |i: &Value| i["status"]["devices"]["ready"] == devices && i["status"]["keyRotation"].is_null();
    world.wait(Kind::Integration, INTEGRATION, "through with the rotation", over).await;
    world.assert_secrets_accepted().await;
}
