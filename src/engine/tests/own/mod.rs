//! Devices with individual enrollments: each has a key of its own, in a Secret beside it.

mod changes;
mod claims;
mod races;
mod refusals;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::OperationKind;
use serde_json::{Value, json};

use super::vouching::text;
use super::{HUBS, Message, SCOPE, World, condition};
use crate::api::version;
use crate::engine::observe::sync::SourceWatch;
use crate::engine::tests::seen;

const MINUTE: Duration = Duration::from_secs(60);

/// A key of an individual enrollment, base64.
fn key(filler: u8) -> String {
    STANDARD.encode([filler; 64])
}

/// Settings of a device whose own key is in the Secret `NAME-dps`.
fn own(name: &str) -> Value {
    let reference = |key: &str| json!({"name": format!("{name}-dps"), "key": key});
    let keys =
        json!({"primaryKeyRef": reference("primaryKey"), "secondaryKeyRef": reference("secondaryKey")});
    json!({"attestation": {"symmetricKey": keys}})
}

fn in_slot(name: &str, active: &str) -> Value {
    let mut spec = own(name);
    spec["attestation"]["symmetricKey"]["active"] = json!(active);
    spec
}

impl World {
    /// With an integration whose devices share nothing.
    async fn per_device() -> Self {
        let mut world = Self::start(&[]).await;
        world.declare_integration(json!({"attestation": {"perDevice": {}, "symmetricKey": null}}));
        world
    }

    /// The device's keys in its Secret, which has our label.
    fn give_keys(&mut self, name: &str, primary: &str, secondary: &str) {
        let data =
            json!({"primaryKey": STANDARD.encode(primary), "secondaryKey": STANDARD.encode(secondary)});
        let labels = json!({"dps-operator.io/watch": "true"});
        let secret = json!({"metadata": {"labels": labels}, "type": "Opaque", "data": data});
        self.api.apply("secrets", &format!("{name}-dps"), secret);
        self.deliver();
    }

    /// The enrollment in DPS has these keys.
    fn enroll(&self, name: &str, primary: u8, secondary: u8) {
        self.dps.control().set_device_keys(SCOPE, name, &key(primary), &key(secondary)).unwrap();
    }

    /// With a device that is enrolled and declared, and whose keys are at hand.
    async fn with_own(mut self, name: &str) -> Self {
        self.enroll(name, 1, 2);
        self.give_keys(name, &key(1), &key(2));
        self.declare(name, own(name));
        self.until_idle(0).await;
        // Its turn comes.
        self.pass(Duration::from_secs(10));
        self.until_ready(name).await;
        self
    }

    /// With one whose place is checked every ten minutes.
    async fn with_checks(name: &str) -> Self {
        let mut world = Self::per_device().await;
        world.declare_integration(json!({
            "attestation": {"perDevice": {}, "symmetricKey": null}, "deviceDefaults": {"driftCheck": {"interval": "10m"}},
        }));
        let mut world = world.with_own(name).await;
        world.until_idle(0).await;
        world
    }

    pub(in crate::engine::tests) fn hub_secret(&self, name: &str) -> Value {
        self.api.get("secrets", &format!("{name}-hub")).unwrap_or(Value::Null)
    }

