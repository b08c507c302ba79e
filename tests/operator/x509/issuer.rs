//! The operator has cert-manager's own controllers issue the certificates: nobody writes any YAML but the integration's
//! and the devices'.

use std::time::Duration;

use super::cert_manager::{Fleet, ca, devices};
use super::*;
use crate::world::Setup;
use crate::world::commands::{list, read};
use crate::world::objects::is_ready;

const RIGHTS: &str = "dev/rbac-cert-manager.yaml";

/// Asks for certificates of an hour, of this Issuer.
fn issued_by(name: &str) -> Value {
    let issuer = json!({"name": name});
    let cert_manager = json!({"issuerRef": issuer, "duration": "1h", "renewBefore": "30m"});
    json!({"attestation": {"symmetricKey": null, "x509": {"certManager": cert_manager}}})
}

impl Fleet {
    /// What the chart gives with its switch.
    async fn allow(&self) {
        self.world.kubectl_ok(&["apply", "-f", "-"], &read(RIGHTS));
        let role = json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dps-operator-cert-manager",
        });
        let account =
            json!({"kind": "ServiceAccount", "name": self.world.namespace, "namespace": "operators"});
        let binding = json!({"metadata": {"name": "cert-manager"}, "roleRef": role, "subjects": [account]});
        self.world.create(Kind::RoleBinding, binding).await;
    }

    async fn certificate(&self, device: &str) -> Value {
        self.world.get(Kind::Certificate, &format!("{device}-tls")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_of_three_lines_a_device_has_its_certificates_issued_and_goes_over_to_another_issuer() {
    let setup = Setup { cert_manager: true, ..Setup::own_control_plane(&[]) };
    let mut fleet = Fleet::start(setup).await;
    fleet.suffix = "-tls";
    fleet.world.patience = Duration::from_secs(60 + devices() as u64);
    let count = i32::try_from(devices()).expect("they are few");
    fleet.world.integration_without_key(INTEGRATION, issued_by("fleet-ca")).await;

    // Without the rights the device says what is missing, and it is mended without a restart.
    let first = fleet.names[0].clone();
    fleet.world.device(&first).await;
    let missing = fleet.world.wait_reason(&first, "CertificateNotFound").await;
    let message = condition(&missing, "Ready").expect("it is Ready or not").message;
    assert!(message.contains("certManager.enabled"), "{message}");
    fleet.allow().await;
    fleet.world.wait_ready(&first).await;
    for name in &fleet.names[1..] {
        fleet.world.device(name).await;
    }
    fleet.world.wait_counters(INTEGRATION, |devices: &Value| devices["ready"] == count).await;
    let before = fleet.sources().await;
    fleet.assert_untouched(&before).await;
    assert_eq!(fleet.world.registers(), devices());
    let (device, certificate) =
        (fleet.world.get(Kind::Device, &first).await, fleet.certificate(&first).await);
    assert_eq!(certificate["metadata"]["ownerReferences"][0]["uid"], device["metadata"]["uid"]);
    assert_eq!(certificate["spec"]["duration"], "1h");

    // A new process changes nothing. What others change is put back, and renewals go on.
    let mark = fleet.world.mark().await;
    fleet.world.restart_operator().await;
    let shorter = json!({"spec": {"duration": "3h"}});
    fleet.world.patch(Kind::Certificate, &format!("{first}-tls"), shorter).await;
    let is_back = |object: &Value| object["spec"]["duration"] == "1h";
    fleet.world.wait(Kind::Certificate, &format!("{first}-tls"), "put back", is_back).await;
    let second = format!("{}-tls", fleet.names[1]);
    let uid = fleet.world.get(Kind::Certificate, &second).await["metadata"]["uid"].clone();
    fleet.world.delete(Kind::Certificate, &second).await;
    let is_another =
        |object: &Value| object["metadata"]["uid"].is_string() && object["metadata"]["uid"] != uid;
    fleet.world.wait(Kind::Certificate, &second, "there again", is_another).await;
    fleet.renew().await;
    fleet.wait_served(&before).await;
    assert!(fleet.world.registers_since(mark) >= devices());

    // Another CA by one field: DPS does not know it, nobody loses a hub, and it is mended where the message says.
    fleet.world.kubectl_ok(&["apply", "-f", "-"], &list(&ca("next-ca")));
    let issuer = json!({"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "next-ca"}, "spec": {"ca": {"secretName": "next-ca"}}});
    fleet.world.kubectl_ok(&["apply", "-f", "-"], &list(&[issuer]));
    let (old, new) = (fleet.root("fleet-ca").await, fleet.root("next-ca").await);
    let before = fleet.sources().await;
    fleet.world.patch(Kind::Integration, INTEGRATION, json!({"spec": issued_by("next-ca")})).await;
    let all_wait = |object: &Value| object["status"]["certificates"]["unregistered"] == count;
    let held = fleet.world.wait(Kind::Integration, INTEGRATION, "all issued again", all_wait).await;
    fleet.world.wait_integration(INTEGRATION, "Unauthorized").await;
    assert_eq!(held["status"]["devices"]["ready"], count, "{}", held["status"]);
    fleet.assert_untouched(&before).await;
    fleet.trust("next", &[&old, &new]);
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    fleet.world.patch(Kind::Integration, INTEGRATION, asked).await;
    fleet.wait_served(&before).await;
    fleet.world.wait_integration(INTEGRATION, "Available").await;

    // A device that goes takes its Certificate with it; what is in Azure stays.
    fleet.world.delete(Kind::Device, &first).await;
    fleet.world.wait_gone(Kind::Certificate, &format!("{first}-tls")).await;
    assert!(is_ready(&fleet.world.get(Kind::Device, &fleet.names[1]).await));
}
