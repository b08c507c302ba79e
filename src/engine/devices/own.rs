//! A device's own credentials, while there is work to do for it.

use std::sync::Arc;

use crate::controller::integration::credentials::{Credentials, KeySource};
use crate::controller::integration::target::Target;
use crate::controller::integration::unusable::Unusable;

/// What was read, and what it comes to with the device's integration.
pub(in crate::engine) struct OwnCredentials {
    /// Of the device that named them.
    generation: i64,
    read: Result<Credentials, Unusable>,
    /// At this revision of the integration's.
    target: Option<(u64, Arc<Target>)>,
}

impl OwnCredentials {
    pub fn new(generation: i64, read: Result<Credentials, Unusable>) -> Self {
        Self { generation, read, target: None }
    }

    /// Without what they come to.
    pub fn alone(mut self: Box<Self>) -> Box<Self> {
        self.target = None;
        self
    }

    /// True if they are what the device names now.
    pub fn are_of(&self, generation: i64) -> bool {
        self.generation == generation
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
