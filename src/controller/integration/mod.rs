//! Integrations: from what a user wrote and the key that is there to something devices can be
//! registered with.

pub mod consent;
pub mod decide;
pub mod status;

use std::fmt;
use std::sync::Arc;

use crate::api::attestation::KeySlot;
use crate::api::integration::DeviceDefaults;
use crate::dps::client::{ClockOffset, DpsClient};
use crate::dps::host::Endpoint;
use crate::dps::ids::IdScope;
use crate::dps::key::{Fingerprint, GroupKey};
use crate::fleet::hash::Hash;
use crate::fleet::inherit::Inherited;

/// A key of the enrollment group and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotKey {
    pub slot: KeySlot,
    pub key: GroupKey,
    pub fingerprint: Fingerprint,
}

/// An integration that devices can be registered with.
#[derive(Clone)]
pub struct Ready {
    pub scope: IdScope,
    pub endpoint: Endpoint,
    pub client: DpsClient,
    /// Of the CA bundle that the client trusts.
    pub roots: Option<Hash>,
    pub active: SlotKey,
    pub other: Option<SlotKey>,
    pub prefixes: Vec<String>,
    /// Its own namespace, and prefixes for ids of devices in others.
    pub namespace: String,
    pub foreign_prefixes: Vec<String>,
    /// Settings that devices inherit, and their hashes.
    pub defaults: Option<Arc<DeviceDefaults>>,
    pub inherited: Arc<Inherited>,
    /// The integration's reprovision token.
    pub token: Option<String>,
    /// How far DPS's clock is from ours, once it has mattered.
    pub clock: Arc<ClockOffset>,
    pub suspended: bool,
    /// Moves whenever anything above changes, so that failures of the past do not delay what may
    /// have been mended.
    pub epoch: u64,
    /// The first epoch after a start, and the status speaks of this very spec and key: failures
    /// that devices remember from before the start still count.
    pub as_recorded: bool,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("scope", &self.scope)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Ready {
    /// The key with this fingerprint, if it is one of the present ones.
    pub fn key(&self, fingerprint: Fingerprint) -> Option<&SlotKey> {
        [Some(&self.active), self.other.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.fingerprint == fingerprint)
    }

    /// Uses the other slot's key, if there is one.
    pub fn swap_keys(&mut self) {
        if let Some(other) = self.other.take() {
            self.other = Some(std::mem::replace(&mut self.active, other));
        }
    }

    /// True if the id begins with one of the prefixes, or there are none. Ids from other namespaces
    /// have to begin with one of theirs, too.
    pub fn allows_id(&self, id: &str, namespace: &str) -> bool {
        let fits = |prefixes: &[String]| {
            prefixes.iter().any(|prefix| id.starts_with(&prefix.replace("{namespace}", namespace)))
        };
        (self.prefixes.is_empty() || fits(&self.prefixes))
            && (namespace == self.namespace || fits(&self.foreign_prefixes))
    }

    /// True if both lead to the same DPS instance with the same key: what DPS said of one it would
    /// say of the other.
    pub fn same_for_dps(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.endpoint == other.endpoint
            && self.roots == other.roots
            && self.active == other.active
    }

    /// True if devices cannot tell the two apart.
    pub fn same_for_devices(&self, other: &Self) -> bool {
        self.same_for_dps(other)
            && self.other == other.other
            && self.prefixes == other.prefixes
            && self.foreign_prefixes == other.foreign_prefixes
            && self.suspended == other.suspended
            && self.token == other.token
            && self.inherited == other.inherited
            && self.defaults == other.defaults
    }
}

#[cfg(test)]
mod tests;
