//! Secrets that devices' own keys and certificates are read from, and how a change of one is noticed: by one watch
//! for all with a certificate and one for all that have our label, by a watch of its own for a few others, and by
//! a look at each of the rest in turn.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::observe::sync::{SourceWatch, WatchId};
use super::{Engine, party};
use crate::api::version;
use crate::clock::Now;
use crate::fleet::{DeviceId, SourceChanges, SourceKey, SourceList};
use crate::kube_io::error::ApiError;
use crate::kube_io::refs;
use crate::kube_io::watch::Observed;
use crate::schedule::looks::{Looks, Turn};

/// Secrets that are watched by their name: each is a stream, of which there are few (`kube_io::refs`).
const BY_NAME: usize = 32;

/// How each is followed that no watch of many shows.
#[derive(Debug)]
pub(super) struct Sources {
    keys: Watching,
    certificates: Watching,
    pub(super) looks: Looks<SourceKey>,
    /// Secrets that the list of their own watch, which is being read, has not shown yet.
    unseen: HashSet<SourceKey>,
}

/// A watch of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watching {
    #[default]
    Unneeded,
    Needed,
    Running,
}

impl Watching {
    fn needed(&mut self) {
        if *self == Self::Unneeded {
            *self = Self::Needed;
        }
    }

    /// True if it is to be started now.
    fn starts(&mut self) -> bool {
        let starts = *self == Self::Needed;
        if starts {
            *self = Self::Running;
        }
        starts
    }
}

impl Default for Sources {
    fn default() -> Self {
        let (keys, certificates) = (Watching::default(), Watching::default());
        Self { keys, certificates, looks: Looks::new(BY_NAME), unseen: HashSet::new() }
    }
}

impl Engine {
    /// Follows the Secrets that devices name by now, and looks at those whose turn has come.
    pub(super) fn follow_sources(&mut self, now: Now) {
        let SourceChanges { begin, end, unnamed, keys, certificates } = self.fleet.take_source_changes();
        if keys {
            self.sources.keys.needed();
        }
        if certificates {
            self.sources.certificates.needed();
        }
        if self.sources.keys.starts() {
            self.watches.start_sources(SourceList::Labelled, &self.context);
        }
        // All that are declared by then need no look of their own.
        if self.sync.is_complete() && self.sources.certificates.starts() {
            self.fleet.begin_to_list_certificates();
            self.watches.start_sources(SourceList::Certificates, &self.context);
        }
        for key in &end {
            if self.sources.looks.leave(key) {
                self.watches.unwatch_source(key);
                self.sources.unseen.remove(key);
            }
        }
        unnamed.iter().for_each(|key| self.issuance.gone(key));
        unnamed.iter().for_each(|key| self.wake_writers(key));
        let mut begin = Vec::from_iter(begin);
        begin.sort_unstable();
        for key in begin {
            self.sources.looks.join(key.0.index(), &key, now.mono);
        }
        while let Some(turn) = self.sources.looks.turn(now.mono) {
            match turn {
                Turn::Watch(key) => {
                    self.watches.watch_source(self.fleet.names.text(key.0), &key, &self.context);
                }
                Turn::Look(key) => self.start_source_look(&key),
            }
        }
    }

    /// Without an answer it is looked at again when its turn comes.
    pub(super) fn source_read(&mut self, key: &SourceKey, version: Result<u64, ApiError>) {
        match version {
            Ok(0) => self.source_missing(key),
            Ok(version) => self.source_seen(key, version),
            Err(_) => {}
        }
    }

    pub(super) fn source_observed(
        &mut self,
        watch: SourceWatch,
        observed: Observed<PartialObjectMeta<Secret>>,
    ) {
        match watch {
            SourceWatch::Listed(list, watch) => self.listed_observed(list, watch, observed),
            SourceWatch::Named(key) => self.named_observed(&key, observed),
        }
    }

    fn listed_observed(
        &mut self,
        list: SourceList,
        watch: WatchId,
        observed: Observed<PartialObjectMeta<Secret>>,
    ) {
        let only = self.context.config.namespaces().get(watch.0).cloned().flatten();
        // Whether one that is not shown any more is there is found out by looking at it.
        let unlabelled = match observed {
            Observed::Listing(_) => return self.fleet.begin_source_list(list, only.as_deref()),
            Observed::Present(secret) => {
                let Some(key) = self.source_key(&secret) else { return };
                self.fleet.source_listed(list, &key);
                return self.source_shown(&key, &secret);
            }
            Observed::Gone(secret) => {
                let Some(key) = self.source_key(&secret) else { return };
                match list {
                    SourceList::Labelled => self.fleet.source_unlabelled(&key),
                    SourceList::Certificates => {
                        self.source_missing(&key);
                        self.fleet.devices_of_source(&key)
                    }
                }
            }
            Observed::Listed => self.fleet.end_source_list(list, only.as_deref()),
            Observed::Forbidden => self.fleet.forbid_source_list(list, only.as_deref()),
        };
        self.doubt_credential_reads(unlabelled);
    }

    fn named_observed(&mut self, key: &SourceKey, observed: Observed<PartialObjectMeta<Secret>>) {
        match observed {
            Observed::Listing(_) => drop(self.sources.unseen.insert(key.clone())),
            Observed::Present(secret) => {
                self.sources.unseen.remove(key);
                self.source_shown(key, &secret);
            }
            Observed::Listed if self.sources.unseen.remove(key) => self.source_missing(key),
            Observed::Listed => {}
            Observed::Gone(_) => {
                self.source_missing(key);
                self.doubt_credential_reads(self.fleet.devices_of_source(key));
            }
            // Each time that it is refused.
            Observed::Forbidden => self.start_source_look(key),
        }
    }

    fn source_key(&self, secret: &PartialObjectMeta<Secret>) -> Option<SourceKey> {
        let namespace = self.fleet.names.get(&secret.namespace()?)?;
        Some((namespace, secret.name_any().into()))
    }

    fn source_shown(&mut self, key: &SourceKey, secret: &PartialObjectMeta<Secret>) {
        self.source_seen(key, version::of(&secret.metadata));
        if refs::is_generated(&secret.metadata) {
            // A device that names it is told so. The one that it was written for goes on.
            self.source_missing(key);
        }
    }

    /// Devices whose key may be another one by now read it again. One that is gone changes nothing: what was
    /// copied from it serves on.
    fn source_seen(&mut self, key: &SourceKey, version: u64) {
        let devices = self.fleet.source_seen(key, version);
        self.sources_moved(devices);
    }

    /// These devices' credentials may be others by now.
    pub(super) fn sources_moved(&mut self, devices: Vec<DeviceId>) {
        for id in devices {
            self.active.forget_credentials(id);
            self.ready.wake_later(id);
        }
    }

    /// There is none by now, or one that the operator has written.
    fn source_missing(&mut self, key: &SourceKey) {
        self.fleet.source_missing(key);
        // cert-manager may issue it now.
        for id in self.fleet.devices_of_source(key) {
            self.issuance.rouse(party(&self.fleet, id), id);
        }
        self.wake_writers(key);
    }

    /// A Secret with a device's key is never the output for a device: one that is none any more may be.
    fn wake_writers(&mut self, key: &SourceKey) {
        let writers = self.fleet.devices_of_secret(self.fleet.names.text(key.0), &key.1);
        writers.for_each(|id| self.ready.wake_later(id));
    }

    fn doubt_credential_reads(&mut self, devices: Vec<DeviceId>) {
        devices.into_iter().for_each(|id| self.active.doubt_credential_read(id));
    }
}
