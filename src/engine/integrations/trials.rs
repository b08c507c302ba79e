//! Which credential a call is made with, and which devices try it first.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Integration, Registry};
use crate::controller::device::act::UsableIntegration;
use crate::controller::integration::health::Canary;
use crate::controller::integration::issuers::{Place, Whose};
use crate::controller::integration::target::{Target, Terms};
use crate::dps::attestation::certificate::{CaId, CertificateFacts};
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

    /// A user asks for a device of the integration, in this namespace; the gate, if that opens it.
    pub fn try_now(&mut self, sym: Sym, namespace: Sym, now: Instant) -> Option<Gate> {
        let Integration { health, issuers, .. } = self.integrations.get_mut(&sym)?;
        issuers.try_now(namespace, now);
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
        let Integration { health, issuers, .. } = self.integrations.get(&sym)?;
        health.retry_at(uid, now).or_else(|| issuers.retry_at(uid, now))
    }

    /// A device has a certificate that another CA has issued than the one that it is registered with.
    pub fn ca_met(&mut self, sym: Sym, facts: &CertificateFacts, device: (Whose, Canary), now: Instant) {
        if let (Some(integration), Some(ca)) = (self.integrations.get_mut(&sym), facts.ca) {
            let (whose, canary) = device;
            integration.issuers.met(ca, &facts.issuer, whose, canary, now);
        }
    }

    /// Whether a device of this namespace may try its certificate.
    pub fn ca_place(&self, sym: Sym, ca: CaId, device: (Whose, Uid), now: Instant) -> Place<'_> {
        let issuers = self.integrations.get(&sym).map(|integration| &integration.issuers);
        issuers.map_or(Place::Open, |issuers| issuers.place(ca, device.0, device.1, now))
    }

    /// It does.
    pub fn ca_tried(&mut self, sym: Sym, ca: CaId, device: (Whose, Uid), now: Instant) {
        if let Some(integration) = self.integrations.get_mut(&sym) {
            integration.issuers.begun(ca, device.0, device.1, now);
        }
    }

    /// DPS has issued a certificate of this CA to a device: the status names it.
    pub fn ca_issues(&mut self, sym: Sym, facts: &CertificateFacts) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        if facts.ca.is_some_and(|ca| integration.issuers.issues(ca, &facts.issuer)) {
            integration.reporting.dirty = true;
            self.reports.wake(sym.index());
        }
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
