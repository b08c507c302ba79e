//! What is to be said of integrations that can be used all the same: each once, until it changes.

use crate::api::integration::DpsIntegration;
use crate::controller::events::{EventNote, EventReason};
use crate::controller::integration::prefixes;

/// What has been found, and what of it has been said.
#[derive(Default)]
pub(super) struct Warnings {
    /// The generation whose prefixes have been looked at.
    prefixes_judged: Option<i64>,
    /// What is wrong with the CA bundle that is used,
    ca_bundle: Option<String>,
    /// and what was said of it last.
    ca_bundle_said: Option<String>,
}

impl Warnings {
    /// The CA bundle has been read.
    pub fn set_ca_bundle(&mut self, warning: Option<String>) {
        self.ca_bundle = warning;
    }

    pub fn ca_bundle(&self) -> Option<&str> {
        self.ca_bundle.as_deref()
    }

    /// What has not been said yet.
    pub fn take_new(&mut self, object: &DpsIntegration) -> Vec<EventNote> {
        let mut notes = Vec::new();
        let generation = object.metadata.generation;
        if self.prefixes_judged.replace(generation.unwrap_or_default()) != generation {
            let warning = prefixes::warning(&object.spec);
            notes.extend(warning.map(|warning| EventNote::new(EventReason::PrefixOutdated, warning)));
        }
        if self.ca_bundle_said != self.ca_bundle {
            self.ca_bundle_said.clone_from(&self.ca_bundle);
            let warning = self.ca_bundle.clone();
            notes.extend(warning.map(|warning| EventNote::new(EventReason::CaBundleFlawed, warning)));
        }
        notes
    }
}
