//! What Secrets that were written for a device record of it.

use super::registered::Registered;
use super::served::ServedRequests;
use crate::fleet::hash::Hash;

/// The Secret as we wrote or last checked it.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSecret {
    pub name: String,
    pub version: u64,
    /// `None` when another version of the hash wrote it.
    pub rendered: Option<Hash>,
    /// Hash of what it records of the registration and of requests (`Registered::record`).
    pub record: Hash,
    /// It has the form that Service Binding expects.
    pub binding: bool,
}

/// What is recorded in a Secret that was written for a device.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedInSecret {
    pub registered: Registered,
    /// Requests of users that this registration has served.
    pub served: ServedRequests,
    /// It is as we wrote it; otherwise others may have written any part of it.
    pub sealed: bool,
    /// Of the Secret.
    pub version: u64,
    /// What was rendered; `None` when another version of the hash wrote it.
    pub rendered: Option<Hash>,
    /// The Secret itself, if it was made from a key that is not at hand: it stays as it is.
    pub of_another_key: Option<WrittenSecret>,
    /// Its data is what it would be with the key that stands in it: without the group's key no more can be
    /// known. True if that key is at hand.
    pub agrees: bool,
}

/// Why DPS is asked before anything is made of what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// The Secret speaks of a registration, the status of none, and no seal shows who wrote the Secret.
    Unsealed(Box<RecordedInSecret>),
    /// Status and Secret contradict each other, and neither is known to be newer; or another writer has
    /// written the status.
    Contradiction,
}

impl RecordedInSecret {
    /// It shows by itself that DPS has said so. A seal that was made with the device's own key does not: who
    /// reads the Secret has that key.
    pub(super) fn is_proof(&self) -> bool {
        self.sealed && self.registered.credential.is_none_or(|used| used.kind().is_shared())
    }
}
