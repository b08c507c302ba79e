//! What is declared before anything is measured.

use dps_simulator::Running;
use serde_json::{Value, json};

use crate::setup::{ACCOUNT, FACTORY, ID_SCOPE, KEY, NAMESPACE, OTHER, OTHER_SCOPE};

pub fn manifests(dps: &Running) -> Value {
    let meta = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(ACCOUNT)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta("operator"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dps-operator"},
            "subjects": [service_account()],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("ca"), "data": {"ca.crt": dps.ca_pem()}},
        key_secret("key"),
        key_secret("other-key"),
        integration(dps, FACTORY, ID_SCOPE, "key"),
        integration(dps, OTHER, OTHER_SCOPE, "other-key"),
    ]})
}

pub fn key_secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": {"primaryKey": KEY},
    })
}

fn integration(dps: &Running, name: &str, id_scope: &str, key: &str) -> Value {
    json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "idScope": id_scope, "hostname": host(dps), "caBundleRef": {"name": "ca"},
            "attestation": {"symmetricKey": {"primaryKeyRef": {"name": key}}},
        },
    })
}

pub fn host(dps: &Running) -> String {
    format!("localhost:{}", dps.address().port())
}

pub fn service_account() -> Value {
    json!({"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE})
}
