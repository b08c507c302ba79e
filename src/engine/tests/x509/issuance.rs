//! Certificates that the operator has cert-manager issue.

use super::super::OTHER_SCOPE;
use super::*;

const ISSUER: &str = "fleet-ca";
/// As long as a first put back may take.
pub(super) const SOON: Duration = Duration::from_secs(7);

impl World {
    /// Its integration has cert-manager asked, which has no CRD or is listed.
    pub(super) async fn with_issuer(root: &Identity) -> Self {
        let mut world = Self::start(&["--cert-manager"]).await;
        let control = world.dps.control();
        control.upload_certificate_authority(SCOPE, "root", certificate(root), true).unwrap();
        control.set_group_certificates(SCOPE, "fleet", certificates(root)).unwrap();
        world.issue_with(json!({"issuerRef": {"name": ISSUER}}));
        world
    }

    fn issue_with(&mut self, cert_manager: Value) {
        let x509 = json!({"secretName": "{name}-tls", "certManager": cert_manager});
        self.declare_integration(json!({"attestation": {"x509": x509, "symmetricKey": null}}));
    }

    /// What the watch of Certificates does when it begins.
    pub(super) fn list_issued(&mut self) {
        self.take(Message::Certificate(WATCH, Observed::Listing(0)));
        for name in self.api.names("certificates") {
            let object = self.api.get("certificates", &name).unwrap();
            self.take(Message::Certificate(WATCH, seen(object, false)));
        }
        self.take(Message::Certificate(WATCH, Observed::Listed));
    }

    pub(super) fn requested(&self, name: &str) -> Value {
        self.api.get("certificates", &format!("{name}-tls")).unwrap_or(Value::Null)
    }

    /// The integration has another issuer, to which it goes over like this.
    fn go_over(&mut self, rollout: Value) {
        let x509 = json!({"secretName": "{name}-tls", "certManager": {"issuerRef": {"name": "next-ca"}}});
        self.declare_integration(
            json!({"rollout": rollout, "attestation": {"x509": x509, "symmetricKey": null}}),
        );
    }

    /// How many Certificates have it.
    fn moved(&self) -> usize {
        self.api.count("certificates", |certificate| certificate["spec"]["issuerRef"]["name"] == "next-ca")
    }

    pub(super) async fn until_requested(&mut self, name: &str) -> Value {
        self.until("cert-manager is asked", |world| !world.requested(name).is_null()).await;
        self.requested(name)
    }

    /// What cert-manager does then.
    pub(super) fn issue(&mut self, name: &str, root: &Identity) {
        let annotations = json!({"cert-manager.io/certificate-name": format!("{name}-tls")});
        self.api.apply("secrets", &format!("{name}-tls"), json!({"metadata": {"annotations": annotations}}));
        self.give_certificate(name, &root.device(name).unwrap(), &[]);
    }

    pub(super) async fn until_message(&mut self, name: &str, part: &str) {
        self.until(&format!("{name} says {part:?}"), |world| world.message(name).contains(part)).await;
    }
}

