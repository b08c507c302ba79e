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
use crate::world::waiting::until;
use crate::world::{Kind, PATIENCE, POLL, World};

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
    let recorded = until(PATIENCE, POLL, async || {
        let device = world.get(Kind::Device, "truck-1").await;
        let secret = world.find(Kind::Secret, SECRET).await.unwrap_or_default();
        let recorded = &device["status"]["secret"]["resourceVersion"];
        let is_present = recorded.is_string() && *recorded == secret["metadata"]["resourceVersion"];
        if is_ready(&device) && is_present { Ok(secret) } else { Err(json!([device, secret])) }
    });
    let never = "the Secret's version was never recorded";
    recorded.await.unwrap_or_else(|last| world.give_up(never, &last))
}
