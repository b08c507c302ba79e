//! Objects as a user would write them, in their shortest form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{INTEGRATION, SCOPE};

/// Without daily checks: in a fleet of tens one falls due now and then while a test runs.
pub fn integration(name: &str, host: String, spec: Value) -> Value {
    let usual = json!({
        "idScope": SCOPE,
        "hostname": host,
        "attestation": {"symmetricKey": {"primaryKeyRef": {"name": format!("{name}-key")}}},
        "caBundleRef": {"name": "simulator-ca"},
        "deviceDefaults": {"driftCheck": {"interval": "0s"}},
    });
    json!({"metadata": {"name": name}, "spec": merged(usual, spec)})
}

pub fn device(name: &str, spec: Value) -> Value {
    let usual = json!({"integrationRef": {"name": INTEGRATION}});
    json!({"metadata": {"name": name}, "spec": merged(usual, spec)})
}

/// Settings of a device whose own keys are in the Secret `NAME-dps`.
pub fn own_keys(name: &str) -> Value {
    let secret = format!("{name}-dps");
    let keys = json!({"primaryKeyRef": {"name": secret}, "secondaryKeyRef": {"name": secret}});
    json!({"attestation": {"symmetricKey": keys}})
}

pub fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
    json!({"metadata": {"name": name}, "data": data})
}

/// JSON merge patch: objects are merged, `null` removes, everything else replaces.
pub fn merged(mut into: Value, patch: Value) -> Value {
    match (&mut into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                let before = into.remove(&key).unwrap_or(Value::Null);
                if !value.is_null() {
                    into.insert(key, merged(before, value));
                }
            }
        }
        (_, patch) => return patch,
    }
    into
}