    fn source_version(&self, name: &str) -> String {
        let secret = self.api.get("secrets", &format!("{name}-dps")).unwrap();
        secret["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }

    /// The watch of a Secret by its name.
    fn by_its_name(&self, secret: &str) -> SourceWatch {
        let namespace = self.engine.fleet.names.get("fleet").unwrap();
        SourceWatch::Named((namespace, secret.into()))
    }

    /// There is work to do for the device, or it is on its way.
    fn is_awake(&self, name: &str) -> bool {
        let id = self.engine.fleet.find("fleet", name).unwrap();
        self.engine.active.work(id).is_some()
    }

    fn asked(&self) -> usize {
        self.dps.control().ledger().len()
    }
}

fn ready(world: &World, name: &str) -> Value {
    let status = world.status(name);
    let ready = condition(&status, "Ready");
    json!([ready["status"], ready["reason"]])
}

#[tokio::test]
async fn a_device_is_registered_with_its_own_key_and_gets_it_as_it_is() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.dps.control().set_device_id(SCOPE, "edge-7", Some("Edge.Seven")).unwrap();
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", own("edge-7"));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;

    let (status, secret) = (world.status("edge-7"), world.hub_secret("edge-7"));
    assert_eq!(text(&secret, "sharedAccessKey"), key(1));
    let hub = status["assignedHub"].as_str().unwrap();
    assert!(HUBS.contains(&hub));
    let connection = format!("HostName={hub};DeviceId=Edge.Seven;SharedAccessKey={}", key(1));
    assert_eq!(text(&secret, "connectionString"), connection);
    assert!(world.dps.control().accepts_device_key(SCOPE, "edge-7", &text(&secret, "sharedAccessKey")));
    assert_eq!((&status["deviceId"], &status["registrationId"]), (&json!("Edge.Seven"), &json!("edge-7")));
    let credential = &status["credential"];
    assert_eq!((&credential["type"], &credential["slot"]), (&json!("SymmetricKey"), &json!("Primary")));
    assert_eq!(credential["secretName"], "edge-7-dps");
    assert_eq!(credential["secretResourceVersion"], world.source_version("edge-7"));
    assert_eq!(world.registers(), 1);
    assert_eq!(world.api.reads("secrets", "edge-7-dps"), 1);
    assert_eq!(
        (world.integration_reason(), &world.integration()["credentials"]),
        ("Available".to_owned(), &Value::Null)
    );
    assert_eq!(world.integration()["acceptedIdScope"], SCOPE);
}

#[tokio::test]
async fn it_may_stand_beside_devices_of_a_group_and_counts_in_no_rotation() {
    let mut world = World::start(&[]).await.with_own("edge-7").await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    let rotated = super::OTHER_KEY;
    world.dps.control().set_group_keys(SCOPE, "fleet", rotated, rotated).unwrap();
    world.show_keys(rotated, rotated);
    world.until_idle(0).await;
    world.until_ready("truck-1").await;
    world.pass(MINUTE);
    world.until_idle(0).await;

    assert_eq!(text(&world.hub_secret("edge-7"), "sharedAccessKey"), key(1));
    let ledger = world.dps.control().ledger();
    let of_edge = ledger.iter().filter(|entry| entry.registration_id.as_deref() == Some("edge-7"));
    assert_eq!(of_edge.filter(|entry| entry.operation == OperationKind::Register).count(), 1);
    assert_eq!(world.integration()["keyRotation"], Value::Null);
}

#[tokio::test]
async fn where_nothing_is_shared_a_device_without_its_own_key_says_so() {
    let mut world = World::per_device().await;
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "InvalidConfiguration").await;
    assert_eq!(world.asked(), 0);
    world.enroll("truck-1", 1, 2);
    world.give_keys("truck-1", &key(1), &key(2));
    world.declare("truck-1", own("truck-1"));
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn a_new_process_reads_no_key_and_calls_and_writes_nothing() {
    let mut world = World::per_device().await;
    for name in ["edge-1", "edge-2", "edge-3"] {
        world = world.with_own(name).await;
    }
    world.pass(MINUTE);
    world.until_idle(0).await;
    let reads = |world: &World| {
        ["edge-1", "edge-2", "edge-3"].map(|name| world.api.reads("secrets", &format!("{name}-dps")))
    };
    let before = (world.asked(), world.writes(), reads(&world));
    world.restart();
    world.until_idle(0).await;
    world.pass(MINUTE * 5);
    world.until_idle(0).await;
    assert_eq!((world.asked(), world.writes(), reads(&world)), before);
}

#[tokio::test]
async fn a_drift_check_is_signed_with_its_own_key_and_finds_it_elsewhere() {
    let mut world = World::with_checks("edge-7").await;
    let hub = world.status("edge-7")["assignedHub"].as_str().unwrap().to_owned();
    let other = HUBS.into_iter().find(|other| *other != hub).unwrap();
    world.dps.control().move_device(SCOPE, "edge-7", other).unwrap();
    for _ in 0..11 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!((world.status("edge-7")["assignedHub"].as_str(), world.registers()), (Some(other), 1));
    assert_eq!(text(&world.hub_secret("edge-7"), "iotHubHostname"), other);

    // Without the key nothing can be asked, and nothing is wrong for that.
    world.delete("secrets", "edge-7-dps");
    let before = (world.asked(), world.writes());
    for _ in 0..22 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!((world.asked(), world.writes()), before);
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
}

#[tokio::test]
async fn a_secret_without_our_label_is_looked_at_once_a_minute() {
    let mut world = World::per_device().await;
    // As many as are watched by their names.
    for number in 0..32 {
        let name = format!("other-{number}");
        world.declare(&name, own(&name));
    }
    world.until_idle(0).await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.api.apply(
        "secrets",
        "edge-7-dps",
        json!({"metadata": {"labels": {"dps-operator.io/watch": null}}}),
    );
    world.api.changes();
    world.declare("edge-7", own("edge-7"));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;

    world.enroll("edge-7", 3, 4);
    let data =
        json!({"data": {"primaryKey": STANDARD.encode(key(3)), "secondaryKey": STANDARD.encode(key(4))}});
    world.api.apply("secrets", "edge-7-dps", data);
    world.api.changes();
    let gets_it = |world: &World| text(&world.hub_secret("edge-7"), "sharedAccessKey") == key(3);
    for _ in 0..110 {
        world.pass(Duration::from_secs(1));
        world.until_idle(0).await;
    }
    world.until("the new key", gets_it).await;
    assert_eq!(world.registers(), 2);
}

#[tokio::test]
async fn one_that_is_watched_by_its_name_is_read_at_once() {
    let mut world = World::per_device().await.with_own("edge-7").await;
    world.until_idle(0).await;
    world.enroll("edge-7", 3, 4);
    let data = json!({"data": {"primaryKey": STANDARD.encode(key(3))}});
    world.api.apply("secrets", "edge-7-dps", data);
    let mut secret = world.api.get("secrets", "edge-7-dps").unwrap();
    world.api.changes();
    secret["data"] = Value::Null;
    assert!(version::parse(secret["metadata"]["resourceVersion"].as_str()) > 0);
    let watch = world.by_its_name("edge-7-dps");
    world.take(Message::Source(watch, seen(secret, false)));
    world.until("the new key", |world| text(&world.hub_secret("edge-7"), "sharedAccessKey") == key(3)).await;
}

#[tokio::test]
async fn a_fleet_that_waits_for_its_turn_has_each_key_read_once() {
    const FLEET: usize = 560;
    let mut world = World::per_device().await.with_own("first").await;
    for number in 0..FLEET {
        let name = format!("edge-{number}");
        world.enroll(&name, 1, 2);
        world.give_keys(&name, &key(1), &key(2));
        world.declare(&name, own(&name));
    }
    world.until_idle(0).await;
    let reads = |world: &World| {
        (0..FLEET).map(|number| world.api.reads("secrets", &format!("edge-{number}-dps"))).sum::<usize>()
    };
    assert_eq!(reads(&world), FLEET, "what is missing is known before their turn comes");
    // One whose key changes while it sleeps gets the new one.
    world.enroll("edge-559", 3, 4);
    world.give_keys("edge-559", &key(3), &key(4));
    while world.registers() <= FLEET {
        world.pass(Duration::from_secs(1));
        world.until_idle(0).await;
    }
    world
        .until("all are Ready", |world| {
            let ready = |name: &str| self::ready(world, name) == json!(["True", "Provisioned"]);
            (0..FLEET).all(|number| ready(&format!("edge-{number}")))
        })
        .await;
    assert_eq!((world.registers(), reads(&world)), (FLEET + 1, FLEET + 1));
    assert_eq!(text(&world.hub_secret("edge-559"), "sharedAccessKey"), key(3));
    // It says of each at which version its key was looked at, so that the next process reads none.
    for number in 0..FLEET {
        let name = format!("edge-{number}");
        assert_eq!(world.status(&name)["credential"]["secretResourceVersion"], world.source_version(&name));
    }
    world.pass(MINUTE);
    world.until_idle(0).await;
    assert!((0..FLEET).all(|number| !world.is_awake(&format!("edge-{number}"))), "none has work left");
    let before = (world.asked(), world.writes(), reads(&world));
    world.restart();
    world.until_idle(0).await;
    assert_eq!((world.asked(), world.writes(), reads(&world)), before);
}
