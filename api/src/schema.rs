//! Schemas that several fields share. Every string, list and map is bounded, so that the API server
//! can estimate what the rules cost.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Go-style durations without sign: `1h30m`, `500ms`. Keeps negative and overflowing values out.
const DURATION_PATTERN: &str = r"^([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h))+$";
const LABEL_VALUE_PATTERN: &str = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
const RESERVED_DOMAINS_RULE: &str = "self.all(k, !k.matches('^([^/]*[.])?(kubernetes[.]io|k8s[.]io|dps-operator[.]io|argoproj[.]io|fluxcd[.]io|helm[.]sh|velero[.]io|servicebinding[.]io)/') || k in ['app.kubernetes.io/name','app.kubernetes.io/component','app.kubernetes.io/part-of','app.kubernetes.io/version'])";
const RESERVED_DOMAINS_MESSAGE: &str = "keys under kubernetes.io, k8s.io, dps-operator.io, argoproj.io, fluxcd.io, helm.sh, velero.io and servicebinding.io are reserved, except app.kubernetes.io/name, component, part-of and version";
const QUALIFIED_NAME_RULE: &str = "self.all(k, !format.qualifiedName().validate(k).hasValue())";
const QUALIFIED_KEY_RULE: &str = "!format.qualifiedName().validate(self).hasValue()";
const QUALIFIED_NAME_MESSAGE: &str = "keys must be qualified names: an optional DNS prefix and '/', then at most 63 letters, digits, '-', '_' or '.'";

fn metadata_map(mut value: Value, values_are: &str) -> Schema {
    value["type"] = json!("string");
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": value,
        "description": format!("At most 16 {values_are}; keys of reserved domains are refused."),
        "x-kubernetes-validations": [
            {"rule": RESERVED_DOMAINS_RULE, "message": RESERVED_DOMAINS_MESSAGE},
            {"rule": QUALIFIED_NAME_RULE, "message": QUALIFIED_NAME_MESSAGE},
        ],
    })
}

/// Labels that go onto a generated Secret.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    metadata_map(json!({"maxLength": 63, "pattern": LABEL_VALUE_PATTERN}), "labels")
}

/// Annotations that go onto a generated Secret.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    metadata_map(json!({"maxLength": 1024}), "annotations")
}

fn duration(rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "pattern": DURATION_PATTERN,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    })
}

/// An interval of at least one hour.
pub(super) fn reprovision_interval(_: &mut SchemaGenerator) -> Schema {
    duration("duration(self) >= duration('1h')", "interval must be at least 1h")
}

/// An interval of at least ten minutes; zero turns the check off.
pub(super) fn drift_check_interval(_: &mut SchemaGenerator) -> Schema {
    duration(
        "duration(self) == duration('0s') || duration(self) >= duration('10m')",
        "interval must be 0s (off) or at least 10m",
    )
}

/// Any JSON object, kept as it is. DPS takes only objects here.
pub(super) fn payload(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

const SELECTOR_VALUES_RULE: &str =
    "(self.operator in ['In','NotIn']) == (has(self.values) && self.values.size() > 0)";
const SELECTOR_VALUES_MESSAGE: &str =
    "values is required with operator In and NotIn and not allowed with Exists and DoesNotExist";

/// A label selector with the limits that the derive would leave out, and what Kubernetes asks of one:
/// a label that no namespace can have selects none.
pub(super) fn namespace_selector(_: &mut SchemaGenerator) -> Schema {
    let text = |description: &str| json!({"type": "string", "maxLength": 63, "pattern": LABEL_VALUE_PATTERN, "description": description});
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that a namespace must carry.",
                "type": "object", "maxProperties": 16, "additionalProperties": text("Value of the label."),
                "x-kubernetes-validations": [{"rule": QUALIFIED_NAME_RULE, "message": QUALIFIED_NAME_MESSAGE}],
            },
            "matchExpressions": {
                "description": "Requirements on labels; all must hold.",
                "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
                "items": {
                    "description": "One requirement.",
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": [{"rule": SELECTOR_VALUES_RULE, "message": SELECTOR_VALUES_MESSAGE}],
                    "properties": {
                        "key": {
                            "description": "Key of the label.", "type": "string", "maxLength": 317,
                            "x-kubernetes-validations": [{"rule": QUALIFIED_KEY_RULE, "message": QUALIFIED_NAME_MESSAGE}],
                        },
                        "operator": {
                            "description": "How the label relates to the values.",
                            "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "Values to compare with; only with In and NotIn.",
                            "type": "array", "maxItems": 32, "items": text("A value."), "x-kubernetes-list-type": "atomic",
                        },
                    },
                },
            },
        },
    })
}
