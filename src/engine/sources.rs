//! Secrets that devices' own keys are read from, and how a change of one is noticed: by one watch for all that
//! have our label, by a watch of its own for a few others, and by a look at each of the rest in turn.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use tokio::time::Instant;

use super::Engine;
use super::observe::sync::WatchId;
use crate::api::version;
use crate::clock::Now;
use crate::fleet::{SourceChanges, SourceKey};
use crate::kube_io::error::ApiError;
use crate::kube_io::watch::Observed;

/// Secrets that are watched by their name: each is a stream, of which there are few (`kube_io::refs`).
const BY_NAME: usize = 32;
/// Between two looks at one Secret that is not watched,
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// and between two looks at any: ten a second.
const LOOK_PACE: Duration = Duration::from_millis(100);

/// A Secret that is looked at in turn.
#[derive(Debug)]
struct Turn {
    key: SourceKey,
    due: Instant,
}

/// How each is followed that has not our label.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The watch by label runs.
    watched: bool,
    by_name: HashSet<SourceKey>,
    turns: VecDeque<Turn>,
    next_look: Option<Instant>,
}

impl Sources {
    /// When the next Secret is to be looked at.
    pub fn next(&self) -> Option<Instant> {
        let due = self.turns.front()?.due;
        Some(self.next_look.map_or(due, |next| next.max(due)))
    }

    /// A Secret is named by a device for the first time. True if it is to be watched by its name.
    fn begin(&mut self, key: &SourceKey, now: Instant) -> bool {
        if self.by_name.len() < BY_NAME {
            return self.by_name.insert(key.clone());
        }
        self.turns.push_back(Turn { key: key.clone(), due: now + LOOK_EVERY });
        false
    }

    /// The next one whose turn has come. It has another one later.
    fn take_turn(&mut self, now: Instant) -> Option<SourceKey> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        self.next_look = Some(now + LOOK_PACE);
        Some(self.turns.pop_front()?.key)
    }

    fn later(&mut self, key: SourceKey, now: Instant) {
        self.turns.push_back(Turn { key, due: now + LOOK_EVERY });
    }
}

impl Engine {
    /// Follows the Secrets that devices name by now, and looks at those whose turn has come.
    pub(super) fn follow_sources(&mut self, now: Now) {
        let SourceChanges { begin, end } = self.fleet.take_source_changes();
        if !begin.is_empty() && !std::mem::replace(&mut self.sources.watched, true) {
            self.watches.start_sources(&self.context);
        }
        // A Secret with a device's key is never the output for a device.
        for key in begin.iter().chain(&end) {
            let writers = self.fleet.devices_of_secret(self.fleet.names.text(key.0), &key.1);
            writers.for_each(|id| self.ready.wake_later(id));
        }
        for key in begin {
            if self.sources.begin(&key, now.mono) {
                self.watches.watch_source(self.fleet.names.text(key.0), &key, &self.context);
            }
        }
        for key in &end {
            self.sources.by_name.remove(key);
            self.watches.unwatch_source(key);
        }
        while let Some(key) = self.sources.take_turn(now.mono) {
            // One that is named no longer has no further turn; one with our label needs none now.
            if !self.fleet.is_source(&key) {
                continue;
            }
            if !self.fleet.is_source_labelled(&key) {
                self.start_source_look(&key);
            }
            self.sources.later(key, now.mono);
        }
    }

    /// Without an answer it is looked at again when its turn comes.
    pub(super) fn source_read(&mut self, key: &SourceKey, version: Result<u64, ApiError>) {
        if let Ok(version) = version {
            self.source_seen(key, version);
        }
    }

    /// `watch`: by label; `None`: by name.
    pub(super) fn source_observed(
        &mut self,
        watch: Option<WatchId>,
        observed: Observed<PartialObjectMeta<Secret>>,
    ) {
        let only = watch.and_then(|watch| self.context.config.namespaces().get(watch.0).cloned().flatten());
        match observed {
            Observed::Listing(_) if watch.is_some() => self.fleet.begin_source_list(only.as_deref()),
            Observed::Listed if watch.is_some() => self.fleet.end_source_list(only.as_deref()),
            // That a list does not show it, or that it may not be read, is found out by reading it.
            Observed::Listing(_) | Observed::Listed | Observed::Forbidden => {}
            Observed::Present(secret) => {
                let Some(key) = self.source_key(&secret) else { return };
                if watch.is_some() {
                    self.fleet.source_labelled(&key, true);
                }
                self.source_seen(&key, version::of(&secret.metadata));
            }
            Observed::Gone(secret) => {
                let Some(key) = self.source_key(&secret) else { return };
                if watch.is_some() {
                    self.fleet.source_labelled(&key, false);
                }
            }
        }
    }

    fn source_key(&self, secret: &PartialObjectMeta<Secret>) -> Option<SourceKey> {
        let namespace = self.fleet.names.get(&secret.namespace()?)?;
        Some((namespace, secret.name_any().into()))
    }

    /// Devices whose key may be another one by now read it again. One that is gone changes nothing: what was
    /// copied from it serves on.
    fn source_seen(&mut self, key: &SourceKey, version: u64) {
        for id in self.fleet.source_seen(key, version) {
            self.active.forget_credentials(id);
            self.ready.wake_later(id);
        }
    }
}
