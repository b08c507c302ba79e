//! Objects that integrations refer to: key Secrets and CA bundles, as their watches show them.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// A Secret or ConfigMap that an integration refers to, as the watch shows it.
pub enum Referred {
    /// The watch has not answered yet.
    Unread,
    Missing,
    /// The API server does not let us read it.
    Forbidden,
    /// There is no room for it beside those of other integrations.
    TooMuch,
    /// With the keys that integrations name, and no others.
    Present {
        data: BTreeMap<String, Zeroizing<Vec<u8>>>,
        /// It carries the label of a Secret that we wrote.
        generated: bool,
        /// Its resourceVersion.
        version: String,
    },
}

/// Kinds of objects that an integration refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferredKind {
    Secret,
    ConfigMap,
}

/// Name of a Secret or ConfigMap that an integration refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub kind: ReferredKind,
    pub namespace: String,
    pub name: String,
}
