//! Which credential a call is made with, and which devices try it first.

use std::sync::Arc;

use tokio::time::Instant;

use super::Registry;
use crate::controller::device::act::UsableIntegration;
use crate::controller::integration::health::Canary;
use crate::controller::integration::target::{Target, Terms};
use crate::fleet::intern::Sym;
use crate::fleet::uid::Uid;
use crate::schedule::permits::Gate;

impl Registry {
    /// The integration as a call that begins now has to use it: with the credential that is in use, or
    /// the one that is tried. `looks_up`: the call moves nothing.
    pub fn for_call(&mut self, sym: Sym, looks_up: bool, now: Instant) -> Option<UsableIntegration> {
        let integration = self.integrations.get_mut(&sym)?;
        let usable = integration.usable()?.clone();
        let Some(issuer) = integration.health.credential(looks_up, now) else { return Some(usable) };
        integration.health.begun(issuer, now);
        let tried = usable.target.credentials.swapped().filter(|swapped| swapped.in_use() == issuer);
        let Some(credentials) = tried else { return Some(usable) };
        let Target { terms, revision, as_recorded } = &*usable.target;
        let terms = Terms { credentials, ..terms.clone() };
        let target = Target { terms, revision: *revision, as_recorded: *as_recorded };
        Some(UsableIntegration { target: Arc::new(target), ..usable })
    }

    /// The status has recorded until when DPS asked to wait: the gate that follows.
    pub fn recall_pause(&mut self, sym: Sym, until: Instant) -> Option<Gate> {
        let health = &mut self.integrations.get_mut(&sym)?.health;
        health.recall_pause(until);
        Some(health.gate())
    }

    /// A user asks for a device of the integration; the gate, if that opens it.
    pub fn try_now(&mut self, sym: Sym, now: Instant) -> Option<Gate> {
        let health = &mut self.integrations.get_mut(&sym)?.health;
        health.try_now(now).then(|| health.gate())
    }

    /// The devices that were refused while all others wait.
    pub fn canaries(&self, sym: Sym) -> &[Canary] {
        self.integrations.get(&sym).map_or(&[], |integration| integration.health.canaries())
    }

    /// True if the credential in use was refused for this device since it was last accepted.
    pub fn has_refused(&self, sym: Sym, uid: Uid) -> bool {
        self.integrations.get(&sym).is_some_and(|integration| integration.health.has_refused(uid))
    }

    /// When a device that was refused should try again; `None` for others.
    pub fn retry_at(&self, sym: Sym, uid: Uid, now: Instant) -> Option<Instant> {
        self.integrations.get(&sym)?.health.retry_at(uid, now)
    }

    /// True if a lookup would show whether DPS accepts a credential.
    pub fn asks(&self, sym: Sym, now: Instant) -> bool {
        self.integrations.get(&sym).is_some_and(|integration| integration.health.asks(now))
    }

    /// Integrations in which nothing goes on before a lookup has shown that.
    pub fn stuck(&self, now: Instant) -> Vec<Sym> {
        let stuck = self.integrations.iter().filter(|(_, i)| i.usable().is_some() && i.health.is_stuck(now));
        stuck.map(|(sym, _)| *sym).collect()
    }
}
