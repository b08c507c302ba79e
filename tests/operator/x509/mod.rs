//! Devices with X.509 certificates, in Secrets of type kubernetes.io/tls.

mod cert_manager;
mod issued;
mod issuer;
mod renewals;

use serde_json::{Value, json};

use crate::world::certificates::{certificate, device, fingerprint, root};
use crate::world::objects::data;
use crate::world::{INTEGRATION, Kind, SCOPE, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_three_lines_gets_its_hub_and_a_copy_of_its_certificate() {
    let root = root("fleet-root");
    let world = World::with_certificates(&root).await;
    let factory = root.intermediate("factory").unwrap();
    let truck = device(&factory, "truck-1");
    world.issue("truck-1", &truck, &[&factory]).await;
    world.device("truck-1").await;

    let object = world.wait_ready("truck-1").await;

    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    let values = data(&secret);
    let hub = object["status"]["assignedHub"].as_str().unwrap();
    assert_eq!(values["connectionString"], format!("HostName={hub};DeviceId=truck-1;x509=true"));
    assert_eq!((&values["tls.crt"], &values["tls.key"]), (&truck.chain(&[&factory]), &truck.key_pem()));
    assert!(!values.contains_key("sharedAccessKey"));
    assert!(world.hub_takes("truck-1").await);
    let source = world.get(Kind::Secret, "truck-1-tls").await;
    let issuer = &object["status"]["credential"]["issuer"];
    let credential = json!({
        "type": "X509", "fingerprint": fingerprint(&truck.pem), "issuer": issuer,
        "notBefore": "1975-01-01T00:00:00Z", "notAfter": "4096-01-01T00:00:00Z",
        "secretName": "truck-1-tls", "secretResourceVersion": source["metadata"]["resourceVersion"],
    });
    assert_eq!(object["status"]["credential"], credential);
    world.wait_integration(INTEGRATION, "Available").await;
    let accepted = |object: &Value| object["status"]["acceptedIdScope"] == SCOPE;
    world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    assert_eq!(world.registers(), 1);
    let is_counted = |object: &Value| object["status"]["certificates"]["issuers"][0]["devices"] == 1;
    let integration = world.wait(Kind::Integration, INTEGRATION, "counted", is_counted).await;
    let counted = &integration["status"]["certificates"]["issuers"][0];
    assert_eq!((&counted["fingerprint"], &counted["subject"]), (issuer, &json!("CN=factory")));
    let row = world.kubectl_ok(&["get", "pdev", "-o", "wide"], "");
    assert!(row.contains("CERT-EXPIRES") && row.contains("4096-01-01"), "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_individual_enrollment_takes_a_certificate_that_no_ca_has_signed() {
    let world = World::accepted().await;
    let edge = dps_dev::pki::Identity::own("edge-7").unwrap();
    let only = dps_simulator::Certificates { primary: certificate(&edge.pem), secondary: None };
    world.dps.set_device_certificates(SCOPE, "edge-7", only).unwrap();
    world.dps.set_device_id(SCOPE, "edge-7", Some("Edge.Seven")).unwrap();
    world.issue("edge-7", &edge, &[]).await;
    world.device_with("edge-7", json!({"attestation": {"x509": {}}})).await;

    let object = world.wait_ready("edge-7").await;

    assert_eq!(object["status"]["deviceId"], "Edge.Seven");
    assert!(world.hub_takes("edge-7").await);
    let first = world.get(Kind::Secret, "first-hub").await;
    assert!(data(&first)["connectionString"].contains("SharedAccessKey="), "beside devices with keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_and_mended_by_whoever_issues_the_certificate() {
    let root = root("fleet-root");
    let world = World::with_certificates(&root).await;
    world.issue("truck-1", &device(&root, "truck-2"), &[]).await;
    world.device("truck-1").await;
    let invalid = world.wait_reason("truck-1", "CertificateInvalid").await;
    let message = condition(&invalid, "Ready").unwrap().message;
    assert!(message.contains("\"truck-2\"") && message.contains("\"truck-1\""), "{message}");
    assert!(condition(&invalid, "Stalled").is_some());
    assert_eq!(world.registers(), 0);
    world.issue("truck-1", &device(&root, "truck-1"), &[]).await;
    world.wait_ready("truck-1").await;

    world.device("truck-3").await;
    let missing = world.wait_reason("truck-3", "CertificateNotFound").await;
    assert!(condition(&missing, "Reconciling").is_some(), "it is on its way");
    world.issue("truck-3", &device(&root, "truck-3"), &[]).await;
    world.wait_ready("truck-3").await;
    assert_eq!(world.registers(), 2);
}