#[tokio::test]
async fn each_device_has_a_certificate_asked_for_and_is_registered_with_what_comes_of_it() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({"registrationId": "lorry-1"}));
    let asked = world.until_requested("truck-1").await;
    let device = world.api.get("provisioneddevices", "truck-1").unwrap();
    assert_eq!(
        asked["spec"],
        json!({
            "secretName": "truck-1-tls", "commonName": "lorry-1", "usages": ["digital signature", "client auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"name": ISSUER, "kind": "Issuer", "group": "cert-manager.io"},
        })
    );
    let owner = &asked["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("ProvisionedDevice"), &device["metadata"]["uid"]));
    assert_eq!((&owner["controller"], &owner["name"]), (&json!(true), &json!("truck-1")));

    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_message("truck-1", "kubectl describe certificate truck-1-tls -n fleet").await;
    world.give_certificate("truck-1", &root.device("lorry-1").unwrap(), &[]);
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    assert_eq!(world.registers(), 1);

    // A new process finds all as it should be.
    let before = (world.writes(), world.api.reads("secrets", "truck-1-tls"));
    world.restart();
    world.list_issued();
    world.until_idle(0).await;
    assert_eq!((world.writes(), world.api.reads("secrets", "truck-1-tls")), before);
}

#[tokio::test]
async fn what_others_change_about_a_certificate_is_put_back_and_one_that_is_deleted_comes_again() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.issue_with(json!({"issuerRef": {"name": ISSUER}, "duration": "48h"}));
    world.list_issued();
    world.declare("truck-1", json!({}));
    let asked = world.until_requested("truck-1").await;
    world.issue("truck-1", &root);
    world.until_ready("truck-1").await;
    world.until_idle(0).await;

    let edited = json!({"spec": {"commonName": "truck-2", "duration": "1h", "renewBefore": "30m", "revisionHistoryLimit": 3}});
    world.api.apply("certificates", "truck-1-tls", edited);
    world.deliver();
    world.pass(SOON);
    world
        .until("it is put back", |world| world.requested("truck-1")["spec"]["commonName"] == "truck-1")
        .await;
    let spec = world.requested("truck-1")["spec"].clone();
    assert_eq!((&spec["duration"], &spec["renewBefore"]), (&json!("48h"), &Value::Null));
    assert_eq!(spec["revisionHistoryLimit"], 3, "what is not ours stays");

    world.delete("certificates", "truck-1-tls");
    world.pass(SOON * 2);
    let again = world.until_requested("truck-1").await;
    assert_eq!(again["spec"], asked["spec"]);

    // Without the label the watch no longer shows it.
    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    world.api.apply("certificates", "truck-1-tls", unlabelled);
    let object = world.requested("truck-1");
    world.take(Message::Certificate(WATCH, seen(object, true)));
    world.pass(SOON * 4);
    world
        .until("it is labelled", |world| {
            world.requested("truck-1")["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dps-operator"
        })
        .await;
}

#[tokio::test]
async fn something_else_that_keeps_changing_it_makes_no_storm() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({}));
    world.until_requested("truck-1").await;
    world.until_idle(0).await;
    let (mut put_back, theirs) = (0, json!({"spec": {"duration": "3h"}}));
    for _ in 0..600 {
        if world.requested("truck-1")["spec"]["duration"].is_null() {
            put_back += 1;
            world.api.apply("certificates", "truck-1-tls", theirs.clone());
            world.deliver();
        }
        world.until_idle(0).await;
        world.pass(Duration::from_secs(1));
    }
    assert!((4..=9).contains(&put_back), "{put_back} times in ten minutes");
}

#[tokio::test]
async fn what_is_not_the_devices_is_left_as_it_is_until_it_is_gone() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    let users = json!({"spec": {"secretName": "elsewhere", "commonName": "users"}});
    world.api.apply("certificates", "truck-1-tls", users.clone());
    world.declare("truck-1", json!({}));
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_message("truck-1", "is not the device's").await;
    assert_eq!(world.requested("truck-1")["spec"], users["spec"]);
    world.delete("certificates", "truck-1-tls");
    let again = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    world.api.apply("provisioneddevices", "truck-1", again);
    world.deliver();
    assert_eq!(world.until_requested("truck-1").await["spec"]["commonName"], "truck-1");

    // A Secret that cert-manager has not issued for it: it would be written over.
    world.issue("truck-2", &root);
    let other = json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": "mine"}}});
    world.api.apply("secrets", "truck-2-tls", other);
    world.deliver();
    world.declare("truck-2", json!({}));
    world.until_ready("truck-2").await;
    world.until_idle(0).await;
    assert_eq!(world.requested("truck-2"), Value::Null);
    world.delete("secrets", "truck-2-tls");
    world.until_requested("truck-2").await;
}

#[tokio::test]
async fn a_device_that_may_not_have_its_id_and_one_that_is_suspended_get_no_certificate() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.declare_integration(json!({
        "registrationIdPrefixes": ["truck-"],
        "attestation": {"symmetricKey": null, "x509": {"secretName": "{name}-tls", "certManager": {"issuerRef": {"name": ISSUER}}}},
    }));
    world.list_issued();
    world.list_certificates();
    world.declare("bus-1", json!({}));
    world.declare("truck-1", json!({"suspend": true}));
    world.declare("truck-2", json!({"attestation": {"x509": {"secretRef": {"name": "own-tls"}}}}));
    world.declare("truck-3", json!({"registrationId": format!("truck-{}", "3".repeat(59))}));
    world.declare("truck-4", json!({"registrationId": "truck-x"}));
    world.until_requested("truck-4").await;
    world.give_certificate("truck-4", &root.device("truck-x").unwrap(), &[]);
    world.until_ready("truck-4").await;
    world.declare("truck-5", json!({"registrationId": "truck-x"}));
    world.pass(MINUTE);
    world.until_idle(0).await;
    assert_eq!(world.api.names("certificates"), ["fleet/truck-4-tls"]);
    assert_eq!(world.reason("truck-3"), "InvalidConfiguration");
    assert!(world.message("truck-3").contains("65 characters"), "{}", world.message("truck-3"));
    world.declare("truck-1", json!({"suspend": false}));
    world.until_requested("truck-1").await;
}

