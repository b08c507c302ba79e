//! Two operators over the same objects: not what one should do, and nothing is lost by it.

use serde_json::{Value, json};

use crate::world::keys::{NEW_KEY, fingerprint};
use crate::world::objects::uid;
use crate::world::{INTEGRATION, Kind, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_over_the_same_objects_make_more_calls_and_lose_nothing() {
    const DEVICES: usize = 12;
    let world = World::empty().await;
    let _second = world.second_operator().await;
    let quiet = json!({"deviceDefaults": {"driftCheck": {"interval": "0s"}}});
    world.integration_with(INTEGRATION, quiet).await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;

    world.rotate_group_key(NEW_KEY).await;

    let fingerprint = fingerprint(NEW_KEY);
    for number in 1..=DEVICES {
        let name = format!("truck-{number}");
        let moved = |device: &Value| device["status"]["credential"]["fingerprint"] == fingerprint;
        let device = world.wait(Kind::Device, &name, "on the new key", moved).await;
        let secret = world.get(Kind::Secret, &format!("{name}-hub")).await;
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid(&device));
        assert!(world.hub_accepts(&name, &format!("{name}-hub")).await, "{name}");
    }
    world.assert_only_device_calls();
    let registers = world.registers();
    assert!((2 * DEVICES..=6 * DEVICES).contains(&registers), "{registers} registers");
}
