//! How old is what watches have shown: for metrics, and for readiness. Set by the watches themselves, so
//! that a loop that stands still hides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One watch.
#[derive(Debug)]
struct WatchState {
    kind: &'static str,
    /// It concerns a part only, whose owner is shown the failure.
    is_part: bool,
    /// When the API server last showed or confirmed what is known; the beginning before that.
    confirmed: Instant,
    stale: bool,
}

#[derive(Debug, Default)]
struct States {
    next: u64,
    watches: BTreeMap<u64, WatchState>,
}

/// All watches that run.
#[derive(Clone, Debug, Default)]
pub struct WatchStates(Arc<Mutex<States>>);

/// What all watches of a kind come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindState {
    /// The longest time since one of them was confirmed.
    pub age: Duration,
    pub stale: usize,
}

impl WatchStates {
    /// A watch begins; it ends with the value that is returned. `is_part`: its failures do not concern
    /// the readiness of the process.
    pub fn begin(&self, kind: &'static str, is_part: bool) -> WatchHandle {
        let mut states = self.lock();
        states.next += 1;
        let id = states.next;
        let state = WatchState { kind, is_part, confirmed: Instant::now(), stale: false };
        states.watches.insert(id, state);
        WatchHandle { states: self.clone(), id }
    }

    pub fn by_kind(&self) -> BTreeMap<&'static str, KindState> {
        let mut kinds = BTreeMap::new();
        for watch in self.lock().watches.values() {
            let none = KindState { age: Duration::ZERO, stale: 0 };
            let kind = kinds.entry(watch.kind).or_insert(none);
            kind.age = kind.age.max(watch.confirmed.elapsed());
            kind.stale += usize::from(watch.stale);
        }
        kinds
    }

    /// Kinds of which something may be out of date that concerns the process.
    pub fn stale(&self) -> Vec<&'static str> {
        let states = self.lock();
        let stale = states.watches.values().filter(|watch| watch.stale && !watch.is_part);
        let mut kinds: Vec<_> = stale.map(|watch| watch.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By which a watch says how it is.
#[derive(Debug)]
pub struct WatchHandle {
    states: WatchStates,
    id: u64,
}

impl WatchHandle {
    /// The API server has shown or confirmed what is known.
    pub fn confirmed(&self, now: Instant) {
        self.set(|watch| watch.confirmed = now);
    }

    pub fn set_stale(&self, is: bool) {
        self.set(|watch| watch.stale = is);
    }

    fn set(&self, change: impl FnOnce(&mut WatchState)) {
        if let Some(watch) = self.states.lock().watches.get_mut(&self.id) {
            change(watch);
        }
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.states.lock().watches.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_as_old_as_its_oldest_watch_and_a_part_concerns_itself_alone() {
        let states = WatchStates::default();
        let [one, other, third] = [(); 3].map(|()| states.begin("secrets", false));
        let part = states.begin("references", true);
        tokio::time::advance(Duration::from_secs(7)).await;
        // The oldest is neither the first nor the last.
        one.confirmed(Instant::now());
        third.confirmed(Instant::now());
        part.set_stale(true);
        assert_eq!(states.by_kind()["secrets"], KindState { age: Duration::from_secs(7), stale: 0 });
        assert_eq!(states.by_kind()["references"].stale, 1);
        assert_eq!(states.stale(), Vec::<&str>::new());
        other.set_stale(true);
        assert_eq!(states.stale(), ["secrets"]);
        drop(other);
        assert_eq!(states.by_kind()["secrets"], KindState { age: Duration::ZERO, stale: 0 });
    }
}
