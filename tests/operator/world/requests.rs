//! What users ask for by an annotation although nothing has changed.

use serde_json::{Value, json};

use super::{Kind, World};

/// Asks for one more registration.
pub const REPROVISION: &str = "dps-operator.io/reprovision-requested-at";
/// Asks to look up what DPS has.
const RECONCILE: &str = "reconcile.fluxcd.io/requestedAt";

/// A merge patch that sets an annotation.
pub fn annotation(key: &str, value: &Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

impl World {
    /// Asks that a device, or all devices of an integration, register once more.
    pub async fn request_registration(&self, kind: Kind, name: &str, token: &str) {
        self.patch(kind, name, annotation(REPROVISION, &json!(token))).await;
    }

    /// Waits until status says that it has been done.
    pub async fn wait_registration_request(&self, kind: Kind, name: &str, token: &str) -> Value {
        self.wait(kind, name, "registered again", |o| o["status"]["lastHandledReprovisionToken"] == token)
            .await
    }

    /// Asks that a device be looked up in DPS, or that an integration be looked at.
    pub async fn request_lookup(&self, kind: Kind, name: &str, token: &str) {
        self.patch(kind, name, annotation(RECONCILE, &json!(token))).await;
    }

    /// Waits until status says that it has been done.
    pub async fn wait_lookup_request(&self, kind: Kind, name: &str, token: &str) -> Value {
        self.wait(kind, name, "looked up", |o| o["status"]["lastHandledReconcileAt"] == token).await
    }
}