#[tokio::test]
async fn no_certificate_is_asked_for_an_id_that_another_device_has_in_whichever_scope() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({}));
    world.issue("truck-1", &root);
    world.until_ready("truck-1").await;
    let by = |issuer: &str| {
        let x509 = json!({"secretName": "{name}-tls", "certManager": {"issuerRef": {"name": issuer}}});
        json!({"idScope": OTHER_SCOPE, "attestation": {"x509": x509}})
    };
    world.declare_integration_named("mine", by(ISSUER));
    let spec = json!({"integrationRef": {"name": "mine"}, "registrationId": "truck-1"});
    world.declare("evil", spec);
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_message("evil", "another ProvisionedDevice has the same registration id").await;
    assert_eq!(world.requested("evil"), Value::Null);
    // Of another issuer it would be another device's.
    world.declare_integration_named("mine", by("other-ca"));
    world.until_requested("evil").await;
    world.declare_integration_named("mine", by(ISSUER));
    world.declare("worse", json!({"integrationRef": {"name": "mine"}, "registrationId": "truck-1"}));
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_idle(0).await;
    assert_eq!(world.requested("worse"), Value::Null);
    world.delete("provisioneddevices", "evil");
    world.delete("provisioneddevices", "truck-1");
    world.until_requested("worse").await;
}

#[tokio::test]
async fn another_pace_counts_for_those_that_have_their_place_already() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    let names = ["truck-1", "truck-2", "truck-3"];
    for name in names {
        world.declare(name, json!({}));
        world.until_requested(name).await;
    }
    world.go_over(json!({"maxPerMinute": 1}));
    world.until_idle(0).await;
    assert_eq!(world.moved(), 1);
    world.go_over(json!({"maxPerMinute": 100_000}));
    world.until_idle(0).await;
    world.pass(SOON);
    world.until("all have moved", |world| world.moved() == 3).await;
}

#[tokio::test]
async fn without_the_crd_or_the_right_the_device_says_what_is_missing() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_certificates();
    world.declare("truck-1", json!({}));
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_message("truck-1", "once the operator can list Certificates").await;
    assert_eq!(world.reason("truck-1"), "CertificateNotFound");
    world.list_issued();
    world.until_requested("truck-1").await;
    world.until_message("truck-1", "cert-manager was asked for it").await;
    world.issue("truck-1", &root);
    world.until_ready("truck-1").await;

    // Not without the flag.
    let mut world = World::start(&[]).await;
    world.issue_with(json!({"issuerRef": {"name": ISSUER}}));
    world.until_idle(0).await;
    assert_eq!(world.integration_reason(), "InvalidConfiguration");
}

#[tokio::test]
async fn another_issuer_is_written_to_all_certificates_at_the_pace_of_the_rollout() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    let names = ["truck-1", "truck-2", "truck-3"];
    for name in names {
        world.declare(name, json!({}));
        world.until_requested(name).await;
        world.issue(name, &root);
        world.until_ready(name).await;
    }
    world.until_idle(0).await;
    world.go_over(json!({"paused": true}));
    world.until_idle(0).await;
    world.pass(MINUTE * 5);
    world.until_idle(0).await;
    assert_eq!(world.moved(), 0);

    world.go_over(json!({"paused": false, "maxPerMinute": 1}));
    world.pass(Duration::from_secs(31));
    for expected in 1..=3 {
        world.until("the next has moved", |world| world.moved() == expected).await;
        world.until_idle(0).await;
        assert_eq!(world.moved(), expected);
        world.pass(MINUTE);
    }
}
