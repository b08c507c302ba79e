//! What happens to devices, as the enumerator runs it. A new flow is one more function: what there is
//! before, what happens, and when it is done.

mod issued;
mod own;
pub mod x509;

use serde_json::{Value, json};

use super::enumerator::Flow;
use super::snapshot::twin_of;
use crate::world::keys::fingerprint;
use crate::world::objects::{is_observed, is_ready, ready_reason};
use crate::world::{HUBS, Kind, PRIMARY_KEY, SCOPE, SECONDARY_KEY, Setup, World, condition, manifests};

async fn nothing(_: &World, _: &str) {}

/// A device that is Ready and has come to rest.
async fn provisioned(world: &World, device: &str) {
    world.device(device).await;
    world.wait_ready(device).await;
}

/// The device's spec is changed so.
fn change(spec: Value) -> impl AsyncFn(&World, &str) {
    async move |world, device| {
        world.patch(Kind::Device, device, json!({"spec": spec})).await;
    }
}

async fn ready(world: &World, device: &str) {
    world.wait_ready(device).await;
}

/// Waits until the device looks like this.
fn device_is(what: &'static str, fits: fn(&Value) -> bool) -> impl AsyncFn(&World, &str) {
    async move |world, device| {
        world.wait(Kind::Device, device, what, |object| is_ready(object) && fits(object)).await;
    }
}

/// Waits until its Secret looks like this.
fn secret_is(what: &'static str, fits: fn(&Value) -> bool) -> impl AsyncFn(&World, &str) {
    async move |world, device| {
        world.wait(Kind::Secret, &format!("{device}-hub"), what, fits).await;
        recorded(world, device).await;
    }
}

/// Waits until the status names the Secret as it is.
async fn recorded(world: &World, device: &str) {
    let secret = world.get(Kind::Secret, &format!("{device}-hub")).await;
    let version = secret["metadata"]["resourceVersion"].clone();
    let named = |object: &Value| object["status"]["secret"]["resourceVersion"] == version;
    world.wait(Kind::Device, device, "recorded", |object| is_ready(object) && named(object)).await;
}

/// An integration has events and counters of its own, which are none of the device's.
fn group_of(device: &str) -> String {
    format!("group-of-{device}")
}

