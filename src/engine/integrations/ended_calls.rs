//! What DPS's answers mean for an integration: its health changes, and it may use its other credential.

use tokio::time::Instant;

use super::change::{Change, PermitChange};
use super::{Integration, Registry};
use crate::controller::integration::health::{Answer, Canary, Next};
use crate::controller::integration::issuers::{Follows, Shown, Whose};
use crate::controller::integration::target::Terms;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::certificate::CaId;
use crate::dps::error::DpsError;
use crate::fleet::intern::Sym;

/// An answer to a call that was made for a device.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct EndedCall<'a> {
    pub device: Canary,
    /// Of the target that the call was made for.
    pub revision: u64,
    /// Of the credential that it was made with.
    pub issuer: CredentialId,
    /// The CA of the certificate that it was made with, and whose device it is.
    pub ca: Option<(CaId, Whose)>,
    pub error: Option<&'a DpsError>,
    /// DPS has asked the id scope to wait.
    pub throttled: bool,
    /// The call was paid as a newcomer's.
    pub newcomers: bool,
}

impl Integration {
    /// Trouble has begun or ended, or the target is another one: since when new devices have to wait.
    pub(super) fn note_holding_up(&mut self, now: Instant) {
        let since = self.unusable_since.unwrap_or(now);
        self.unusable_since = self.holds_up().then_some(since);
    }
}

impl Registry {
    /// True if this is the target as it stands: what an earlier credential or route brought says
    /// nothing about the present one.
    pub fn is_present(&self, sym: Sym, revision: u64) -> bool {
        self.integrations.get(&sym).is_some_and(|integration| integration.revision == revision)
    }

    /// Takes in how a call ended, or that DPS has accepted one that goes on.
    pub fn answered(&mut self, sym: Sym, answered: EndedCall<'_>, now: Instant) -> Change {
        let EndedCall { device, revision, issuer, ca, error, throttled, newcomers } = answered;
        let present = |integration: &&mut Integration| integration.revision == revision;
        let Some(integration) = self.integrations.get_mut(&sym).filter(present) else {
            return Change::default();
        };
        let Some(target) = integration.usable().map(|usable| usable.target.clone()) else {
            return Change::default();
        };
        // A refusal counts against the credential that its own token was made with.
        let issuer = match error {
            Some(DpsError::Unauthorized(refusal)) => refusal.issuer,
            _ => issuer,
        };
        let shared = issuer.kind().is_shared();
        // Which of the devices' own credentials it was does not matter to the others.
        let issuer = if shared { issuer } else { CredentialId::OF_EACH_DEVICE };
        let answer = Answer { device, issuer, error, throttled, newcomers };
        let counted = (integration.accepted_scope().is_some(), integration.is_proven());
        let change = integration.health.answered(&answer, now);
        if change.accepted && (shared || issuer == target.credentials.in_use()) {
            integration.acceptance.record(&target.instance, issuer);
        }
        let of_ca =
            ca.map(|(ca, whose)| integration.issuers.answered(ca, whose, device, Shown::of(error), now));
        let Follows { all, wake, report } = of_ca.unwrap_or_default();
        let claims = (integration.accepted_scope().is_some(), integration.is_proven()) != counted;
        // A longer pause is worth a write, too: the next leader reads it there.
        if change.report || report || matches!(error, Some(DpsError::Throttled { .. })) {
            integration.reporting.dirty = true;
            self.reports.wake(sym.index());
        }
        if change.wake_waiting {
            integration.note_holding_up(now);
        }
        let swaps = matches!(change.next, Next::UseOther | Next::UseAskedFor);
        let follows = Change {
            permits: Some(PermitChange::Gate(integration.health.gate())),
            wake_waiting: change.wake_waiting,
            ca_accepted: all,
            try_next: wake,
            claims,
            ask_another: change.next == Next::AskAnother,
            retry: change.next == Next::Retry || swaps,
            ..Change::default()
        };
        if swaps { self.swap(sym, follows, now) } else { follows }
    }

    /// The credential that was not in use is from now on.
    fn swap(&mut self, sym: Sym, follows: Change, now: Instant) -> Change {
        let Some(integration) = self.integrations.get_mut(&sym) else { return follows };
        let Some(usable) = integration.usable().cloned() else { return follows };
        let Some(credentials) = usable.target.credentials.swapped() else { return follows };
        integration.reporting.dirty = true;
        let terms = Terms { credentials, ..usable.target.terms.clone() };
        self.use_target(sym, terms, false, usable.connection);
        self.counters.hurry(now);
        Change { wake_devices: true, ..follows }
    }
}
