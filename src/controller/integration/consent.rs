//! Who else may refer to an integration. Pure.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::api::integration::{DpsIntegrationSpec, NamespacesFrom};

/// Namespaces other than its own whose devices an integration admits.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Consent {
    #[default]
    Nobody,
    Everybody,
    Matching(Selector),
}

impl Consent {
    /// # Errors
    /// Why the selector makes no sense.
    pub fn of(spec: &DpsIntegrationSpec) -> Result<Self, String> {
        let Some(allowed) = &spec.allowed_namespaces else { return Ok(Self::Nobody) };
        match allowed.from {
            NamespacesFrom::Same => Ok(Self::Nobody),
            NamespacesFrom::All => Ok(Self::Everybody),
            NamespacesFrom::Selector => {
                let selector = Selector::try_from(allowed.selector.clone().unwrap_or_default());
                selector
                    .map(Self::Matching)
                    .map_err(|error| format!("spec.allowedNamespaces.selector: {error}."))
            }
        }
    }

    /// Whether a namespace with these labels is admitted; `None` while its labels are not known.
    pub fn admits(&self, labels: Option<&BTreeMap<String, String>>) -> Option<bool> {
        match self {
            Self::Nobody => Some(false),
            Self::Everybody => Some(true),
            Self::Matching(selector) => labels.map(|labels| selector.matches(labels)),
        }
    }

    pub fn needs_labels(&self) -> bool {
        matches!(self, Self::Matching(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn consent(allowed: &Value) -> Result<Consent, String> {
        let spec = json!({"idScope": "0ne1", "attestation": {}, "allowedNamespaces": allowed});
        Consent::of(&serde_json::from_value(spec).unwrap())
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
