//! What is kept of scopes and integrations: as long as a new one would not be the same.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::scope::Scope;
use super::{KEPT, Permits, ScopeKey, Tenant};
use crate::dps::ids::IdScope;

impl Permits {
    /// What stands for a scope.
    pub(super) fn scope_key(&mut self, scope: &IdScope, now: Instant) -> ScopeKey {
        *self.scope_keys.entry(scope.as_str().to_ascii_lowercase()).or_insert_with(|| {
            self.next_scope += 1;
            self.scopes.insert(self.next_scope, Scope::new(self.per_minute, now));
            self.next_scope
        })
    }

    /// Forgets scopes and integrations that a new one would be the same as: what is declared and taken
    /// back again is not kept for ever, and what was used of a budget is.
    pub(super) fn tidy(&mut self, now: Instant) {
        if self.scopes.len() + self.members.len() < self.tidy_at {
            return;
        }
        self.members.retain(|_, member| !member.is_forgettable(now));
        let used: BTreeSet<ScopeKey> = self.members.values().map(|member| member.scope).collect();
        self.scopes.retain(|key, scope| used.contains(key) || !scope.is_untouched(now));
        self.scope_keys.retain(|_, key| self.scopes.contains_key(key));
        self.agenda.keep(|key| self.scopes.contains_key(&key));
        self.tidy_at = KEPT.max(2 * (self.scopes.len() + self.members.len()));
    }

    /// Integrations of which something is remembered.
    pub fn tenants(&self) -> impl Iterator<Item = Tenant> {
        self.members.keys().copied()
    }
}
