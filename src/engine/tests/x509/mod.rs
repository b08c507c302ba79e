//! Devices with certificates, each in a Secret beside it.

mod issuance;
mod mishaps;
mod random;
mod renewals;
mod rolls;
mod trouble;
mod waiting;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_dev::pki::Identity;
use dps_simulator::{Certificate, Certificates, Credential, LedgerEntry, OperationKind};
use serde_json::{Value, json};

use super::vouching::text;
use super::{HUBS, Message, Observed, SCOPE, SourceList, SourceWatch, WATCH, World, condition, seen};

const MINUTE: Duration = Duration::from_secs(60);

fn certificate(identity: &Identity) -> Certificate {
    Certificate::from_pem(&identity.pem).unwrap()
}

fn certificates(identity: &Identity) -> Certificates {
    Certificates { primary: certificate(identity), secondary: None }
}

impl World {
    /// With an integration whose devices have certificates of this CA, which DPS knows and has a group for.
    async fn with_group(root: &Identity) -> Self {
        let mut world = Self::start(&[]).await;
        let control = world.dps.control();
        control.upload_certificate_authority(SCOPE, "root", certificate(root), true).unwrap();
        control.set_group_certificates(SCOPE, "fleet", certificates(root)).unwrap();
        world.declare_integration(
            json!({"attestation": {"x509": {"secretName": "{name}-tls"}, "symmetricKey": null}}),
        );
        world
    }

    /// The device's certificate, with the CAs above it, in its Secret.
    fn give_certificate(&mut self, name: &str, device: &Identity, above: &[&Identity]) {
        self.give_files(name, &device.chain(above), &device.key_pem());
    }

    fn give_files(&mut self, name: &str, certificates: &str, key: &str) {
        let data = json!({"tls.crt": STANDARD.encode(certificates), "tls.key": STANDARD.encode(key)});
        let secret = json!({"type": "kubernetes.io/tls", "data": data});
        self.api.apply("secrets", &format!("{name}-tls"), secret);
        self.deliver();
    }

    /// What the watch of certificates does when it begins.
    fn list_certificates(&mut self) {
        let watch = SourceWatch::Listed(SourceList::Certificates, WATCH);
        self.take(Message::Source(watch.clone(), Observed::Listing(0)));
        for name in self.api.names("secrets").into_iter().filter(|name| name.ends_with("-tls")) {
            let secret = self.api.get("secrets", &name).unwrap();
            self.take(Message::Source(watch.clone(), seen(secret, false)));
        }
        self.take(Message::Source(watch, Observed::Listed));
    }

    fn device_secret(&self, name: &str) -> Value {
        self.api.get("secrets", &format!("{name}-hub")).unwrap_or(Value::Null)
    }

    /// The hub would let the device in with what is in its Secret.
    fn hub_takes(&self, name: &str) -> bool {
        let pem = text(&self.device_secret(name), "tls.crt");
        let presented = Certificate::from_pem(&pem).unwrap();
        self.dps.control().accepts_device_certificate(SCOPE, name, &presented)
    }

    fn registers_of(&self, name: &str) -> Vec<LedgerEntry> {
        let mut calls = self.calls_of(name);
        calls.retain(|entry| entry.operation == OperationKind::Register);
        calls
    }

    fn ready_reason(&self, name: &str) -> (String, String) {
        let status = self.status(name);
        let ready = condition(&status, "Ready");
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// With a device that has a certificate of this CA.
    async fn with_certified(mut self, root: &Identity, name: &str) -> Self {
        self.give_certificate(name, &root.device(name).unwrap(), &[]);
        self.declare(name, json!({}));
        self.until_ready(name).await;
        self.until_idle(0).await;
        self
    }
}

#[tokio::test]
async fn a_device_of_a_group_is_registered_with_its_certificate_and_gets_a_copy_of_it() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let ca = root.intermediate("factory").unwrap();
    let device = ca.device("truck-1").unwrap();
    world.give_certificate("truck-1", &device, &[&ca]);
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;

