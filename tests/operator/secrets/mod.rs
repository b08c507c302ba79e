//! The Secret that a device's credentials are written to.

mod conflicts;
mod contested;
mod formats;
mod leaks;
mod restored;
mod returned_payloads;
mod settings;

use serde_json::{Value, json};

use crate::world::objects::is_ready;
use crate::world::{Kind, World};

const SECRET: &str = "truck-1-hub";

/// A world with the settled device `truck-1`.
async fn settled(secret: Value) -> World {
    let world = World::start().await;
    world.device_with("truck-1", json!({"secret": secret})).await;
    world.wait_ready("truck-1").await;
    world
}

/// Waits until the device's status knows the Secret's present version: the repair is complete.
async fn wait_recorded(world: &World) -> Value {
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    loop {
        let device = world.get(Kind::Device, "truck-1").await;
        let secret = world.find(Kind::Secret, SECRET).await.unwrap_or_default();
        let recorded = &device["status"]["secret"]["resourceVersion"];
        if is_ready(&device) && recorded.is_string() && *recorded == secret["metadata"]["resourceVersion"] {
            return secret;
        }
        if std::time::Instant::now() >= deadline {
            world.give_up("the Secret's version was never recorded", &json!([device, secret]));
        }
        tokio::time::sleep(crate::world::POLL).await;
    }
}
