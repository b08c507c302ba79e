//! What happens to one fleet keeps no other device waiting, and is begun a part at a time.

use std::cell::Cell;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::{OTHER_SCOPE, World};
use crate::api::conditions::Reason;
use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::controller::device::decide::{Verdict, registered_hash};
use crate::controller::device::facts::{Facts, Registered, ServedRequests, WrittenSecret};
use crate::controller::device::registered::Made;
use crate::controller::device::secret::{self, Material};
use crate::controller::device::settings::Settings;
use crate::controller::device::status;

const FLEET: usize = 1100;
/// Of an answer of the API server.
const LATENCY: Duration = Duration::from_millis(10);
/// Objects of devices that may be in memory at a time: far fewer than a fleet has. Of 512 DPS may have
/// answered and of 192 not.
const AT_A_TIME: usize = 800;

/// A fleet as it stands once it is provisioned, and another integration in another scope.
async fn with_a_fleet() -> World {
    let mut world = World::start(&["--registrations-per-minute=1000000"]).await;
    world.declare_integration_named("other", json!({"idScope": OTHER_SCOPE}));
    world.show_keys(super::KEY, super::OTHER_KEY);
    world.declare("first", json!({}));
    world.until_ready("first").await;
    for number in 0..FLEET {
        world.provision(&format!("truck-{number:04}"));
    }
    // As they are in the end.
    world.api.show_all();
    world.deliver();
    world.until_idle(0).await;
    assert_eq!(world.registers(), 1, "all others are settled");
    world
}

impl World {
    /// A device with the Secret and the status that it has once DPS has assigned it to a hub.
    fn provision(&mut self, name: &str) {
        self.api.apply("provisioneddevices", name, json!({"spec": {"integrationRef": {"name": "factory"}}}));
        let next = self.api.version() + 1;
        let (secret, status) = self.provisioned(name, super::HUBS[0], next);
        self.api.apply("secrets", &format!("{name}-hub"), serde_json::to_value(secret).unwrap());
        assert_eq!(self.api.version(), next);
        self.api.apply("provisioneddevices", name, json!({"status": status}));
    }

    /// Secret and status of a device that is assigned to this hub; `version`: the Secret's.
    pub(super) fn provisioned(
        &self,
        name: &str,
        hub: &str,
        version: u64,
    ) -> (Secret, ProvisionedDeviceStatus) {
        let sym = self.engine.fleet.get(0).unwrap().integration;
        let target = self.engine.registry.target(sym).unwrap();
        let device: ProvisionedDevice =
            serde_json::from_value(self.api.get("provisioneddevices", name).unwrap()).unwrap();
        let settings = Settings::of(&device, target.defaults.as_deref()).unwrap();
        let made = Made {
            scope: target.scope(),
            registration_id: name,
            credential: target.credentials.in_use(),
            slot: target.credentials.slot(),
            key_secret: None,
            certificate: None,
            hash: registered_hash(&settings, target),
        };
        let registered = Registered::new(super::answers::assignment(hub, name), made).made_at(self.now.wall);
        let credential = target.credentials.for_device(&settings.registration_id).unwrap();
        let served = ServedRequests::default();
        let material = Material { target, credential: &credential, served: &served };
        let desired = secret::render(&device, &settings, &registered, &material);
        let object = desired.object();
        let written = WrittenSecret {
            name: desired.name,
            version,
            rendered: Some(desired.rendered),
            record: registered.record(&served),
            binding: false,
        };
        let facts =
            Facts { registered: Some(registered), secret: Some(written), fresh: true, ..Facts::default() };
        let verdict = Verdict { reason: Reason::Provisioned, message: "Assigned.".to_owned() };
        (object, status::render(&device, &facts, &verdict, self.now.wall))
    }
}

