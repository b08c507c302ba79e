//! Which scopes are worth a look, and when. A scope in which nothing has changed since the last look
//! found nothing is not looked at before its time, so that the others cost nothing, however many they are.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::ScopeKey;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Something has changed there, or its time has come.
    open: BTreeSet<ScopeKey>,
    /// By when they are worth a look if nothing changes,
    later: BTreeSet<(Instant, ScopeKey)>,
    /// and the other way round.
    times: BTreeMap<ScopeKey, Instant>,
    /// Something there waits until a call ends, in any scope.
    blocked: BTreeSet<ScopeKey>,
    /// DPS has throttled them, and that is not forgotten yet.
    slowed: BTreeSet<ScopeKey>,
}

impl Agenda {
    /// Something has changed in a scope.
    pub fn changed(&mut self, key: ScopeKey) {
        if let Some(at) = self.times.remove(&key) {
            self.later.remove(&(at, key));
        }
        self.open.insert(key);
    }

    /// A call has ended: others may begin.
    pub fn call_ended(&mut self) {
        while let Some(key) = self.blocked.pop_first() {
            self.changed(key);
        }
    }

    /// DPS has throttled a scope: it is looked at each time until that is forgotten, because its rate
    /// grows meanwhile.
    pub fn slowed(&mut self, key: ScopeKey) {
        self.slowed.insert(key);
        self.changed(key);
    }

    pub fn are_slowed(&self) -> &BTreeSet<ScopeKey> {
        &self.slowed
    }

    /// Opens those whose time has come, and those that are slowed and stay so.
    pub fn advance(&mut self, now: Instant, stays_slowed: impl Fn(ScopeKey) -> bool) {
        while let Some((_, key)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.changed(key);
        }
        self.slowed.retain(|key| stays_slowed(*key));
        for key in self.slowed.clone() {
            self.changed(key);
        }
    }

    /// The open scope whose turn it is after that of another one.
    pub fn next_after(&self, turn: ScopeKey) -> Option<ScopeKey> {
        let later = turn.checked_add(1).and_then(|next| self.open.range(next..).next());
        later.or_else(|| self.open.first()).copied()
    }

    /// A look at a scope has found nothing: when it is worth another look, and whether the end of any call is.
    pub fn looked_at(&mut self, key: ScopeKey, at: Option<Instant>, blocked: bool) {
        self.forget(key);
        if let Some(at) = at {
            self.later.insert((at, key));
            self.times.insert(key, at);
        }
        if blocked {
            self.blocked.insert(key);
        }
    }

    fn forget(&mut self, key: ScopeKey) {
        self.changed(key);
        self.open.remove(&key);
        self.blocked.remove(&key);
    }

    /// Forgets all but these.
    pub fn keep(&mut self, is_kept: impl Fn(ScopeKey) -> bool) {
        for key in self.open.iter().chain(self.times.keys()).chain(&self.blocked).copied().collect::<Vec<_>>()
        {
            if !is_kept(key) {
                self.forget(key);
            }
        }
        self.slowed.retain(|key| is_kept(*key));
    }

    pub fn open(&self) -> impl Iterator<Item = ScopeKey> {
        self.open.iter().copied()
    }

    /// When the first of the others is worth a look.
    pub fn next_at(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }
}
