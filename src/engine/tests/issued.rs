//! Devices to which DPS issues certificates as they register.

mod random;

use std::time::Duration;

use dps_simulator::{Certificate, Fault, FaultAction, Issuance, LedgerEntry, OperationKind};
use jiff::Timestamp;
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::api::{Spoiled, Wrong};
use super::vouching::text;
use super::{SCOPE, World, condition};

const MINUTE: Duration = Duration::from_secs(60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl World {
    /// With an integration whose group has a certificate policy, and which has it used.
    async fn issuing() -> Self {
        Self::issuing_for(MONTH).await
    }

    /// The simulator's certificates begin five minutes before they are issued.
    async fn issuing_for(validity: Duration) -> Self {
        let mut world = Self::start(&[]).await;
        world.dps.control().set_group_issuance(SCOPE, "fleet", Some(Issuance { validity })).unwrap();
        world.declare_integration(json!({"certificate": {"issuedBy": "Dps"}}));
        world
    }

    async fn with_issued(mut self, name: &str) -> Self {
        self.declare(name, json!({}));
        self.until_ready(name).await;
        self.until_idle(0).await;
        self
    }

    /// Its Secret has this key.
    fn has(&self, name: &str, key: &str) -> bool {
        !text(&self.hub_secret(name), key).is_empty()
    }

    fn leaf(&self, name: &str) -> Certificate {
        Certificate::from_pem(&text(&self.hub_secret(name), "tls.crt")).unwrap()
    }

    /// The Secret has a certificate that DPS has issued for this device, which its hub takes, and the status says which.
    fn assert_issued(&self, name: &str) {
        let (leaf, secret) = (self.leaf(name), self.hub_secret(name));
        assert!(self.dps.control().accepts_device_certificate(SCOPE, name, &leaf), "{name}");
        let thumbprint = leaf.thumbprint().as_str().to_lowercase();
        assert_eq!(self.status(name)["issuedCertificate"]["fingerprint"], thumbprint[..16]);
        assert!(secret["data"]["sharedAccessKey"].is_null());
        assert!(text(&secret, "connectionString").ends_with(&format!("DeviceId={name};x509=true")));
        assert_eq!(text(&secret, "ca.crt").trim(), self.dps.control().issuing_root_pem().trim());
        let issued = |entry: LedgerEntry| entry.issued.as_ref() == Some(&leaf.thumbprint());
        assert!(self.registrations(name).into_iter().any(issued), "{name}");
    }

    /// As the rate admits it.
    async fn until_in_time(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..120 {
            self.until_idle(0).await;
            if holds(self) {
                return;
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("not reached: {what}\n{}", self.api.dump());
    }

    /// How many certificates.
    fn issued(&self) -> usize {
        let ledger = self.dps.control().ledger();
        ledger.iter().filter(|e| e.operation == OperationKind::Register && e.issued.is_some()).count()
    }

    fn registrations(&self, name: &str) -> Vec<LedgerEntry> {
        let mut calls = self.calls_of(name);
        calls.retain(|entry| entry.operation == OperationKind::Register);
        calls
    }
}

#[tokio::test]
async fn a_device_connects_with_the_certificate_that_dps_has_issued_for_a_key_made_for_it() {
    let world = World::issuing().await.with_issued("truck-1").await;
    world.assert_issued("truck-1");
    let (status, secret) = (world.status("truck-1"), world.hub_secret("truck-1"));
    assert_eq!(status["credential"]["type"], "SymmetricKey");
    assert_eq!(text(&secret, "tls.crt").matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(world.registers(), 1);
    let key = text(&secret, "tls.key");
    let body = key.lines().nth(1).unwrap();
    assert!(!world.api.dump().contains(body) && !status.to_string().contains(body));
}

#[tokio::test]
async fn a_settled_device_costs_a_new_process_nothing_and_keeps_its_certificate_when_its_secret_is_mended() {
    let mut world = World::issuing().await.with_issued("truck-1").await;
    let (before, leaf) = ((world.dps.control().ledger().len(), world.writes()), world.leaf("truck-1"));
    world.restart();
    world.until_idle(0).await;
    assert_eq!((world.dps.control().ledger().len(), world.writes()), before);

    // Another name for a key, and an edited hub: what is mended has the same certificate.
    world.declare("truck-1", json!({"secret": {"keys": {"certificate": "cert.pem"}}}));
    world.until("it is renamed", |world| world.has("truck-1", "cert.pem")).await;
    world.until_idle(0).await;
    let renamed = Certificate::from_pem(&text(&world.hub_secret("truck-1"), "cert.pem")).unwrap();
    assert_eq!(renamed.thumbprint(), leaf.thumbprint());
    world.declare("truck-1", json!({"secret": null}));
    world.until("it is named as before", |world| world.has("truck-1", "tls.crt")).await;
    world.until_idle(0).await;
    world.api.apply("secrets", "truck-1-hub", json!({"data": {"iotHubHostname": "ZXZpbA=="}}));
    world.deliver();
    world.until("it is mended", |world| text(&world.hub_secret("truck-1"), "iotHubHostname") != "evil").await;
    world.until_idle(0).await;
    assert_eq!(world.leaf("truck-1").thumbprint(), leaf.thumbprint());
    assert_eq!(world.registers(), 1);
    world.assert_issued("truck-1");
}

#[tokio::test]
async fn with_the_secret_the_key_is_gone_and_another_certificate_is_issued() {
    let mut world = World::issuing().await.with_issued("truck-1").await;
    let leaf = world.leaf("truck-1");
    world.delete("secrets", "truck-1-hub");
    world.until("it is there again", |world| !world.hub_secret("truck-1").is_null()).await;
    world.until_idle(0).await;
    world.assert_issued("truck-1");
    assert_ne!(world.leaf("truck-1").thumbprint(), leaf.thumbprint());
    assert_eq!(world.registers(), 2);

    // So it is when the certificate was edited.
    let other = json!({"data": {"tls.crt": "Zm9v"}});
    world.api.apply("secrets", "truck-1-hub", other);
    world.deliver();
    world.until("it is issued again", |world| world.registrations("truck-1").len() == 3).await;
    world.until_idle(0).await;
    world.assert_issued("truck-1");
}

#[tokio::test]
async fn another_one_is_issued_after_two_thirds_of_its_life_and_only_then() {
    let mut world = World::issuing_for(MINUTE * 25).await.with_issued("truck-1").await;
    let before = world.leaf("truck-1").thumbprint();
    for _ in 0..14 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!(world.registers(), 1);
    world.dps.control().set_clock_ahead(16 * 60);
    world.pass(MINUTE * 2);
    world.until_in_time("another one is issued", |world| world.leaf("truck-1").thumbprint() != before).await;
    world.assert_issued("truck-1");
    assert_eq!(world.issued(), 2);
    let until: Timestamp =
        world.status("truck-1")["issuedCertificate"]["notAfter"].as_str().unwrap().parse().unwrap();
    assert!(until > world.now.wall + jiff::SignedDuration::from_mins(23));
    world.pass(MINUTE * 10);
    world.until_idle(0).await;
    assert_eq!(world.issued(), 2);
}

#[tokio::test]
async fn while_dps_is_away_the_certificate_serves_until_it_expires_and_that_is_said() {
    let mut world = World::issuing_for(MINUTE * 25).await.with_issued("truck-1").await;
    world.dps.control().inject(Fault::global(FaultAction::status(503))).unwrap();
    for _ in 0..24 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!(condition(&world.status("truck-1"), "Ready")["status"], "True");
    world.pass(MINUTE * 2);
    world.until_idle(0).await;
    let ready = condition(&world.status("truck-1"), "Ready").clone();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ServiceUnavailable")));

    world.dps.control().clear_faults();
    world.dps.control().set_clock_ahead(26 * 60);
    while world.issued() == 1 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    world.until_ready("truck-1").await;
    // The simulator's clock stands still meanwhile, so that what it issues by then is due already.
    world.until_idle(0).await;
    assert_eq!(world.issued(), 2);
}

#[tokio::test]
async fn one_that_expires_while_nothing_may_be_sent_is_said_by_itself() {
    let mut world = World::issuing_for(MINUTE * 25).await.with_issued("truck-1").await;
    world.declare_integration(json!({"suspend": true, "certificate": {"issuedBy": "Dps"}}));
    world.pass(MINUTE * 24);
    world.until_idle(0).await;
    assert_eq!(condition(&world.status("truck-1"), "Ready")["status"], "True");
    world.pass(MINUTE * 2);
    world.until_reason("truck-1", "CertificateExpired").await;
    assert_eq!(condition(&world.status("truck-1"), "Ready")["status"], "False");
    assert_eq!(world.registers(), 1);
}

#[tokio::test]
async fn a_process_that_dies_before_it_has_written_costs_one_more_certificate() {
    let mut world = World::issuing().await;
    world.api.spoil(Some(Spoiled { part: "/secrets", wrong: Wrong::Refused }));
    world.declare("truck-1", json!({}));
    world.until("DPS has issued", |world| world.registers() == 1).await;
    world.until("the write is refused", |world| world.api.get("secrets", "truck-1-hub").is_none()).await;
    world.api.spoil(None);
    world.restart();
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world.assert_issued("truck-1");
    assert!(world.registers() <= 2);
}

#[tokio::test]
async fn without_a_policy_the_device_says_so_and_gets_no_other_credential() {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"certificate": {"issuedBy": "Dps"}}));
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "InvalidConfiguration").await;
    let message = condition(&world.status("truck-1"), "Ready")["message"].to_string();
    assert!(message.contains("certificate policy"), "{message}");
    assert!(world.hub_secret("truck-1").is_null());
}

