//! Which other namespaces may refer to an integration. Pure.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use super::prefixes::PLACEHOLDER;
use crate::api::integration::{DpsIntegrationSpec, NamespacesFrom};

/// Namespaces other than its own whose devices an integration admits.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Consent {
    #[default]
    OwnNamespace,
    AllNamespaces,
    Matching(Selector),
}

/// Why the selector of other namespaces makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.allowedNamespaces.selector: {0}.")]
pub struct InvalidSelector(String);

impl Consent {
    /// # Errors
    /// Why the selector makes no sense.
    pub fn of(spec: &DpsIntegrationSpec) -> Result<Self, InvalidSelector> {
        let Some(allowed) = &spec.allowed_namespaces else { return Ok(Self::OwnNamespace) };
        match allowed.from {
            NamespacesFrom::Same => Ok(Self::OwnNamespace),
            NamespacesFrom::All => Ok(Self::AllNamespaces),
            NamespacesFrom::Selector => {
                let selector = Selector::try_from(allowed.selector.clone().unwrap_or_default());
                selector.map(Self::Matching).map_err(|error| InvalidSelector(error.to_string()))
            }
        }
    }

    /// Whether a namespace with these labels is admitted; `None` while its labels are not known.
    pub fn admits(&self, labels: Option<&BTreeMap<String, String>>) -> Option<bool> {
        match self {
            Self::OwnNamespace => Some(false),
            Self::AllNamespaces => Some(true),
            Self::Matching(selector) => labels.map(|labels| selector.matches(labels)),
        }
    }

    pub fn needs_labels(&self) -> bool {
        matches!(self, Self::Matching(_))
    }
}

/// True if a device of this namespace may have this registration id: it begins with one of the
/// prefixes, if there are any, and from another namespace than the integration's with one of `foreign`.
pub fn allows_id(prefixes: &[String], foreign: Option<&[String]>, id: &str, namespace: &str) -> bool {
    let fits = |prefixes: &[String]| prefixes.iter().any(|prefix| begins_with(id, prefix, namespace));
    (prefixes.is_empty() || fits(prefixes)) && foreign.is_none_or(fits)
}

/// What registration ids of a namespace have to begin with, for people: all that `allows_id` asks for.
pub fn prescribed(prefixes: &[String], foreign: Option<&[String]>, namespace: &str) -> String {
    let lists = [Some(prefixes).filter(|own| !own.is_empty()), foreign];
    let shown = |list| match foreign {
        None => one_of(list, namespace),
        Some(_) => one_of_others(list, namespace),
    };
    lists.into_iter().flatten().map(shown).collect::<Vec<_>>().join(", and with ")
}

/// Of another namespace's integration: what stands for this namespace. The others may name other tenants.
fn one_of_others(prefixes: &[String], namespace: &str) -> String {
    let own: Vec<String> = prefixes.iter().filter(|prefix| prefix.contains(PLACEHOLDER)).cloned().collect();
    if own.is_empty() { "a prefix that its owner knows".to_owned() } else { one_of(&own, namespace) }
}

/// The first ones, as they read for this namespace.
fn one_of(prefixes: &[String], namespace: &str) -> String {
    const SHOWN: usize = 4;
    let expanded = |prefix: &String| format!("{:?}", prefix.replace(PLACEHOLDER, namespace));
    let first: Vec<String> = prefixes.iter().take(SHOWN).map(expanded).collect();
    match prefixes.len().saturating_sub(SHOWN) {
        0 => first.join(" or "),
        more => format!("{} or one of {more} more", first.join(", ")),
    }
}

/// True if the id begins with the prefix, in which `{namespace}` stands for the namespace.
fn begins_with(id: &str, prefix: &str, namespace: &str) -> bool {
    let mut parts = prefix.split(PLACEHOLDER);
    let first = parts.next().unwrap_or_default();
    let rest = |rest: &'_ str, part: &str| {
        let behind = rest.strip_prefix(namespace)?.strip_prefix(part)?;
        Some(rest.len() - behind.len())
    };
    let mut left = id.strip_prefix(first);
    for part in parts {
        left = left.and_then(|text| rest(text, part).map(|length| &text[length..]));
    }
    left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_prescribed_reads_as_it_is_for_the_namespace() {
        let list = |prefixes: &[&str]| prefixes.iter().map(|prefix| (*prefix).to_owned()).collect::<Vec<_>>();
        let (own, foreign) = (list(&["press-", "oven-"]), list(&["{namespace}."]));
        let many = list(&["a", "b", "c", "d", "e", "f"]);
        for (own, foreign, expected) in [
            (&own, None, r#""press-" or "oven-""#),
            (&own, Some(&foreign[..]), r#"a prefix that its owner knows, and with "shop.""#),
            (&Vec::new(), Some(&foreign[..]), r#""shop.""#),
            (&many, None, r#""a", "b", "c", "d" or one of 2 more"#),
        ] {
            assert_eq!(prescribed(own, foreign, "shop"), expected);
        }
    }

    fn consent(allowed: &Value) -> Result<Consent, InvalidSelector> {
        let spec = json!({"idScope": "0ne1", "attestation": {}, "allowedNamespaces": allowed});
        Consent::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn ids_begin_with_a_prefix_of_the_integration_and_those_from_elsewhere_with_one_for_them() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (prefixes, foreign, id, allowed) in [
            (&[][..], None, "truck", true),
            (&["car-"], None, "truck", false),
            (&["car-", "tr"], None, "truck", true),
            (&[], Some(&[][..]), "truck", false),
            (&[], Some(&[""]), "truck", true),
            (&[], Some(&["{namespace}."]), "a.truck", true),
            (&[], Some(&["{namespace}."]), "a-b.truck", false),
            (&[], Some(&["{namespace}."]), "b.truck", false),
            (&[], Some(&["x.{namespace}.y.{namespace}"]), "x.a.y.a.truck", true),
            (&[], Some(&["x.{namespace}.y.{namespace}"]), "x.a.y.b", false),
            (&["b."], Some(&["{namespace}."]), "a.truck", false),
        ] {
            let foreign = foreign.map(texts);
            let found = allows_id(&texts(prefixes), foreign.as_deref(), id, "a");
            assert_eq!(found, allowed, "{prefixes:?} {foreign:?} {id}");
        }
    }

    #[test]
    fn only_namespaces_that_were_admitted_are() {
        let labels: BTreeMap<_, _> = [("tenant".to_owned(), "a".to_owned())].into();
        let none = BTreeMap::new();
        let admits = |allowed: &Value, labels| consent(allowed).unwrap().admits(labels);
        assert_eq!(Consent::default().admits(Some(&labels)), Some(false));
        assert_eq!(admits(&json!({"from": "Same"}), Some(&labels)), Some(false));
        assert_eq!(admits(&json!({"from": "All"}), None), Some(true));
        let tenant = json!({"from": "Selector", "selector": {"matchLabels": {"tenant": "a"}}});
        assert_eq!(admits(&tenant, Some(&labels)), Some(true));
        assert_eq!(admits(&tenant, Some(&none)), Some(false));
        assert_eq!(admits(&tenant, None), None);
        let other = json!({"from": "Selector", "selector": {"matchExpressions": [
            {"key": "tenant", "operator": "NotIn", "values": ["a"]},
        ]}});
        assert_eq!((admits(&other, Some(&labels)), admits(&other, Some(&none))), (Some(false), Some(true)));
        let broken = json!({"from": "Selector", "selector": {"matchExpressions": [
            {"key": "tenant", "operator": "In"},
        ]}});
        assert!(consent(&broken).is_err());
    }
}
