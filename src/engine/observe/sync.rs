//! How far the first reading of everything has come. Watches are started in this order: integrations,
//! then what they refer to, then devices and Secrets; nothing is decided and nothing counted before
//! all are in.

use std::collections::{BTreeSet, HashSet};

use crate::api::references::Reference;

/// Names a watch: its place in `Config::namespaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct WatchId(pub usize);

/// Kinds of objects that are watched for as long as the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) enum WatchedKind {
    Integrations,
    Devices,
    Secrets,
}

impl WatchedKind {
    pub const ALL: [Self; 3] = [Self::Integrations, Self::Devices, Self::Secrets];

    /// The resource, as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Integrations => "dpsintegrations",
            Self::Devices => "provisioneddevices",
            Self::Secrets => "secrets",
        }
    }
}

/// What is being read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Phase {
    Integrations,
    References,
    Devices,
    Complete,
}

/// What has been read, and what is being read.
#[derive(Debug)]
pub(in crate::engine) struct Sync {
    phase: Phase,
    watches: usize,
    read: HashSet<(WatchedKind, WatchId)>,
    /// Watches that the API server does not allow: the others go on without them.
    refused: HashSet<(WatchedKind, WatchId)>,
    /// Number of the current list of devices, over all watches.
    list: u32,
    /// The number that each watch's list has.
    listing: Vec<u32>,
    /// References whose list has begun and has not shown the object yet.
    relisted: HashSet<Reference>,
    /// Integrations seen in the list that is being read, by watch.
    listed_integrations: Vec<BTreeSet<String>>,
}

impl Sync {
    pub fn new(watches: usize) -> Self {
        Self {
            phase: Phase::Integrations,
            watches,
            read: HashSet::new(),
            refused: HashSet::new(),
            list: 0,
            listing: vec![0; watches],
            relisted: HashSet::new(),
            listed_integrations: vec![BTreeSet::new(); watches],
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Every watch has been read.
    pub fn is_complete(&self) -> bool {
        self.phase == Phase::Complete
    }

    /// Everything has been read, and every watch is allowed.
    pub fn is_ready(&self) -> bool {
        self.is_complete() && self.refused.is_empty()
    }

    /// A watch has been read, or is not allowed.
    pub fn read(&mut self, kind: WatchedKind, watch: WatchId, allowed: bool) {
        self.read.insert((kind, watch));
        if allowed {
            self.refused.remove(&(kind, watch));
        } else {
            self.refused.insert((kind, watch));
        }
    }

    /// Every watch of this kind has shown what there is.
    pub fn is_synced(&self, kind: WatchedKind) -> bool {
        self.has_answered(kind) && !self.refused.iter().any(|(refused, _)| *refused == kind)
    }

    fn has_answered(&self, kind: WatchedKind) -> bool {
        self.read.iter().filter(|(read, _)| *read == kind).count() == self.watches
    }

    /// Goes on to the next phase when the present one is complete; returns it then.
    /// `references_are_read`: what integrations refer to, and labels of namespaces.
    pub fn advance(&mut self, references_are_read: bool) -> Option<Phase> {
        let next = match self.phase {
            Phase::Integrations if self.has_answered(WatchedKind::Integrations) => Phase::References,
            Phase::References if references_are_read => Phase::Devices,
            Phase::Devices
                if self.has_answered(WatchedKind::Devices) && self.has_answered(WatchedKind::Secrets) =>
            {
                Phase::Complete
            }
            _ => return None,
        };
        self.phase = next;
        Some(next)
    }

    // Lists of devices.

    pub fn device_list_begins(&mut self, watch: WatchId) {
        self.list += 1;
        self.listing[watch.0] = self.list;
    }

    /// The number of the list that is being read, of whichever watch.
    pub fn list(&self) -> u32 {
        self.list
    }

    /// The number of the list that this watch has read last.
    pub fn device_list(&self, watch: WatchId) -> u32 {
        self.listing[watch.0]
    }

    // Lists of integrations.

    pub fn integration_list_begins(&mut self, watch: WatchId) {
        self.listed_integrations[watch.0].clear();
    }

    pub fn integration_listed(&mut self, watch: WatchId, key: &str) {
        self.listed_integrations[watch.0].insert(key.to_owned());
    }

    /// What a list of integrations had in it, now that it is over.
    pub fn integration_list_ends(&mut self, watch: WatchId) -> BTreeSet<String> {
        std::mem::take(&mut self.listed_integrations[watch.0])
    }

    // Lists of what is referred to: of one object each.

    pub fn reference_list_begins(&mut self, reference: Reference) {
        self.relisted.insert(reference);
    }

    /// The object was shown, or the list is over; true if a list had begun and had not shown it.
    pub fn reference_seen(&mut self, reference: &Reference) -> bool {
        self.relisted.remove(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_phase_follows_the_other_and_each_waits_for_every_watch() {
        let mut sync = Sync::new(2);
        sync.read(WatchedKind::Integrations, WatchId(0), true);
        assert_eq!(sync.advance(true), None);
        sync.read(WatchedKind::Integrations, WatchId(1), true);
        assert_eq!((sync.advance(true), sync.advance(false)), (Some(Phase::References), None));
        assert_eq!(sync.advance(true), Some(Phase::Devices));
        for watch in [WatchId(0), WatchId(1)] {
            assert_eq!(sync.advance(true), None);
            sync.read(WatchedKind::Devices, watch, true);
            sync.read(WatchedKind::Secrets, watch, true);
        }
        assert_eq!((sync.advance(true), sync.advance(true)), (Some(Phase::Complete), None));
    }

    #[test]
    fn a_watch_that_is_not_allowed_holds_nothing_up_and_is_not_synced() {
        let mut sync = Sync::new(1);
        sync.read(WatchedKind::Integrations, WatchId(0), false);
        assert_eq!(sync.advance(true), Some(Phase::References));
        assert!(!sync.is_synced(WatchedKind::Integrations));
        sync.read(WatchedKind::Integrations, WatchId(0), true);
        assert!(sync.is_synced(WatchedKind::Integrations) && !sync.is_ready());
    }
}
