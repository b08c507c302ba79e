//! Beside devices of a group, and of other integrations.

use serde_json::json;

use super::OWN;
use crate::world::keys::{OWN_KEYS, made_from};
use crate::world::objects::is_ready;
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SCOPE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_integration_with_a_group_key_each_has_its_own_way() {
    let world = World::accepted().await;
    world.enrolled("edge-7", OWN).await;
    world.device("truck-1").await;
    for device in ["edge-7", "truck-1"] {
        world.wait_ready(device).await;
    }
    let key = async |device: &str| made_from(&world.get(Kind::Secret, &format!("{device}-hub")).await);
    assert_eq!((key("edge-7").await, key("truck-1").await), (OWN[0], PRIMARY_KEY));

    // From the group to its own enrollment.
    world.dps.set_device_keys(SCOPE, "truck-1", OWN[0], OWN[1]).unwrap();
    world.own_keys("truck-1", OWN).await;
    let spec = crate::world::manifests::own_keys("truck-1");
    world.patch(Kind::Device, "truck-1", json!({"spec": spec})).await;
    let is_its_own = |secret: &serde_json::Value| made_from(secret) == OWN[0];
    world.wait(Kind::Secret, "truck-1-hub", "its own key", is_its_own).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers_of("truck-1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_one_key_takes_nobody_elses_id() {
    let world = World::accepted().await;
    let attestation = json!({"attestation": {"symmetricKey": null, "perDevice": {}}});
    world.integration_without_key("stranger", attestation).await;
    let of_stranger = |name: &str, id: &str| {
        let mut spec = crate::world::manifests::own_keys(name);
        spec["integrationRef"] = json!({"name": "stranger"});
        spec["registrationId"] = json!(id);
        spec
    };
    world.dps.set_device_keys(SCOPE, "edge-7", OWN[0], OWN[1]).unwrap();
    world.own_keys("edge-7", OWN).await;
    world.device_with("edge-7", of_stranger("edge-7", "edge-7")).await;
    world.wait_ready("edge-7").await;
    for number in 1..=5 {
        let name = format!("grab-{number}");
        world.own_keys(&name, [OWN_KEYS[2], OWN[1]]).await;
        world.device_with(&name, of_stranger(&name, &format!("truck-{number}"))).await;
        world.wait_reason(&name, "Unauthorized").await;
    }

    world.devices("truck", 5).await;

    for number in 1..=5 {
        world.wait_ready(&format!("truck-{number}")).await;
    }
    world.device_with("double", json!({"registrationId": "edge-7"})).await;
    world.wait_reason("double", "DuplicateRegistrationId").await;
    assert!(is_ready(&world.get(Kind::Device, "edge-7").await));
    world.wait_integration(INTEGRATION, "Available").await;
    world.wait_integration("stranger", "Available").await;
}
