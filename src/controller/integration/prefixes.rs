//! Prefixes of registration ids that are taken as they are and warned of: those that were stored before
//! the CRD refused them, and those that leave no id to other namespaces. Pure.

use crate::api::integration::{DpsIntegrationSpec, NamespacesFrom};

/// Stands for the namespace of a device.
pub const PLACEHOLDER: &str = "{namespace}";

/// What is to be said of an integration's prefixes.
pub fn warning(spec: &DpsIntegrationSpec) -> Option<String> {
    let foreign = spec.allowed_namespaces.iter().flat_map(|allowed| &allowed.registration_id_prefixes);
    let prefixes = || spec.registration_id_prefixes.iter().chain(foreign.clone());
    if let Some(prefix) = prefixes().find(|prefix| !keeps_namespaces_apart(prefix)) {
        return Some(format!(
            "Prefix {prefix:?} of registration ids lets devices of a namespace take ids of another one whose \
             name begins the same. Put \".\", \"_\" or \":\" behind {PLACEHOLDER}. Until then it is taken as it is."
        ));
    }
    let prefix = prefixes().find(|prefix| !can_match(prefix))?;
    Some(format!(
        "No registration id can begin with prefix {prefix:?}. Write lower-case letters, digits, \"-\", \".\", \"_\" \
         and \":\"; {PLACEHOLDER} is the only placeholder."
    ))
}

/// What is to be said of consent to other namespaces that no registration id can have.
pub fn contradiction(spec: &DpsIntegrationSpec) -> Option<String> {
    let allowed = spec.allowed_namespaces.as_ref().filter(|allowed| allowed.from != NamespacesFrom::Same)?;
    let (own, foreign) = (&spec.registration_id_prefixes, &allowed.registration_id_prefixes);
    let excluded = |prefix: &String| foreign.iter().all(|other| exclude(prefix, other));
    (!own.is_empty() && !foreign.is_empty() && own.iter().all(excluded)).then(|| {
        "No device of another namespace can be admitted: its registration id has to begin with one of \
         spec.registrationIdPrefixes and with one of spec.allowedNamespaces.registrationIdPrefixes, and no id \
         can do both. Change one of the two; it is noticed at once."
            .to_owned()
    })
}

/// No id begins with both: they differ in a character, and not because a namespace may stand there.
fn exclude(one: &str, other: &str) -> bool {
    let differ = one.bytes().zip(other.bytes()).find(|(one, other)| one != other);
    differ.is_some_and(|(one, other)| one != b'{' && other != b'{')
}

/// What follows the place of a namespace can be in no namespace's name, so it ends there.
fn keeps_namespaces_apart(prefix: &str) -> bool {
    prefix.split(PLACEHOLDER).skip(1).all(|behind| behind.starts_with(['.', '_', ':']))
}

fn can_match(prefix: &str) -> bool {
    let filled = prefix.replace(PLACEHOLDER, "a");
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    filled.bytes().next().is_none_or(alphanumeric)
        && filled.bytes().all(|b| alphanumeric(b) || b"-._:".contains(&b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prefixes_that_leave_no_id_to_other_namespaces_are_warned_of() {
        for (own, from, foreign, said) in [
            (&["a-"][..], "All", &["b-"][..], true),
            (&["a-", "c-"], "All", &["b-", "d-"], true),
            (&["{namespace}.a-"], "All", &["{namespace}.b-"], true),
            (&["eu.{namespace}."], "All", &["us.{namespace}."], true),
            (&["a-"], "Same", &["b-"], false),
            (&["a-", "b"], "All", &["b-", "d-"], false),
            (&["a-b"], "All", &["a-"], false),
            (&["a-"], "All", &["a-b"], false),
            (&["a-"], "All", &[""], false),
            (&[""], "All", &["b-"], false),
            (&[], "All", &["b-"], false),
            (&["a-"], "All", &["{namespace}."], false),
            (&["{namespace}."], "All", &["truck-"], false),
        ] {
            let spec = json!({
                "idScope": "0ne1", "attestation": {}, "registrationIdPrefixes": own,
                "allowedNamespaces": {"from": from, "registrationIdPrefixes": foreign},
            });
            let warning = contradiction(&serde_json::from_value(spec).unwrap());
            assert_eq!(warning.is_some(), said, "{own:?} {from} {foreign:?}");
        }
    }

    #[test]
    fn what_a_new_integration_could_not_have_is_warned_of() {
        for (own, foreign, said) in [
            ("truck-", "{namespace}.", None),
            ("", "", None),
            ("eu.{namespace}:x-", "{namespace}_{namespace}.", None),
            ("{namespace}-", "", Some("\"{namespace}-\"")),
            ("truck-", "x{namespace}", Some("\"x{namespace}\"")),
            ("{namespace}.{namespace}", "", Some("take ids of another one")),
            ("Truck", "", Some("No registration id can begin with prefix \"Truck\"")),
            ("truck-", "{ns}.", Some("No registration id can begin with prefix \"{ns}.\"")),
            ("-a", "", Some("No registration id")),
        ] {
            let spec = json!({
                "idScope": "0ne1", "hostname": "global.azure-devices-provisioning.net",
                "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "k"}}},
                "registrationIdPrefixes": [own],
                "allowedNamespaces": {"from": "All", "registrationIdPrefixes": [foreign]},
            });
            let warning = warning(&serde_json::from_value(spec).unwrap());
            match said {
                None => assert_eq!(warning, None, "{own} {foreign}"),
                Some(part) => assert!(warning.as_ref().unwrap().contains(part), "{warning:?}"),
            }
        }
    }
}
