//! Annotations by which users ask for something although nothing has changed.

use serde_json::{Value, json};

/// Asks for one more registration.
pub const TOKEN: &str = "dps-operator.io/reprovision-requested-at";
/// Asks to look up what DPS has.
pub const RECONCILE: &str = "reconcile.fluxcd.io/requestedAt";

pub fn annotation(key: &str, value: &Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}