#[tokio::test]
async fn the_integration_names_the_ca_by_which_dps_has_issued_also_after_a_restart() {
    let mut world = World::issuing().await.with_issued("truck-1").await;
    let names = |world: &World, devices: usize| {
        let certificates = &world.integration()["certificates"];
        let issuers = certificates["issuers"].as_array().cloned().unwrap_or_default();
        let [issuer] = &issuers[..] else { return false };
        let shown = (&issuer["fingerprint"], &issuer["devices"], &issuer["accepted"]);
        let fingerprint = &world.status("truck-1")["issuedCertificate"]["issuer"];
        shown == (fingerprint, &json!(devices), &json!(true)) && certificates["otherIssuers"].is_null()
    };
    world.until_in_time("it is named", |world| names(world, 1)).await;
    let subject = world.integration()["certificates"]["issuers"][0]["subject"].clone();
    let leaf = pem::parse(text(&world.hub_secret("truck-1"), "tls.crt")).unwrap();
    let (_, leaf) = X509Certificate::from_der(leaf.contents()).unwrap();
    assert_eq!(subject, leaf.issuer().to_string());

    world.restart();
    world.until_idle(0).await;
    world.declare("truck-2", json!({"suspend": true}));
    let counted = |world: &World| world.integration()["devices"]["total"] == 2;
    world.until_in_time("it is counted", counted).await;
    assert!(names(&world, 1), "{}", world.integration());
    world.declare("truck-2", json!({"suspend": false}));
    world.until_in_time("it is named of both", |world| names(world, 2)).await;
}

