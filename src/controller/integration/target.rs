//! What devices are registered with: an integration that can be used. Pure: the connection stands
//! beside it.

use std::ops::Deref;
use std::sync::Arc;

use super::consent;
use super::credentials::Credentials;
use super::key_source::KeySource;
use crate::api::cert_manager::CertManager;
use crate::api::integration::DeviceDefaults;
use crate::api::issued::IssuedKeyAlgorithm;
use crate::dps::host::Endpoint;
use crate::dps::ids::IdScope;
use crate::dps::tls::TlsSettings;
use crate::fleet::hash::Hash;
use crate::fleet::inherit::Inherited;
use crate::fleet::record::Wanted;

/// A DPS instance and how it is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub scope: IdScope,
    pub endpoint: Endpoint,
    pub tls: TlsSettings,
}

/// Everything about an integration that its devices depend on: equal terms are the same to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub instance: Instance,
    pub credentials: Credentials,
    pub prefixes: Vec<String>,
    /// The integration's own namespace, and prefixes for ids of devices in others.
    pub namespace: String,
    pub foreign_prefixes: Vec<String>,
    /// Settings that devices inherit, and their hashes.
    pub defaults: Option<Arc<DeviceDefaults>>,
    pub inherited: Arc<Inherited>,
    /// The integration's reprovision token.
    pub token: Option<String>,
    /// What cert-manager is asked for on behalf of devices.
    pub cert_manager: Option<Arc<CertManager>>,
    /// DPS is asked for a certificate for each device, with a key of this kind.
    pub issued: Option<IssuedKeyAlgorithm>,
    pub suspended: bool,
}

/// Terms as they stood at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub terms: Terms,
    /// Unique among all integrations and credentials of devices; moves whenever the terms change, so that failures of the past do
    /// not delay what may have been mended.
    pub revision: u64,
    /// The first revision after a start, and the status names this very spec and credential: failures
    /// that devices remember from before the start still count.
    pub as_recorded: bool,
}

impl Target {
    /// The same for a device with credentials of its own. `stated`: what its status says of where they were
    /// looked at.
    #[must_use]
    pub fn for_device(&self, own: Credentials, stated: Option<&KeySource>) -> Self {
        let parts = [self.revision.to_string(), own.in_use().to_string()];
        let same = stated.zip(own.source()).is_some_and(|(stated, own)| stated.is_same_version(own));
        let as_recorded = self.as_recorded && same;
        Self {
            revision: Hash::of("own target", parts.iter().map(String::as_bytes)).number(),
            terms: Terms { credentials: own, ..self.terms.clone() },
            as_recorded,
        }
    }
}

impl Deref for Target {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Terms {
    pub fn scope(&self) -> &str {
        self.instance.scope.as_str()
    }

    /// What settled devices are compared with.
    pub fn wanted(&self) -> Wanted<'_> {
        let issued = self.issued.map(IssuedKeyAlgorithm::as_str);
        Wanted {
            scope: self.scope(),
            credential: self.credentials.in_use(),
            inherited: &self.inherited,
            issued,
        }
    }

    /// True if the id begins with one of the prefixes, or there are none. Ids from other namespaces
    /// have to begin with one of theirs, too.
    pub fn allows_id(&self, id: &str, namespace: &str) -> bool {
        consent::allows_id(&self.prefixes, self.foreign_prefixes(namespace), id, namespace)
    }

    /// What that comes to, for people.
    pub fn prescribed(&self, namespace: &str) -> String {
        consent::prescribed(&self.prefixes, self.foreign_prefixes(namespace), namespace)
    }

    fn foreign_prefixes(&self, namespace: &str) -> Option<&[String]> {
        (namespace != self.namespace).then_some(&self.foreign_prefixes[..])
    }

    /// True if both lead to the same DPS instance with the same credential: what DPS said of one it
    /// would say of the other.
    pub fn same_for_dps(&self, other: &Self) -> bool {
        self.instance == other.instance && self.credentials.use_the_same(&other.credentials)
    }
}
