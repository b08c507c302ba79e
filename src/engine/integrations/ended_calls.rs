//! What DPS's answers mean for an integration: its health changes, and it may use its other credential.

use std::sync::Arc;

use tokio::time::Instant;

use super::change::{Change, PermitChange};
use super::{Integration, Registry};
use crate::api::integration::DpsIntegration;
use crate::controller::integration::health::{Answer, Next, Swap};
use crate::controller::integration::status;
use crate::controller::integration::target::Terms;
use crate::dps::error::DpsError;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;

/// An answer to a call that was made for a device.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct EndedCall<'a> {
    pub device: DeviceId,
    /// Of the target that the call was made for.
    pub revision: u64,
    pub error: Option<&'a DpsError>,
    /// DPS has asked the id scope to wait.
    pub throttled: bool,
    /// The call was paid as a newcomer's.
    pub newcomers: bool,
}

impl Registry {
    /// True if this is the target as it stands: what an earlier credential or route brought says
    /// nothing about the present one.
    pub fn is_present(&self, sym: Sym, revision: u64) -> bool {
        self.integrations.get(&sym).is_some_and(|integration| integration.revision == revision)
    }

    /// Takes in how a call ended, or that DPS has accepted one that goes on.
    pub fn answered(&mut self, sym: Sym, answered: EndedCall<'_>, now: Instant) -> Change {
        let EndedCall { device, revision, error, throttled, newcomers } = answered;
        let present = |integration: &&mut Integration| integration.revision == revision;
        let Some(integration) = self.integrations.get_mut(&sym).filter(present) else {
            return Change::default();
        };
        let Some(target) = integration.usable().map(|usable| usable.target.clone()) else {
            return Change::default();
        };
        let in_use = target.credentials.in_use();
        // A refusal counts against the credential that its own token was made with.
        let issuer = match error {
            Some(DpsError::Unauthorized(refusal)) => refusal.issuer,
            _ => in_use,
        };
        let answer = Answer { device, issuer, error, throttled, newcomers };
        let change = integration.health.answered(&answer, now);
        if change.accepted {
            integration.acceptance.record(&target.instance, in_use);
        }
        if change.report {
            integration.reporting.dirty = true;
            self.reports.wake(sym.index());
        }
        if change.wake_waiting {
            integration.unusable_since = integration.health.trouble().is_some().then_some(now);
        }
        let follows = Change {
            permits: Some(PermitChange::Gate(integration.health.gate())),
            wake_waiting: change.wake_waiting,
            ask_another: change.next == Next::AskAnother,
            ..Change::default()
        };
        match change.next {
            Next::Nothing | Next::AskAnother => follows,
            Next::TryOther => self.fall_back(sym, follows),
        }
    }

    /// DPS refuses the credential in use: the other one may be the one that works.
    fn fall_back(&mut self, sym: Sym, follows: Change) -> Change {
        let Some(integration) = self.integrations.get_mut(&sym) else { return follows };
        let Some(usable) = integration.usable().cloned() else { return follows };
        let Some(credentials) = usable.target.credentials.swapped() else { return follows };
        // DPS has accepted the other one before, or has to show that it does.
        let route = &usable.target.instance;
        let recorded = |object: &Arc<DpsIntegration>| status::was_accepted(object, &credentials);
        let accepted = integration.acceptance.holds(route, credentials.in_use())
            || integration.object.as_ref().is_some_and(recorded);
        let Some(swap) = integration.health.fall_back(credentials.in_use(), accepted) else { return follows };
        if swap == Swap::ToOther && accepted {
            integration.unusable_since = None;
        }
        integration.reporting.dirty = true;
        let gate = integration.health.gate();
        let terms = Terms { credentials, ..usable.target.terms.clone() };
        self.use_target(sym, terms, false, usable.connection);
        let permits = match swap {
            Swap::ToOther => PermitChange::Gate(gate),
            Swap::Back => PermitChange::Gate(gate),
        };
        Change { permits: Some(permits), wake_devices: true, ..follows }
    }
}
