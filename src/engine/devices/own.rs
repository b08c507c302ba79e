//! A device's own credentials, while there is work to do for it.

use std::sync::Arc;

use crate::controller::device::facts::Facts;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::key_source::KeySource;
use crate::controller::integration::target::Target;
use crate::controller::integration::unusable::Unusable;

/// For which declaration credentials were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct ReadFor {
    /// Of the device.
    pub generation: i64,
    /// The Secret that it names, or its integration for it.
    pub secret: Option<String>,
}

/// What was read, and what it comes to with the device's integration.
pub(in crate::engine) struct OwnCredentials {
    read_for: ReadFor,
    /// Its source has changed since.
    is_outdated: bool,
    read: Result<Credentials, Unusable>,
    /// At this revision of the integration's.
    target: Option<(u64, Arc<Target>)>,
}

impl OwnCredentials {
    pub fn new(read_for: ReadFor, read: Result<Credentials, Unusable>) -> Self {
        Self { read_for, is_outdated: false, read, target: None }
    }

    /// What is kept of them while the device waits: not what they come to, and no certificate, which is large.
    pub fn alone(mut self: Box<Self>) -> Option<Box<Self>> {
        self.target = None;
        let is_large = self.read.as_ref().is_ok_and(|own| own.certificate().is_some());
        (!is_large).then_some(self)
    }

    /// Their source has changed since.
    pub fn outdated(mut self: Box<Self>) -> Box<Self> {
        self.is_outdated = true;
        self
    }

    /// They are of use although their source has changed: DPS has accepted them, and they are not written yet.
    pub fn are_unwritten(&self, facts: &Facts) -> bool {
        self.read.as_ref().is_ok_and(|own| facts.is_unwritten(own.in_use()))
    }

    /// They are what is to be read from their source now, or not to be read before these are written.
    pub fn are_current(&self, facts: &Facts) -> bool {
        !self.is_outdated || self.are_unwritten(facts)
    }

    /// True if they are what the device names now.
    pub fn are_for(&self, declared: &ReadFor) -> bool {
        self.read_for == *declared
    }

    /// Puts them in the place of what the integration has for its devices, as it is now. `stated`: where the
    /// device's status says that they were looked at.
    pub fn fit(&mut self, integration: &Target, stated: Option<&KeySource>) {
        let fits = self.target(integration.revision).is_some();
        if let Ok(own) = &self.read
            && !fits
        {
            let target = Arc::new(integration.for_device(own.clone(), stated));
            self.target = Some((integration.revision, target));
        }
    }

    /// What was read, or why it cannot be used.
    pub fn read(&self) -> Result<&Credentials, &Unusable> {
        self.read.as_ref()
    }

    /// What they come to with the integration's target of this revision.
    pub fn target(&self, revision: u64) -> Option<&Arc<Target>> {
        self.target.as_ref().filter(|(fitted, _)| *fitted == revision).map(|(_, target)| target)
    }
}