/// An integration of its own for each device, whose Secret has both keys of the group.
async fn with_own_integration(world: &World, device: &str) {
    let name = group_of(device);
    world.integration_with_both_keys(&name, PRIMARY_KEY, SECONDARY_KEY).await;
    world.device_with(device, json!({"integrationRef": {"name": name}})).await;
    world.wait_ready(device).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device() {
    let (prepare, act) = (nothing, async |world: &World, device: &str| {
        world.device(device).await;
    });
    Flow { name: "create", setup: Setup::default(), prepare, act, done: ready }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_that_is_looked_up_first() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        world.delete(Kind::Device, device).await;
        world.wait_gone(Kind::Secret, &format!("{device}-hub")).await;
    };
    let act = async |world: &World, device: &str| {
        world.device_with(device, json!({"registration": {"onCreate": "LookupFirst"}})).await;
    };
    Flow { name: "look up first", setup: Setup::default(), prepare, act, done: ready }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_payload() {
    let act = change(json!({"payload": {"site": "gdansk"}}));
    Flow { name: "payload", setup: Setup::default(), prepare: provisioned, act, done: ready }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_on_request() {
    let act = async |world: &World, device: &str| {
        world.request_registration(Kind::Device, device, "now").await;
    };
    let done =
        device_is("registered again", |device| device["status"]["lastHandledReprovisionToken"] == "now");
    Flow { name: "token", setup: Setup::default(), prepare: provisioned, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_moved_and_is_looked_up() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        let hub = &world.get(Kind::Device, device).await["status"]["assignedHub"];
        let other = HUBS.into_iter().find(|other| hub != *other).expect("there are two");
        world.dps.move_device(SCOPE, device, other).expect("it is registered");
    };
    let act = async |world: &World, device: &str| world.request_lookup(Kind::Device, device, "now").await;
    let done = device_is("moved", |device| device["status"]["previousHub"].is_string());
    Flow { name: "moved", setup: Setup::default(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key() {
    let act = async |world: &World, device: &str| {
        world.change_group_key(&format!("{}-key", group_of(device)), SECONDARY_KEY).await;
    };
    let done = device_is("moved to the other key", |device| {
        device["status"]["credential"]["fingerprint"] == fingerprint(SECONDARY_KEY)
    });
    Flow { name: "rotation, value", setup: Setup::default(), prepare: with_own_integration, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_to_the_other_slot() {
    let act = async |world: &World, device: &str| {
        let slot = json!({"spec": {"attestation": {"symmetricKey": {"active": "Secondary"}}}});
        world.patch(Kind::Integration, &group_of(device), slot).await;
    };
    let done =
        device_is("moved to the other slot", |device| device["status"]["credential"]["slot"] == "Secondary");
    Flow { name: "rotation, slot", setup: Setup::default(), prepare: with_own_integration, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_secret() {
    let act = async |world: &World, device: &str| {
        let name = json!({"spec": {"secret": {"name": format!("{device}-renamed")}}});
        world.patch(Kind::Device, device, name).await;
    };
    let done = async |world: &World, device: &str| {
        let renamed = format!("{device}-renamed");
        let named = |object: &Value| is_ready(object) && object["status"]["secret"]["name"] == renamed;
        world.wait(Kind::Device, device, "renamed", named).await;
    };
    Flow { name: "renamed Secret", setup: Setup::default(), prepare: provisioned, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_format() {
    let act = change(json!({"secret": {"formats": [{"type": "Mqtt"}, {"type": "ServiceBinding"}]}}));
    let done = device_is("bound", |device| device["status"]["binding"].is_object());
    Flow { name: "formats", setup: Setup::default(), prepare: provisioned, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_integration_of_another_id_scope() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        let mill = json!({"idScope": crate::world::OTHER_SCOPE});
        world.integration_with(&group_of(device), mill).await;
    };
    let act = async |world: &World, device: &str| {
        let name = json!({"spec": {"integrationRef": {"name": group_of(device)}}});
        world.patch(Kind::Device, device, name).await;
    };
    let done = device_is("moved", |device| device["status"]["idScope"] == crate::world::OTHER_SCOPE);
    Flow { name: "integration switch", setup: Setup::two_id_scopes(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_deleted_and_created_again() {
    let act = async |world: &World, device: &str| {
        world.delete(Kind::Device, device).await;
        // Otherwise it would be chance whether the new device takes the Secret over or the collector comes first.
        world.wait_gone(Kind::Secret, &format!("{device}-hub")).await;
        world.device(device).await;
    };
    let (prepare, done) = (provisioned, ready);
    Flow { name: "delete and create", setup: Setup::default(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_to_be_adopted() {
    let prepare = async |world: &World, device: &str| {
        let name = format!("{device}-hub");
        let mut secret = manifests::secret(&name, &[("note", "from elsewhere")]);
        secret["metadata"]["annotations"] = json!({"dps-operator.io/adopt": "true"});
        world.create(Kind::Secret, secret).await;
    };
    let act = async |world: &World, device: &str| {
        world.device(device).await;
    };
    Flow { name: "adopt", setup: Setup::default(), prepare, act, done: ready }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_secret_and_a_new_device() {
    let retain = || json!({"secret": {"deletionPolicy": "Retain"}});
    let prepare = async |world: &World, device: &str| {
        world.device_with(device, retain()).await;
        world.wait_ready(device).await;
        world.delete(Kind::Device, device).await;
        world.wait_gone(Kind::Device, device).await;
    };
    let act = async |world: &World, device: &str| {
        world.device_with(device, retain()).await;
    };
    Flow { name: "Retain", setup: Setup::default(), prepare, act, done: ready }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_secret() {
    let act = async |world: &World, device: &str| {
        world.delete(Kind::Secret, &format!("{device}-hub")).await;
    };
    let done = secret_is("restored", |_| true);
    Flow { name: "deleted Secret", setup: Setup::default(), prepare: provisioned, act, done }
        .enumerate()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_without_status_and_owners() {
    let act = async |world: &World, device: &str| {
        let owners = json!({"metadata": {"ownerReferences": null}});
        world.patch(Kind::Secret, &format!("{device}-hub"), owners).await;
        world.forget_status(device).await;
    };
    let done = secret_is("owned again", |secret| secret["metadata"]["ownerReferences"].is_array());
    Flow { name: "backup", setup: Setup::default(), prepare: provisioned, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_device_that_is_resumed_after_a_change() {
    let prepare = async |world: &World, device: &str| {
        provisioned(world, device).await;
        change(json!({"suspend": true, "payload": {"site": "gdansk"}}))(world, device).await;
        world.wait_reason(device, "Suspended").await;
    };
    let done = device_is("resumed", |device| ready_reason(device) == "Provisioned" && is_observed(device));
    let act = change(json!({"suspend": false}));
    Flow { name: "suspend and resume", setup: Setup::default(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_with_a_registration() {
    let prepare = async |world: &World, device: &str| {
        world.dps.set_static_hub(SCOPE, crate::world::GROUP, HUBS[0]).expect("it is linked");
        provisioned(world, device).await;
        world.dps.set_static_hub(SCOPE, crate::world::GROUP, HUBS[1]).expect("it is linked");
    };
    let act = change(json!({"payload": {"site": "gdansk"}}));
    let done = device_is("moved", |device| device["status"]["assignedHub"] == HUBS[1]);
    Flow { name: "hub move", setup: Setup::default(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_consent() {
    let act = async |world: &World, device: &str| {
        let others = json!({"spec": {"registrationIdPrefixes": ["others-"]}});
        world.patch(Kind::Integration, &group_of(device), others).await;
    };
    let done = async |world: &World, device: &str| {
        let refused = |object: &Value| {
            condition(object, "Stalled").is_some_and(|stalled| stalled.reason == "ReferenceNotAllowed")
        };
        world.wait(Kind::Device, device, "refused", refused).await;
    };
    Flow { name: "consent", setup: Setup::default(), prepare: with_own_integration, act, done }
        .enumerate()
        .await;
}

/// An integration has the device's name, so that its status counts as the device's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_integration_and_its_first_device() {
    let act = async |world: &World, device: &str| {
        world.integration(device).await;
        world.device_with(device, json!({"integrationRef": {"name": device}})).await;
    };
    let done = async |world: &World, device: &str| {
        world.wait_ready(device).await;
        world.wait_counters(device, |devices| devices["ready"] == 1).await;
        world.wait_integration(device, "Available").await;
    };
    // That DPS has accepted the key may have been known to the process that died only. It is known again
    // when DPS answers the next time.
    let settle = async |world: &World, device: &str| {
        world.request_lookup(Kind::Device, device, "now").await;
        world.wait_lookup_request(Kind::Device, device, "now").await;
        world.wait_integration(device, "Available").await;
    };
    Flow { name: "integration", setup: Setup::default(), prepare: nothing, act, done }
        .enumerate_and(settle)
        .await;
}

/// Two devices that want the same thing: the second one has to wait.
fn twins(spec: fn(&str) -> Value, waits: &'static str) -> impl AsyncFn(&World, &str) {
    async move |world, device| {
        world.device_with(device, spec(device)).await;
        world.wait_ready(device).await;
        world.device_with(&twin_of(device), spec(device)).await;
        world.wait_reason(&twin_of(device), waits).await;
    }
}

async fn delete(world: &World, device: &str) {
    world.delete(Kind::Device, device).await;
}

async fn twin_is_ready(world: &World, device: &str) {
    world.wait_ready(&twin_of(device)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_id_that_passes_to_another_device() {
    let prepare = twins(|device| json!({"registrationId": device}), "DuplicateRegistrationId");
    let (act, done) = (delete, twin_is_ready);
    Flow { name: "registration id", setup: Setup::default(), prepare, act, done }.enumerate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_whose_name_passes_to_another_device() {
    let named = |device: &str| json!({"secret": {"name": format!("{device}-shared")}});
    let prepare = twins(named, "SecretConflict");
    let (act, done) = (delete, twin_is_ready);
    Flow { name: "Secret's name", setup: Setup::default(), prepare, act, done }.enumerate().await;
}