    let (status, secret) = (world.status("truck-1"), world.device_secret("truck-1"));
    let hub = status["assignedHub"].as_str().unwrap();
    assert!(HUBS.contains(&hub));
    assert_eq!(text(&secret, "connectionString"), format!("HostName={hub};DeviceId=truck-1;x509=true"));
    assert_eq!(text(&secret, "tls.crt"), device.chain(&[&ca]));
    assert_eq!(text(&secret, "tls.key"), device.key_pem());
    assert!(secret["data"]["sharedAccessKey"].is_null() && secret["type"] == "Opaque", "{secret}");
    assert!(world.hub_takes("truck-1"));
    let credential = &status["credential"];
    let thumbprint = certificate(&device).thumbprint().as_str().to_lowercase();
    assert_eq!(
        (&credential["type"], &credential["slot"], &credential["fingerprint"]),
        (&json!("X509"), &Value::Null, &json!(thumbprint[..16]))
    );
    assert_eq!(credential["notAfter"], "4096-01-01T00:00:00Z");
    let source = world.api.get("secrets", "truck-1-tls").unwrap();
    assert_eq!(credential["secretName"], "truck-1-tls");
    assert_eq!(credential["secretResourceVersion"], source["metadata"]["resourceVersion"]);
    let registers = world.registers_of("truck-1");
    assert_eq!(registers.len(), 1);
    assert_eq!(registers[0].credential, Credential::Certificate);
    assert_eq!(registers[0].certificate.as_ref().unwrap().chain_length, 2);
    assert_eq!(world.api.reads("secrets", "truck-1-tls"), 1);
    assert_eq!(world.integration()["acceptedIdScope"], SCOPE);
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn a_self_signed_certificate_of_an_individual_enrollment_may_stand_beside_a_group_of_keys() {
    let mut world = World::start(&[]).await;
    let edge = Identity::own("edge-7").unwrap();
    let control = world.dps.control();
    control.set_device_certificates(SCOPE, "edge-7", certificates(&edge)).unwrap();
    control.set_device_id(SCOPE, "edge-7", Some("Edge.Seven")).unwrap();
    world.give_certificate("edge-7", &edge, &[]);
    world.declare("edge-7", json!({"attestation": {"x509": {}}}));
    world.declare("truck-1", json!({}));
    world.until_ready("edge-7").await;
    world.until_ready("truck-1").await;
    world.until_idle(0).await;

    let secret = world.device_secret("edge-7");
    let hub = world.status("edge-7")["assignedHub"].as_str().unwrap().to_owned();
    assert_eq!(text(&secret, "connectionString"), format!("HostName={hub};DeviceId=Edge.Seven;x509=true"));
    assert_eq!(world.status("edge-7")["deviceId"], "Edge.Seven");
    assert!(text(&world.device_secret("truck-1"), "connectionString").contains("SharedAccessKey="));
}

#[tokio::test]
async fn of_a_fleet_that_waits_for_its_turn_each_certificate_is_read_once() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let names: Vec<String> = (0..40).map(|number| format!("truck-{number}")).collect();
    for name in &names {
        world.give_certificate(name, &root.device(name).unwrap(), &[]);
        world.declare(name, json!({}));
    }
    for _ in 0..90 {
        world.until_idle(0).await;
        world.pass(Duration::from_secs(1));
    }
    for name in &names {
        world.until_ready(name).await;
        assert_eq!(world.api.reads("secrets", &format!("{name}-tls")), 1, "{name}");
    }
    assert_eq!(world.registers(), 40);
}

#[tokio::test]
async fn a_new_process_reads_no_certificate_and_calls_and_writes_nothing() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let names = ["truck-1", "truck-2", "truck-3"];
    for name in names {
        world = world.with_certified(&root, name).await;
    }
    world.pass(MINUTE);
    world.until_idle(0).await;
    let reads = |world: &World| names.map(|name| world.api.reads("secrets", &format!("{name}-tls")));
    let before = (world.dps.control().ledger().len(), world.writes(), reads(&world));
    world.restart();
    world.until_idle(0).await;
    world.pass(MINUTE * 5);
    world.until_idle(0).await;
    assert_eq!((world.dps.control().ledger().len(), world.writes(), reads(&world)), before);
}

#[tokio::test]
async fn no_connection_carries_two_devices_and_none_resumes_a_session() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    for name in ["truck-1", "truck-2", "truck-3"] {
        world = world.with_certified(&root, name).await;
    }
    let ledger = world.dps.control().ledger();
    let mut devices = std::collections::HashMap::new();
    for entry in ledger.iter().filter(|entry| entry.certificate.is_some()) {
        let device = entry.registration_id.clone();
        assert_eq!(devices.entry(entry.connection).or_insert(device.clone()), &device);
        assert!(!entry.resumed);
    }
    assert!(devices.len() >= 3, "{devices:?}");
}
