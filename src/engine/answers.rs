//! What DPS's answers teach about an integration: whether its key is accepted, whether its instance
//! is there, which of two keys works.

use std::sync::Arc;

use super::Engine;
use super::checks::Check;
use super::integrations::Integration;
use crate::api::conditions::Reason;
use crate::clock;
use crate::controller::device::failure;
use crate::controller::integration::decide::Unusable;
use crate::controller::integration::status;
use crate::dps::error::DpsError;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::fleet::record::Record;
use crate::schedule::permits::{Narrow, Outcome, Permit};

/// Refusals in a row before a key that worked is called wrong: one could concern one device only.
pub(super) const REFUSALS_THAT_COUNT: u32 = 3;

impl Engine {
    /// DPS has accepted the key of a registration that goes on.
    pub(super) fn key_accepted(&mut self, id: DeviceId, permit: Permit, epoch: u64) {
        let Some(sym) = self.fleet.get(id).map(|record| record.integration) else { return };
        let holds = self.holds(id, permit);
        let Some(integration) =
            self.integrations.get_mut(&sym).filter(|integration| integration.epoch == epoch)
        else {
            return;
        };
        if sym.index() == permit.tenant && holds {
            self.queue.accepted(permit, clock::now().mono);
            if integration.learn(None, None, false) {
                self.wake_waiting(sym);
            }
        }
    }

    /// New devices begin or cease to wait for the integration.
    fn wake_waiting(&mut self, sym: Sym) {
        for id in self.queue.waiters(sym.index()) {
            self.tell_at.remove(&id);
            self.runner.wake(id);
        }
    }

    /// Takes in how a registration ended: for the queue, and for what the integration says. What an
    /// earlier key or route brought says nothing about the present one.
    pub(super) fn dps_answered(
        &mut self,
        id: DeviceId,
        permit: Permit,
        epoch: u64,
        error: Option<&DpsError>,
    ) {
        let now = clock::now().mono;
        let sym =
            self.fleet.get(id).map(|record| record.integration).filter(|sym| sym.index() == permit.tenant);
        let integration = sym.and_then(|sym| Some((sym, self.integrations.get_mut(&sym)?)));
        let Some((sym, integration)) = integration.filter(|(_, integration)| integration.epoch == epoch)
        else {
            self.queue.finished(permit, Outcome::Unknown, now);
            return;
        };
        self.queue.finished(permit, outcome(error), now);
        let paused = self.queue.paused_until(permit.tenant).is_some_and(|until| until > now);
        let narrow = self.queue.narrow(permit.tenant);
        if integration.learn(error, narrow, paused) {
            self.wake_waiting(sym);
        }
        if !matches!(error, Some(DpsError::Unauthorized(_))) {
            return;
        }
        match narrow {
            Some(Narrow::Refused(times)) if times >= REFUSALS_THAT_COUNT => self.fall_back(sym),
            Some(Narrow::Refused(_)) => self.ask_another(sym),
            _ => {}
        }
    }

    /// A device was refused with a key that works for others: one of those is asked, so that a few
    /// devices that DPS refuses for themselves do not condemn the key of a fleet.
    fn ask_another(&mut self, sym: Sym) {
        let accepted = self.integrations.get(&sym).filter(|integration| integration.accepted);
        let Some(active) = accepted.and_then(|i| i.ready()).map(|ready| ready.active.fingerprint) else {
            return;
        };
        let works = |record: &Record| record.settled.is_some() && record.fingerprint == Some(active);
        let other = self.fleet.iter().find(|(id, record)| {
            record.integration == sym && works(record) && !record.deleting && !self.checks.contains_key(id)
        });
        if let Some((id, _)) = other {
            self.checks.insert(id, Check::Lookup);
            self.runner.wake(id);
        }
    }

