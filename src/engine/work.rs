//! What is kept of a device only while there is work to do for it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tokio::task::AbortHandle;

use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::clock;
use crate::controller::device::act::SecretTrouble;
use crate::controller::device::decide::Call;
use crate::controller::device::facts::{Facts, Handled, Registered, WrittenSecret};
use crate::controller::events::Told;
use crate::dps::answer::Assignment;
use crate::dps::error::DpsError;
use crate::fleet::hash::Hash;
use crate::fleet::uid::Uid;
use crate::kube_io::error::ApiError;
use crate::schedule::permits::Permit;

/// A device with work to do: the object, what is known beyond it, and what goes on.
pub struct Work {
    pub device: Arc<ProvisionedDevice>,
    pub facts: Facts,
    /// The side effect in flight; at most one.
    pub task: Option<AbortHandle>,
    /// The Secret has been looked at.
    pub secret_read: bool,
    /// The Secret that was looked at, until it is used.
    pub found: Option<Secret>,
    /// Our copy of the object is out of date; a watch event will bring the new one.
    pub stale: bool,
    /// The API server did not answer, this many times in a row.
    pub unanswered: u32,
    /// What is done concerns a whole fleet, not this device.
    pub for_fleet: bool,
    /// The settings with which the Secret was written, while only the assignment has changed since.
    pub same_settings: Option<Hash>,
    /// The object was made from the record, and DPS has not answered yet: no status may be written.
    pub revived: bool,
    /// What is known goes further than what the index can tell from the status.
    pub news: bool,
    /// resourceVersion at which the watch last told of the end of the Secret.
    pub secret_gone_at: u64,
    /// resourceVersion that the last status write was made against.
    pub tried: Option<u64>,
}

impl Work {
    pub fn new(device: ProvisionedDevice, hub_suffixes: &[String]) -> Self {
        let seed = Uid::of(&device).seed();
        let generation = device.metadata.generation.unwrap_or(0);
        let facts = device
            .status
            .as_ref()
            .map(|status| Facts::from_status(status, generation, seed, clock::now().wall));
        Self {
            facts: facts.unwrap_or_default().without_foreign_hub(hub_suffixes),
            device: Arc::new(device),
            task: None,
            secret_read: false,
            found: None,
            stale: false,
            unanswered: 0,
            for_fleet: false,
            same_settings: None,
            revived: false,
            news: false,
            secret_gone_at: 0,
            tried: None,
        }
    }
}

impl Work {
    /// The object that had been made from the record is here: what its status says is known now,
    /// what has happened meanwhile stays.
    pub fn wake_up(&mut self, device: ProvisionedDevice, hub_suffixes: &[String]) {
        let fresh = Self::new(device, hub_suffixes);
        let (failure, asked) = (self.facts.failure.take(), self.facts.asked);
        (self.device, self.facts) = (fresh.device, fresh.facts);
        self.facts.failure = failure.or(self.facts.failure.take());
        self.facts.asked = asked;
        (self.revived, self.stale) = (false, false);
    }
}

/// What DPS said of a device.
pub enum Answered {
    /// It was registered, or found for the first time.
    Registered(Registered),
    /// Where a registered device is now.
    Found(Assignment),
}

/// What a side effect brought.
pub enum Effect {
    DeviceRead(Result<Option<Box<ProvisionedDevice>>, ApiError>),
    /// DPS has accepted the key; the registration goes on.
    KeyAccepted {
        permit: Permit,
        epoch: u64,
    },
    Called {
        permit: Permit,
        epoch: u64,
        /// Of the device when the call began.
        generation: i64,
        /// What users had asked for then.
        handled: Handled,
        call: Call,
        result: Result<Box<Answered>, DpsError>,
    },
    /// A settled device was looked up.
    Checked {
        permit: Permit,
        epoch: u64,
        result: Result<Box<Assignment>, DpsError>,
    },
    SecretRead {
        /// Of the integration when it was read.
        epoch: u64,
        read: Result<Option<Box<Secret>>, ApiError>,
    },
    SecretWritten {
        /// Of the device, and of its integration, when the write began.
        generation: i64,
        epoch: u64,
        /// It had been deleted or edited.
        restored: bool,
        result: Result<WrittenSecret, SecretTrouble>,
    },
    /// `news`: a person would want to know of the transition.
    StatusWritten {
        status: Box<ProvisionedDeviceStatus>,
        news: bool,
        /// Events that it is worth.
        told: Vec<Told>,
        result: Result<u64, ApiError>,
    },
}

impl Effect {
    /// True if it is the end of the side effect that was in flight.
    pub fn ends_task(&self) -> bool {
        !matches!(self, Self::DeviceRead(_) | Self::KeyAccepted { .. } | Self::Checked { .. })
    }
}
