//! What is to be said of integrations that can be used all the same: each once, until it changes.

use crate::api::integration::{DpsIntegration, DpsIntegrationSpec};
use crate::controller::events::{EventNote, EventReason};
use crate::controller::integration::key_twice::KeyTwice;
use crate::controller::integration::prefixes;
use crate::dps::attestation::CredentialId;

/// What has been found, and what of it has been said.
#[derive(Default)]
pub(super) struct Warnings {
    /// The generation whose prefixes have been looked at.
    prefixes_judged: Option<i64>,
    /// What is wrong with the CA bundle that is used,
    ca_bundle: Option<String>,
    /// and what was said of it last.
    ca_bundle_said: Option<String>,
    /// Both slots hold one key,
    key_twice: Option<KeyTwice>,
    /// and what was said of that last.
    key_twice_said: Option<String>,
    /// No id is left to other namespaces,
    contradiction: Option<String>,
    /// and what was said of that last.
    contradiction_said: Option<String>,
}

impl Warnings {
    /// The integration has been judged: its CA bundle and its keys have been read.
    pub fn set(&mut self, spec: &DpsIntegrationSpec, ca_bundle: Option<String>, key_twice: Option<KeyTwice>) {
        self.contradiction = prefixes::contradiction(spec);
        self.ca_bundle = ca_bundle;
        self.key_twice = key_twice;
    }

    /// What the status says. `proven`: credentials that DPS has accepted.
    pub fn shown(&self, proven: &[CredentialId]) -> Option<String> {
        let found = [self.key_twice(proven), self.contradiction.as_deref(), self.ca_bundle.as_deref()];
        let found: Vec<&str> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| found.join(" "))
    }

    fn key_twice(&self, proven: &[CredentialId]) -> Option<&str> {
        self.key_twice.as_ref()?.said(proven)
    }

    /// What has not been said yet.
    pub fn take_new(&mut self, object: &DpsIntegration, proven: &[CredentialId]) -> Vec<EventNote> {
        let mut notes = Vec::new();
        let generation = object.metadata.generation;
        if self.prefixes_judged.replace(generation.unwrap_or_default()) != generation {
            let warning = prefixes::warning(&object.spec);
            notes.extend(warning.map(|warning| EventNote::new(EventReason::PrefixOutdated, warning)));
        }
        let key_twice = self.key_twice(proven).map(str::to_owned);
        notes.extend(news(EventReason::KeyInBothSlots, key_twice, &mut self.key_twice_said));
        let contradiction = self.contradiction.clone();
        notes.extend(news(EventReason::PrefixesContradict, contradiction, &mut self.contradiction_said));
        notes.extend(news(EventReason::CaBundleFlawed, self.ca_bundle.clone(), &mut self.ca_bundle_said));
        notes
    }
}

/// An event, if something is found that was not said last.
fn news(reason: EventReason, found: Option<String>, said: &mut Option<String>) -> Option<EventNote> {
    if *said == found {
        return None;
    }
    said.clone_from(&found);
    Some(EventNote::new(reason, found?))
}
