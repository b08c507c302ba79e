//! How watches stand, as they say themselves when metrics are asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntGaugeVec};

use super::Maker;
use crate::telemetry::watches::WatchStates;

/// Watches by kind.
#[derive(Debug)]
pub(super) struct WatchMetrics {
    /// Kinds of which everything has been read, and which the API server lets us watch.
    read: Mutex<BTreeMap<&'static str, bool>>,
    synced: IntGaugeVec,
    age: GaugeVec,
    stale: IntGaugeVec,
}

impl WatchMetrics {
    pub fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            read: Mutex::default(),
            synced: make.gauges(
                "watch_synced",
                "1 once everything of this kind has been read and while its watches do not fail.",
                &["kind"],
            )?,
            age: make.floats(
                "watch_last_event_seconds",
                "Time since the API server last showed or confirmed what is known of this kind; of the watch \
                 for which it is longest.",
                &["kind"],
            )?,
            stale: make.gauges(
                "watches_stale",
                "Watches of this kind that fail, so that what is known may be out of date.",
                &["kind"],
            )?,
        })
    }

    pub fn set_read(&self, kind: &'static str, is: bool) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, is);
    }

    pub fn refresh(&self, states: &WatchStates) {
        let kinds = states.by_kind();
        // A kind that is no longer watched is not shown.
        self.age.reset();
        self.stale.reset();
        for (kind, state) in &kinds {
            self.age.with_label_values(&[*kind]).set(state.age.as_secs_f64());
            self.stale.with_label_values(&[*kind]).set(i64::try_from(state.stale).unwrap_or(i64::MAX));
        }
        for (kind, read) in &*self.read.lock().unwrap_or_else(PoisonError::into_inner) {
            let synced = *read && kinds.get(kind).is_none_or(|state| state.stale == 0);
            self.synced.with_label_values(&[*kind]).set(i64::from(synced));
        }
    }
}