#[tokio::test]
async fn a_fleet_goes_over_to_issued_certificates_and_back() {
    let mut world = World::start(&[]).await;
    let names = ["truck-1", "truck-2", "truck-3"];
    for name in names {
        world.declare(name, json!({}));
        world.until_ready(name).await;
    }
    world.until_idle(0).await;
    let keys = names.map(|name| text(&world.hub_secret(name), "sharedAccessKey"));
    world.dps.control().set_group_issuance(SCOPE, "fleet", Some(Issuance { validity: MONTH })).unwrap();
    world.declare_integration(json!({"certificate": {"issuedBy": "Dps", "keyAlgorithm": "ECDSA-P256"}}));
    for name in names {
        let has = |world: &World| world.has(name, "tls.crt");
        world.until_in_time("it has a certificate", has).await;
    }
    names.iter().for_each(|name| world.assert_issued(name));
    assert_eq!(world.registers(), 6);

    world.declare_integration(json!({"certificate": null}));
    for name in names {
        let has = |world: &World| world.has(name, "sharedAccessKey");
        world.until_in_time("it has a key", has).await;
    }
    assert_eq!(names.map(|name| text(&world.hub_secret(name), "sharedAccessKey")), keys);
    for name in names {
        assert!(!world.has(name, "tls.key"));
        assert!(world.status(name)["issuedCertificate"].is_null());
    }
    assert_eq!(world.registers(), 9);
}
