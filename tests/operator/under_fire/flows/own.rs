//! What happens to a device with a key of its own.

use serde_json::{Value, json};

use super::super::enumerator::Flow;
use super::{change, device_is, provisioned, ready};
use crate::world::keys::{OWN_KEYS, fingerprint};
use crate::world::{Kind, SCOPE, Setup, World, manifests};

const OWN: [&str; 2] = [OWN_KEYS[0], OWN_KEYS[1]];

/// Its keys are in DPS and in its Secret.
async fn enrolled(world: &World, device: &str) {
    world.dps.set_device_keys(SCOPE, device, OWN[0], OWN[1]).expect("the keys are valid");
    world.own_keys(device, OWN).await;
}

async fn registered(world: &World, device: &str) {
    world.enrolled(device, OWN).await;
    world.wait_ready(device).await;
}

fn has_key(device: &Value, key: &str) -> bool {
    device["status"]["credential"]["fingerprint"] == fingerprint(key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device() {
    let act = async |world: &World, device: &str| {
        world.device_with(device, manifests::own_keys(device)).await;
    };
    Flow { name: "create, own key", setup: Setup::default(), prepare: enrolled, act, done: ready }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key() {
    let act = async |world: &World, device: &str| {
        world.dps.set_device_keys(SCOPE, device, OWN_KEYS[2], OWN[1]).expect("the keys are valid");
        world.change_own_keys(device, [OWN_KEYS[2], OWN[1]]).await;
    };
    let done = device_is("registered with its new key", |device| has_key(device, OWN_KEYS[2]));
    Flow { name: "own key, value", setup: Setup::default(), prepare: registered, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_slot() {
    let act = change(json!({"attestation": {"symmetricKey": {"active": "Secondary"}}}));
    let done = device_is("registered with its other key", |device| has_key(device, OWN[1]));
    Flow { name: "own key, slot", setup: Setup::default(), prepare: registered, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_leaves_its_group() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        enrolled(world, device).await;
    };
    let act = async |world: &World, device: &str| {
        world.patch(Kind::Device, device, json!({"spec": manifests::own_keys(device)})).await;
    };
    let done = device_is("registered with its own key", |device| has_key(device, OWN[0]));
    Flow { name: "from the group to its own key", setup: Setup::default(), prepare, act, done }
        .enumerate()
        .await;
}