    /// DPS refuses the key in the slot that was asked for: the other slot's may be the one that works.
    fn fall_back(&mut self, sym: Sym) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        let Some(ready) = integration.shared().filter(|ready| ready.other.is_some()) else { return };
        if integration.tried_other {
            // Both are refused: it is the one that was asked for that has to be mended.
            if !std::mem::take(&mut integration.fallen_back) {
                return;
            }
        } else {
            (integration.tried_other, integration.fallen_back) = (true, true);
        }
        let mut swapped = (*ready).clone();
        swapped.swap_keys();
        self.epochs += 1;
        (swapped.epoch, integration.epoch, swapped.as_recorded) = (self.epochs, self.epochs, false);
        // DPS has taken the other key before, or has to show that it does.
        let object = integration.object.as_ref().filter(|_| integration.fallen_back);
        let known = object.is_some_and(|object| status::was_accepted(object, &swapped.active));
        (integration.accepted, integration.dirty) = (known, true);
        if known {
            (integration.trouble, integration.unusable_since) = (None, None);
        }
        let scope = swapped.scope.clone();
        integration.outcome = Some(Ok(Arc::new(swapped)));
        // Back at the slot that was asked for, its refusals still count.
        if integration.fallen_back {
            self.queue.admit(sym.index(), scope, known, clock::now().mono);
        }
        self.wake_devices(sym);
    }
}

impl Integration {
    /// Takes in what DPS answered; `None` is success. True if trouble began or ended.
    fn learn(&mut self, error: Option<&DpsError>, narrow: Option<Narrow>, paused: bool) -> bool {
        let (was, had_trouble) = (self.spoken_of(), self.trouble.is_some());
        match error {
            None | Some(DpsError::Disabled(_) | DpsError::AllocationFailed(_)) => {
                self.accepted = true;
                // Calls that were in flight when DPS began to throttle do not end its pause.
                let throttled = |(_, trouble): &(_, Unusable)| trouble.reason == Reason::Throttled;
                self.trouble = self.trouble.take().filter(|trouble| paused && throttled(trouble));
            }
            Some(error) => self.note_trouble(error, narrow),
        }
        self.dirty |= was != self.spoken_of();
        let changed = had_trouble != self.trouble.is_some();
        if changed {
            self.unusable_since = self.trouble.is_some().then(|| clock::now().mono);
        }
        changed
    }

    /// What DPS's answers may change about the status.
    fn spoken_of(&self) -> (bool, Option<Reason>) {
        (self.accepted, self.trouble.as_ref().map(|(_, trouble)| trouble.reason))
    }

    /// The first failure of its kind is kept, so that repeating it writes nothing.
    fn note_trouble(&mut self, error: &DpsError, narrow: Option<Narrow>) {
        let reason = match (error, narrow) {
            (DpsError::Unauthorized(_), Some(Narrow::Refused(times)))
                if !self.accepted || times >= REFUSALS_THAT_COUNT =>
            {
                self.accepted = false;
                Reason::Unauthorized
            }
            (DpsError::Throttled { .. }, _) => Reason::Throttled,
            (_, Some(Narrow::Down(_))) => Reason::EndpointUnreachable,
            // Whatever it said, DPS answered.
            (_, _) => {
                let unreachable =
                    |(_, trouble): &(_, Unusable)| trouble.reason == Reason::EndpointUnreachable;
                self.trouble = self.trouble.take().filter(|trouble| !unreachable(trouble));
                return;
            }
        };
        let detail = error.detail();
        let code = detail.and_then(|detail| detail.code);
        if self
            .trouble
            .as_ref()
            .is_some_and(|(had, trouble)| trouble.reason == reason && (*had == code || had.is_none()))
        {
            return;
        }
        let tracking = detail.and_then(|detail| detail.tracking_id.as_deref());
        let tracking =
            tracking.map(|id| format!(" Tracking id of the first refusal: {id}.")).unwrap_or_default();
        self.trouble = Some((code, Unusable::new(reason, format!("{}{tracking}", failure::message(error)))));
    }
}

/// What a result means for the queue. Whatever DPS says about the enrollment or the hubs, it
/// accepted the key before it said so.
fn outcome(error: Option<&DpsError>) -> Outcome {
    match error {
        None | Some(DpsError::Disabled(_) | DpsError::AllocationFailed(_)) => Outcome::Accepted,
        Some(DpsError::Unauthorized(_)) => Outcome::Refused,
        Some(DpsError::Unreachable(_)) => Outcome::Unreachable,
        Some(DpsError::Server { .. }) => Outcome::ServerError,
        Some(DpsError::Throttled { retry_after, .. }) => Outcome::Throttled { retry_after: *retry_after },
        Some(
            DpsError::Conflict(_)
            | DpsError::Deadline
            | DpsError::NotFound(_)
            | DpsError::Rejected(_)
            | DpsError::ClockOff
            | DpsError::InvalidResponse(_),
        ) => Outcome::Answered,
    }
}
