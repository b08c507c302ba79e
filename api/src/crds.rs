//! The CustomResourceDefinitions, with the finishing touches that the derive cannot make.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::conditions::{ConditionStatus, ConditionType, Reason};
use super::device::ProvisionedDevice;
use super::integration::DpsIntegration;
use super::state::State;

/// What is said of an object that the operator has not looked at.
const WAITING: &str = "Waiting for the operator. If this lasts longer than five minutes, check that the operator runs and watches this namespace.";

/// Both CRDs as they are committed under `crds/`: file name and document.
///
/// # Errors
/// Only if a type cannot be serialised, which a test rules out.
pub fn all() -> Result<Vec<(String, Value)>, serde_json::Error> {
    [serde_json::to_value(DpsIntegration::crd())?, serde_json::to_value(ProvisionedDevice::crd())?]
        .into_iter()
        .map(|mut crd| {
            finish(&mut crd);
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            Ok((format!("{name}.yaml"), crd))
        })
        .collect()
}

fn finish(crd: &mut Value) {
    if let Some(versions) = crd["spec"]["versions"].as_array_mut() {
        for version in versions {
            let schema = &mut version["schema"]["openAPIV3Schema"];
            strip_null(schema);
            schema["properties"]["status"]["default"] = new_status();
        }
    }
}

/// What the API server makes the status of a new object, so that it is never blank and kstatus calls it in
/// progress at once: without a write, and also where no operator runs.
fn new_status() -> Value {
    json!({
        "observedGeneration": -1,
        "state": State::Pending,
        "conditions": [{
            "type": ConditionType::Ready.as_str(),
            "status": ConditionStatus::Unknown.as_str(),
            "reason": Reason::Pending.as_str(),
            "message": WAITING,
            // The field is required, and the schema cannot know the time.
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    })
}

/// An absent field and an explicit `null` mean the same here: without `nullable` the API server
/// prunes the null, so the derive's `nullable` and the `null` in enums would only be noise.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(strip_null);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        _ => {}
    }
}
