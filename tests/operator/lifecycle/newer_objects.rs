//! Objects that a later version's CRDs admit, met by this one: after a rollback, or while CRDs are upgraded first.

use serde_json::{Value, json};

use crate::world::commands::manifest;
use crate::world::objects::{condition, is_ready};
use crate::world::waiting::until;
use crate::world::{INTEGRATION, Kind, POLL, Setup, World, manifests};

const CRDS: [&str; 2] = ["dpsintegrations.dps-operator.io", "provisioneddevices.dps-operator.io"];
/// What no version knows.
const UNKNOWN: &str = "tpm";

impl World {
    /// CRDs that admit every spec.
    async fn admit_later_versions(&self) {
        for name in CRDS {
            let crd = self.kubectl_ok(&["get", "crd", name, "-o", "json"], "");
            let mut crd: Value = serde_json::from_str(&crd).expect("kubectl prints JSON");
            let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema.as_object_mut().unwrap().remove("x-kubernetes-validations");
            let mut spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let reference = schema["properties"]["spec"]["properties"]["integrationRef"]["properties"].take();
            if !reference.is_null() {
                spec["properties"] = json!({"integrationRef": {"type": "object", "properties": reference}});
            }
            schema["properties"]["spec"] = spec;
            self.kubectl_ok(&["replace", "-f", "-"], &crd.to_string());
        }
        // The API server takes a moment to go by them.
        let probe =
            manifest("DpsIntegration", manifests::integration("probe", self.host(), of_unknown_kind()));
        let admitted = until(self.patience, POLL, async || {
            let tried = self.kubectl(&["apply", "--dry-run=server", "-f", "-"], &probe.to_string());
            if tried.status.success() { Ok(()) } else { Err(tried) }
        });
        admitted.await.expect("it admits them in the end");
    }
}

/// Settings with an attestation that only a later version knows.
fn of_unknown_kind() -> Value {
    json!({"attestation": {"symmetricKey": null, UNKNOWN: {"endorsementKey": "AAAA"}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_later_version_knows_is_refused_and_nothing_is_touched() {
    let world = World::with(Setup::own_control_plane(&[])).await;
    world.integration(INTEGRATION).await;
    for name in ["truck-1", "truck-2", "truck-3"] {
        world.device(name).await;
    }
    world.wait_all_ready(3).await;
    let secrets = world.secret_revisions().await;
    world.admit_later_versions().await;

    // A device says that it is another kind; a new one, too.
    world.patch(Kind::Device, "truck-2", json!({"spec": of_unknown_kind()})).await;
    world.device_with("truck-4", of_unknown_kind()).await;
    for name in ["truck-2", "truck-4"] {
        let refused = world.wait_reason(name, "InvalidConfiguration").await;
        let message = condition(&refused, "Ready").unwrap().message;
        assert!(message.contains("spec.attestation") && message.contains("version"), "{message}");
    }
    assert!(condition(&world.get(Kind::Device, "truck-2").await, "Ready").unwrap().is_true());
    // So much of it is unknown that the object cannot be read.
    let format = json!({"spec": {"secret": {"formats": [{"type": "LaterVersionsOnly"}]}}});
    world.patch(Kind::Device, "truck-3", format).await;
    world.first_replica().wait_log("an object cannot be read and is skipped").await;

    // The integration, too: what has credentials keeps them.
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": of_unknown_kind()})).await;
    let refused = world.wait_integration(INTEGRATION, "InvalidConfiguration").await;
    let message = condition(&refused, "Ready").unwrap().message;
    assert!(message.contains("spec.attestation") && message.contains("version"), "{message}");
    world.device("truck-5").await;
    world.wait_reason("truck-5", "IntegrationNotReady").await;
    assert!(is_ready(&world.get(Kind::Device, "truck-1").await));
    assert_eq!((world.secret_revisions().await, world.registers()), (secrets.clone(), 3));

    // Changed back, all goes on.
    let usual = manifests::integration(INTEGRATION, world.host(), json!({}))["spec"]["attestation"].clone();
    world
        .patch(
            Kind::Integration,
            INTEGRATION,
            json!({"spec": {"attestation": {UNKNOWN: null, "symmetricKey": usual["symmetricKey"]}}}),
        )
        .await;
    for name in ["truck-2", "truck-4"] {
        world.patch(Kind::Device, name, json!({"spec": {"attestation": null}})).await;
    }
    world.patch(Kind::Device, "truck-3", json!({"spec": {"secret": null}})).await;
    world.wait_all_ready(5).await;
    assert_eq!(world.registers(), 5);
}