/// A new device of the other integration gets its Secret and status while something happens to the fleet.
async fn is_ready_before(world: &mut World, what: &str, done: impl Fn(&World) -> usize) {
    let (most, before) = (Cell::new(0), done(world));
    world.api.set_latency(LATENCY);
    world.declare("innocent", json!({"integrationRef": {"name": "other"}}));
    world
        .until("the innocent device", |world| {
            most.set(most.get().max(world.engine.active.awake()));
            world.reason("innocent") == "Provisioned"
        })
        .await;
    let meanwhile = done(world) - before;
    assert!(meanwhile < FLEET / 2, "{what}: {meanwhile} of the fleet came first");
    world.api.set_latency(Duration::ZERO);
    world
        .until(what, |world| {
            most.set(most.get().max(world.engine.active.awake()));
            done(world) - before == FLEET
        })
        .await;
    assert!(most.get() <= AT_A_TIME, "{what}: {} at a time", most.get());
}

/// The innocent device and the first one are not counted.
fn is_of_others(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap();
    name.starts_with("innocent") || name.starts_with("first")
}

fn secrets_with(world: &World, holds: impl Fn(&Value) -> bool) -> usize {
    world.api.count("secrets", |secret| !is_of_others(secret) && holds(secret))
}

fn written_since(world: &World, before: u64) -> usize {
    secrets_with(world, |secret| {
        let version = secret["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        version > before
    })
}

#[tokio::test]
async fn a_fleet_that_is_rewritten() {
    let mut world = with_a_fleet().await;
    world.declare_integration(
        json!({"deviceDefaults": {"driftCheck": {"interval": "0s"}, "secret": {"labels": {"a": "b"}}}}),
    );
    let rewritten = |world: &World| secrets_with(world, |secret| secret["metadata"]["labels"]["a"] == "b");
    is_ready_before(&mut world, "a label on every Secret", rewritten).await;
}

#[tokio::test]
async fn a_fleet_whose_secrets_are_deleted() {
    let mut world = with_a_fleet().await;
    let before = world.api.version();
    for number in 0..FLEET {
        world.api.delete("secrets", &format!("truck-{number:04}-hub"));
    }
    world.deliver();
    let written = |world: &World| written_since(world, before);
    is_ready_before(&mut world, "every Secret once more", written).await;
}

#[tokio::test]
async fn a_fleet_of_which_dps_answers_faster_than_the_api_server_takes_it() {
    let mut world = with_a_fleet().await;
    let before = world.api.version();
    world.show_keys(super::OTHER_KEY, super::KEY);
    let written = |world: &World| written_since(world, before);
    is_ready_before(&mut world, "every device registered again", written).await;
}

#[tokio::test]
async fn a_fleet_that_is_restored_without_statuses() {
    let mut world = with_a_fleet().await;
    world.api.forget_statuses();
    world.restart();
    let calls = world.dps.control().ledger_len();
    let restored = |world: &World| {
        world.api.count("provisioneddevices", |device| {
            !is_of_others(device) && device["status"]["assignedHub"].is_string()
        })
    };
    is_ready_before(&mut world, "every status once more", restored).await;
    let innocent = world.dps.control().ledger_since(calls.try_into().unwrap());
    assert!(innocent.iter().all(|entry| entry.registration_id.as_deref() == Some("innocent")));
}

#[tokio::test]
async fn a_fleet_that_is_refused() {
    let mut world = World::start(&[]).await;
    world.declare_integration_named("other", json!({"idScope": OTHER_SCOPE}));
    world.declare_integration(json!({"registrationIdPrefixes": ["other-"]}));
    world.show_keys(super::KEY, super::OTHER_KEY);
    world.until_idle(0).await;
    for number in 0..FLEET {
        world.declare(&format!("truck-{number:04}"), json!({}));
    }
    let refused = |world: &World| {
        world.api.count("provisioneddevices", |device| {
            super::condition(&device["status"], "Ready")["reason"] == "ReferenceNotAllowed"
        })
    };
    is_ready_before(&mut world, "every device refused", refused).await;
}
