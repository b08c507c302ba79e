//! What happens to a device with a certificate.

use std::sync::LazyLock;

use dps_dev::pki::Identity;
use dps_simulator::{CertificateAuthority, EnrollmentGroup};
use serde_json::{Value, json};

use super::super::enumerator::Flow;
use super::super::snapshot::twin_of;
use super::{change, group_of, provisioned, ready};
use crate::world::certificates::{self, certificate};
use crate::world::objects::{data, is_ready};
use crate::world::waiting::until;
use crate::world::{Kind, PATIENCE, POLL, Setup, World};

pub static ROOT: LazyLock<Identity> = LazyLock::new(|| certificates::root("fleet-root"));
static NEXT_ROOT: LazyLock<Identity> = LazyLock::new(|| certificates::root("next-root"));

/// DPS has a group for devices under each of these CAs, beside that with keys.
pub fn with_certificates() -> Setup {
    let mut setup = Setup::default();
    let scope = &mut setup.simulator.id_scopes[0];
    for (group, root) in [("lorries", &*ROOT), ("vans", &*NEXT_ROOT)] {
        let certificate = certificate(&root.pem);
        scope.enrollment_groups.push(EnrollmentGroup::x509(group, certificate.clone()));
        let name = format!("{group}-root");
        scope.certificate_authorities.push(CertificateAuthority { name, certificate, verified: true });
    }
    setup
}

fn own() -> Value {
    json!({"attestation": {"x509": {}}})
}

/// Its certificate is there, and a newer one than before.
async fn issued(world: &World, device: &str) {
    world.issue(device, &certificates::device(&ROOT, device), &[]).await;
}

async fn registered(world: &World, device: &str) {
    issued(world, device).await;
    world.device_with(device, own()).await;
    world.wait_ready(device).await;
}

/// Waits until it has the certificate that was issued last, and its status says so.
async fn has_the_newest(world: &World, device: &str) {
    let source = world.get(Kind::Secret, &format!("{device}-tls")).await;
    let newest = data(&source)["tls.crt"].clone();
    let is_copied = |secret: &Value| data(secret).get("tls.crt") == Some(&newest);
    world.wait(Kind::Secret, &format!("{device}-hub"), "the newest certificate", is_copied).await;
    let fingerprint = certificates::fingerprint(&newest);
    let says_so =
        |object: &Value| is_ready(object) && object["status"]["credential"]["fingerprint"] == fingerprint;
    world.wait(Kind::Device, device, "its status", says_so).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device() {
    let act = async |world: &World, device: &str| {
        world.device_with(device, own()).await;
    };
    Flow { name: "create, certificate", setup: with_certificates(), prepare: issued, act, done: ready }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate() {
    Flow {
        name: "renewal",
        setup: with_certificates(),
        prepare: registered,
        act: issued,
        done: has_the_newest,
    }
    .enumerate()
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca() {
    let act = async |world: &World, device: &str| {
        world.issue(device, &certificates::device(&NEXT_ROOT, device), &[]).await;
    };
    Flow {
        name: "renewal by another CA",
        setup: with_certificates(),
        prepare: registered,
        act,
        done: has_the_newest,
    }
    .enumerate()
    .await;
}

/// Two devices with certificates of one CA, under an integration of their own, which has met no other CA.
async fn two_of_one_ca(world: &World, device: &str) {
    let integration = group_of(device);
    let x509 = json!({"attestation": {"symmetricKey": null, "x509": {}}});
    world.integration_without_key(&integration, x509).await;
    for name in [device.to_owned(), twin_of(device)] {
        issued(world, &name).await;
        world.device_with(&name, json!({"integrationRef": {"name": integration}})).await;
        world.wait_ready(&name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_that_both_change_to_another_ca() {
    let act = async |world: &World, device: &str| {
        for name in [device.to_owned(), twin_of(device)] {
            world.issue(&name, &certificates::device(&NEXT_ROOT, &name), &[]).await;
        }
    };
    let done = async |world: &World, device: &str| {
        for name in [device.to_owned(), twin_of(device)] {
            has_the_newest(world, &name).await;
        }
    };
    Flow { name: "two devices, another CA", setup: with_certificates(), prepare: two_of_one_ca, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_renewed_while_it_is_registered() {
    let act = async |world: &World, device: &str| {
        let before = world.registers_of(device);
        issued(world, device).await;
        let is_registered = async || if world.registers_of(device) > before { Ok(()) } else { Err(()) };
        until(PATIENCE, POLL, is_registered).await.expect("the renewal is registered");
        issued(world, device).await;
    };
    Flow {
        name: "renewal during a renewal",
        setup: with_certificates(),
        prepare: registered,
        act,
        done: has_the_newest,
    }
    .enumerate()
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_changes_from_its_groups_key_to_a_certificate() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        issued(world, device).await;
    };
    let act = change(own());
    Flow {
        name: "from a key to a certificate",
        setup: with_certificates(),
        prepare,
        act,
        done: has_the_newest,
    }
    .enumerate()
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_changes_from_a_certificate_to_its_groups_key() {
    let act = change(json!({"attestation": null}));
    let done = super::device_is("registered with a key", |device| {
        device["status"]["credential"]["type"] == "SymmetricKey"
    });
    Flow { name: "from a certificate to a key", setup: with_certificates(), prepare: registered, act, done }
        .enumerate()
        .await;
}
