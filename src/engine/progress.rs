//! How far the first reading of everything has come.

use std::collections::HashSet;

use crate::api::references::Reference;

pub(super) const INTEGRATIONS: &str = "dpsintegrations";
pub(super) const DEVICES: &str = "provisioneddevices";
pub(super) const SECRETS: &str = "secrets";

/// What has been read, and what is being read.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    pub(super) watches: usize,
    pub(super) integrations: HashSet<usize>,
    pub(super) devices: HashSet<usize>,
    pub(super) secrets: HashSet<usize>,
    /// Watches that the API server does not allow: the others go on without them.
    pub(super) refused: HashSet<(&'static str, usize)>,
    /// Number of the current list of devices, over all watches.
    pub(super) epoch: u32,
    /// Epoch in which each watch's list began.
    pub(super) listing: Vec<u32>,
    /// References whose list has begun and has not shown the object yet.
    pub(super) relisted: HashSet<Reference>,
    /// Integrations seen in the list that is being read, by watch.
    pub(super) listed_integrations: Vec<HashSet<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Integrations,
    References,
    Devices,
    Running,
}

impl Progress {
    pub(super) fn new(watches: usize) -> Self {
        Self {
            phase: Phase::Integrations,
            watches,
            integrations: HashSet::new(),
            devices: HashSet::new(),
            secrets: HashSet::new(),
            refused: HashSet::new(),
            epoch: 0,
            listing: vec![0; watches],
            relisted: HashSet::new(),
            listed_integrations: vec![HashSet::new(); watches],
        }
    }

    pub(super) fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Every watch of this kind has shown what there is.
    pub(super) fn has_read(&self, kind: &'static str) -> bool {
        let read = match kind {
            INTEGRATIONS => &self.integrations,
            DEVICES => &self.devices,
            _ => &self.secrets,
        };
        read.len() == self.watches && !self.refused.iter().any(|(refused, _)| *refused == kind)
    }
}
