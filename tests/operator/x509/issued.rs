//! DPS issues certificates to devices as they register.

use std::time::Duration;

use dps_simulator::Issuance;

use super::*;
use crate::world::GROUP;
use crate::world::objects::is_ready;

/// Long enough for what a test does, and not so long that it would be renewed meanwhile.
const HOUR: Duration = Duration::from_secs(60 * 60);

impl World {
    /// With an integration whose group issues certificates.
    async fn issuing() -> Self {
        let world = Self::empty().await;
        world.dps.set_group_issuance(SCOPE, GROUP, Some(Issuance { validity: HOUR })).unwrap();
        world.integration_with(INTEGRATION, json!({"certificate": {"issuedBy": "Dps"}})).await;
        world
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_connects_with_what_dps_has_issued_and_keeps_it_through_restarts() {
    let mut world = World::issuing().await;
    world.device("truck-1").await;
    let object = world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    let values = data(&secret);
    let hub = object["status"]["assignedHub"].as_str().unwrap();
    assert_eq!(values["connectionString"], format!("HostName={hub};DeviceId=truck-1;x509=true"));
    assert!(!values.contains_key("sharedAccessKey") && values["tls.key"].contains("PRIVATE KEY"));
    assert_eq!(values["ca.crt"].trim(), world.dps.issuing_root_pem().trim());
    assert!(world.hub_takes("truck-1").await);
    let leaf = fingerprint(&values["tls.crt"]);
    assert_eq!(object["status"]["issuedCertificate"]["fingerprint"], leaf);
    assert_eq!(object["status"]["credential"]["type"], "SymmetricKey");

    let until = object["status"]["issuedCertificate"]["notAfter"].as_str().unwrap();
    let row = world.kubectl_ok(&["get", "pdev", "-o", "wide"], "");
    assert!(row.contains(until), "{row}");

    // What is its own is mended with the same certificate; what is gone with the key is issued again.
    world.restart_operator().await;
    let labels = json!({"spec": {"secret": {"labels": {"team": "trucks"}}}});
    world.patch(Kind::Device, "truck-1", labels).await;
    let labelled = |secret: &Value| secret["metadata"]["labels"]["team"] == "trucks";
    let secret = world.wait(Kind::Secret, "truck-1-hub", "labelled", labelled).await;
    assert_eq!((fingerprint(&data(&secret)["tls.crt"]), world.registers()), (leaf.clone(), 1));
    // The operator that has read it a moment ago could write it again.
    world.stop_operator().await;
    world.delete(Kind::Secret, "truck-1-hub").await;
    world.start_operator().await;
    let issued_again = |object: &Value| {
        let issued = &object["status"]["issuedCertificate"]["fingerprint"];
        issued.is_string() && *issued != leaf && is_ready(object)
    };
    world.wait(Kind::Device, "truck-1", "issued again", issued_again).await;
    assert!(world.hub_takes("truck-1").await);
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrollment_without_a_policy_is_named() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"certificate": {"issuedBy": "Dps"}})).await;
    world.device("truck-1").await;
    let object = world.wait_reason("truck-1", "InvalidConfiguration").await;
    let message = condition(&object, "Ready").unwrap().message;
    assert!(message.contains("certificate policy"), "{message}");
    world.dps.set_group_issuance(SCOPE, GROUP, Some(Issuance { validity: HOUR })).unwrap();
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    world.patch(Kind::Device, "truck-1", asked).await;
    world.wait_ready("truck-1").await;
    assert!(world.hub_takes("truck-1").await);
}
