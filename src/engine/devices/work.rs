//! What is kept of a device only while there is work to do for it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tokio::task::AbortHandle;

use super::own::OwnCredentials;
use super::room::Load;
use crate::api::device::ProvisionedDevice;
use crate::clock::Now;
use crate::controller::device::facts::Facts;
use crate::fleet::hash::Hash;
use crate::fleet::uid::Uid;
use crate::schedule::Share;

/// How good our copy of the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Freshness {
    /// As the API server showed it.
    Current,
    /// Out of date; a watch event will bring the new one.
    Stale,
    /// Made from the record, and DPS has not answered yet: no status may be written.
    Revived,
}

/// A device with work to do: the object, what is known beyond it, and what goes on.
pub(in crate::engine) struct Work {
    pub device: Arc<ProvisionedDevice>,
    pub freshness: Freshness,
    pub facts: Facts,
    /// The effect in flight; at most one.
    pub task: Option<(AbortHandle, Load)>,
    /// It is a registration.
    pub registers: bool,
    /// DPS has answered, and nothing is written yet.
    pub answered: bool,
    /// The Secret has been read.
    pub secret_read: bool,
    /// The Secret that was read, until it is used.
    pub found: Option<Secret>,
    /// Whether what is done concerns this device or a whole fleet.
    pub share: Share,
    /// The settings with which the Secret was written, while only the assignment has changed since.
    pub same_settings: Option<Hash>,
    /// Its own credentials, once they have been read.
    pub own: Option<Box<OwnCredentials>>,
    /// How often a read of them came into doubt: one that had begun before says nothing.
    pub doubted: u32,
    /// There are facts that are not written to the status yet.
    pub unreported: bool,
    /// resourceVersion at which the watch last showed the end of the Secret.
    pub secret_gone_at: u64,
    /// resourceVersion that the last status write was made against.
    pub tried: Option<u64>,
}

impl Work {
    pub fn new(device: ProvisionedDevice, hub_suffixes: &[String], now: Now) -> Self {
        let seed = Uid::of(&device).seed();
        let generation = device.metadata.generation.unwrap_or(0);
        let facts = device
            .status
            .as_ref()
            .map(|status| Facts::from_status(status, generation, seed, (now.wall, now.mono)));
        Self {
            facts: facts
                .unwrap_or_default()
                .without_foreign_hub(hub_suffixes)
                .of_registration(device.registration_id()),
            device: Arc::new(device),
            freshness: Freshness::Current,
            task: None,
            registers: false,
            answered: false,
            secret_read: false,
            found: None,
            share: Share::Device,
            same_settings: None,
            own: None,
            doubted: 0,
            unreported: false,
            secret_gone_at: 0,
            tried: None,
        }
    }

    /// The object that had been made from the record is here: what its status says is known now,
    /// what has happened meanwhile stays.
    pub fn replace_revived(&mut self, device: ProvisionedDevice, hub_suffixes: &[String], now: Now) {
        let fresh = Self::new(device, hub_suffixes, now);
        let (failure, trigger) = (self.facts.failure.take(), self.facts.trigger);
        let (open, unresolved) = (self.facts.open.take(), self.facts.unresolved);
        self.device = fresh.device;
        self.facts = fresh.facts;
        self.facts.failure = failure.or(self.facts.failure.take());
        self.facts.open = open;
        self.facts.unresolved = unresolved;
        self.facts.trigger = trigger;
        self.freshness = Freshness::Current;
    }
}
