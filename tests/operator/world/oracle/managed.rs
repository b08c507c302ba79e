//! Who wrote what, as the API server records it in `managedFields`.

use serde_json::Value;

/// The operator's name there.
const OPERATOR: &str = "dps-operator";

fn entries<'a>(object: &'a Value, subresource: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .filter(move |entry| entry["subresource"].as_str().unwrap_or_default() == subresource)
        .map(|entry| (entry["manager"].as_str().unwrap_or_default(), &entry["fieldsV1"]))
}

fn has(fields: &Value, path: &[&str]) -> bool {
    let found = path.iter().try_fold(fields, |fields, part| fields.get(format!("f:{part}")));
    found.is_some()
}

/// The operator wrote this field last.
pub fn is_operators(object: &Value, path: &[&str]) -> bool {
    let owners: Vec<&str> =
        entries(object, "").filter(|(_, fields)| has(fields, path)).map(|(who, _)| who).collect();
    owners == [OPERATOR]
}

/// The operator has written something of the object.
pub fn is_touched(object: &Value) -> bool {
    entries(object, "").any(|(who, _)| who == OPERATOR)
}

/// All of the status is the operator's.
pub fn has_operators_status(object: &Value) -> bool {
    let writers: Vec<&str> = entries(object, "status").map(|(who, _)| who).collect();
    writers == [OPERATOR]
}
