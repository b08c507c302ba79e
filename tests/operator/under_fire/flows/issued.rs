//! What happens to a device to which DPS issues a certificate.

use std::time::Duration;

use dps_simulator::Issuance;
use serde_json::{Value, json};

use super::super::enumerator::Flow;
use super::{device_is, group_of, with_own_integration};
use crate::world::objects::is_ready;
use crate::world::{Kind, PRIMARY_KEY, SECONDARY_KEY, Setup, World};

/// The group has a certificate policy.
fn issuing() -> Setup {
    let mut setup = Setup::default();
    let group = &mut setup.simulator.id_scopes[0].enrollment_groups[0];
    group.issuance = Some(Issuance { validity: Duration::from_secs(24 * 60 * 60) });
    setup
}

/// Its integration has DPS issue certificates.
async fn ask(world: &World, device: &str) {
    let certificate = json!({"spec": {"certificate": {"issuedBy": "Dps"}}});
    world.patch(Kind::Integration, &group_of(device), certificate).await;
}

/// An integration of its own that does.
async fn asking(world: &World, device: &str) {
    world.integration_with_both_keys(&group_of(device), PRIMARY_KEY, SECONDARY_KEY).await;
    ask(world, device).await;
}

async fn declared(world: &World, device: &str) {
    world.device_with(device, json!({"integrationRef": {"name": group_of(device)}})).await;
}

async fn registered(world: &World, device: &str) {
    asking(world, device).await;
    declared(world, device).await;
    world.wait(Kind::Device, device, "issued", is_issued).await;
}

fn is_issued(device: &Value) -> bool {
    is_ready(device) && device["status"]["issuedCertificate"].is_object()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device() {
    let done = device_is("issued", is_issued);
    Flow { name: "create, issued by DPS", setup: issuing(), prepare: asking, act: declared, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_goes_over_from_its_key() {
    let done = device_is("issued", is_issued);
    Flow {
        name: "from a key to one issued by DPS",
        setup: issuing(),
        prepare: with_own_integration,
        act: ask,
        done,
    }
    .enumerate()
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_deleted_with_the_only_key() {
    let act = async |world: &World, device: &str| {
        world.delete(Kind::Secret, &format!("{device}-hub")).await;
    };
    let done = async |world: &World, device: &str| {
        let secret = world.wait(Kind::Secret, &format!("{device}-hub"), "there again", |_| true).await;
        let version = secret["metadata"]["resourceVersion"].clone();
        let named = |object: &Value| object["status"]["secret"]["resourceVersion"] == version;
        world.wait(Kind::Device, device, "issued again", |object| is_issued(object) && named(object)).await;
    };
    Flow { name: "Secret deleted, issued by DPS", setup: issuing(), prepare: registered, act, done }
        .enumerate()
        .await;
}
