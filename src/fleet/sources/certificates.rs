//! What is known of the certificates that devices are to have by the Secrets that they are read from.

use super::SourceKey;
use crate::api::attestation::{CredentialType, OwnCredential};
use crate::api::conditions::Reason;
use crate::fleet::intern::Sym;
use crate::fleet::{DeviceId, Fleet};

impl Fleet {
    /// What is there the device is not registered with yet; `ca`: it is a certificate of another CA than the device's.
    pub fn source_is_unregistered(&mut self, id: DeviceId, ca: Option<&str>) {
        let ca = ca.map(|ca| self.names.intern(ca));
        if let Some(source) = self.sources.of.get_mut(&id) {
            (source.unregistered, source.next_ca) = (true, ca);
        }
    }

    /// There is, or seems to be, a newer credential than the one that the device is registered with.
    pub fn has_unregistered(&self, id: DeviceId) -> bool {
        let is_read = self.sources.of.get(&id).is_some_and(|source| source.unregistered);
        // One that was refused before the start is looked at when its turn comes.
        let was_refused = || self.get(id).is_some_and(|record| record.reason == Some(Reason::Unauthorized));
        is_read || self.is_source_outdated(id) || was_refused()
    }

    /// Where the device's certificate is read, if it has one or is to have one.
    pub fn certificate_source(&self, id: DeviceId) -> Option<SourceKey> {
        let source = self.sources.of.get(&id).filter(|source| source.kind == CredentialType::X509)?;
        Some(source.key.clone())
    }

    /// True if that is where its integration says that its devices have theirs.
    pub fn is_named_by_template(&self, id: DeviceId, key: &SourceKey) -> bool {
        let template = self.get(id).and_then(|record| self.scopes.get(&record.integration)?.certificates);
        let named = template.and_then(|template| {
            let name = &self.get(id)?.name;
            OwnCredential::of(None, Some(self.names.text(template)), name)
        });
        named.is_some_and(|named| named.secret() == &*key.1)
    }

    /// The CA that it is to be registered with from then on.
    pub fn next_ca(&self, id: DeviceId) -> Option<Sym> {
        self.sources.of.get(&id)?.next_ca
    }

    /// The device has a certificate of its own, or is to have one.
    pub fn reads_certificate(&self, id: DeviceId) -> bool {
        self.sources.of.get(&id).is_some_and(|source| source.kind == CredentialType::X509)
    }
}
