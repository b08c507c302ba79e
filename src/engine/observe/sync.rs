//! How far the first reading of everything has come. Watches are started in this order: integrations,
//! then what they refer to, then devices, then Secrets, of which only those are remembered that no device
//! names; nothing is decided and nothing counted before all are in.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::api::references::Reference;
use crate::fleet::{SourceKey, SourceList};

/// Names a watch: its place in `Config::namespaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct WatchId(pub usize);

/// A watch of Secrets that devices' own keys and certificates are read from: of many, or of one by its name.
#[derive(Clone, Debug)]
pub(in crate::engine) enum SourceWatch {
    Listed(SourceList, WatchId),
    Named(SourceKey),
}

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
    Secrets,
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
    /// Lists that are being read, with the version up to which each is the truth.
    truths: HashMap<(WatchedKind, WatchId), u64>,
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
            truths: HashMap::new(),
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

    /// Kinds of which the API server refuses a watch.
    pub fn refused(&self) -> Vec<&'static str> {
        let is_refused = |kind: &WatchedKind| self.refused.iter().any(|(refused, _)| refused == kind);
        WatchedKind::ALL.into_iter().filter(is_refused).map(WatchedKind::as_str).collect()
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
            Phase::Devices if self.has_answered(WatchedKind::Devices) => Phase::Secrets,
            Phase::Secrets if self.has_answered(WatchedKind::Secrets) => Phase::Complete,
            _ => return None,
        };
        self.phase = next;
        Some(next)
    }

    // Lists.

    /// A list begins, which is the truth about everything that is known up to this version.
    pub fn list_begins(&mut self, kind: WatchedKind, watch: WatchId, truth: u64) {
        self.truths.insert((kind, watch), truth);
    }

    pub fn list_ends(&mut self, kind: WatchedKind, watch: WatchId) {
        self.truths.remove(&(kind, watch));
    }

    /// What is known of an object, at version `known`, gives way to what is shown, at version `shown`,
    /// even if that is older: a list says so, so the server has gone back to an earlier state. What is
    /// known beyond the list's own version is newer than the list.
    pub fn gives_way(&self, kind: WatchedKind, watch: WatchId, known: u64, shown: u64) -> bool {
        match self.truths.get(&(kind, watch)) {
            // The versions themselves began again: equal ones need not mean the same.
            Some(&u64::MAX) => true,
            Some(truth) => shown < known && known <= *truth,
            None => false,
        }
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
        for (kind, phase) in [(WatchedKind::Devices, Phase::Secrets), (WatchedKind::Secrets, Phase::Complete)]
        {
            for watch in [WatchId(0), WatchId(1)] {
                assert_eq!(sync.advance(true), None);
                sync.read(kind, watch, true);
            }
            assert_eq!((sync.advance(true), sync.advance(true)), (Some(phase), None));
        }
    }

    #[test]
    fn what_is_known_gives_way_to_a_list_that_shows_the_server_went_back() {
        let (kind, watch) = (WatchedKind::Devices, WatchId(0));
        let mut sync = Sync::new(1);
        assert!(!sync.gives_way(kind, watch, 9, 7), "an event");
        // known, shown, version up to which the list is the truth
        for (known, shown, truth, expected) in [
            (9, 9, 20, false),
            (7, 9, 20, false),
            (9, 7, 20, true),
            (9, 7, 9, true),
            // Written by us after the list was made.
            (21, 7, 20, false),
            (9, 9, u64::MAX, true),
            (900, 7, u64::MAX, true),
        ] {
            sync.list_begins(kind, watch, truth);
            assert_eq!(sync.gives_way(kind, watch, known, shown), expected, "{known} {shown} {truth}");
            assert!(!sync.gives_way(WatchedKind::Secrets, watch, known, shown));
        }
        sync.list_ends(kind, watch);
        assert!(!sync.gives_way(kind, watch, 900, 7));
    }

    #[test]
    fn a_watch_that_is_not_allowed_holds_nothing_up_and_is_not_synced() {
        let mut sync = Sync::new(1);
        sync.read(WatchedKind::Integrations, WatchId(0), false);
        assert_eq!(sync.advance(true), Some(Phase::References));
        assert!(!sync.is_synced(WatchedKind::Integrations));
        assert_eq!(sync.refused(), ["dpsintegrations"]);
        sync.read(WatchedKind::Integrations, WatchId(0), true);
        assert!(sync.is_synced(WatchedKind::Integrations) && !sync.is_ready());
    }
}
