//! One device: gathered from memory, decided upon, and at most one effect started. What the effect
//! brings is taken in as facts, and the device is reconciled once more.

mod credentials;
mod dps_answers;
mod drift;
mod gather;
pub(super) mod outcome;
mod outcomes;
mod permits;
mod start;
mod waiting;
mod writes;

use super::devices::{Freshness, HeldPermit};
use super::endings::Standing;
use super::{Engine, party};
use crate::api::conditions::Reason;
use crate::clock::Now;
use crate::controller::device::decide::{Call, Decision, IntegrationState, Step, decide};
use crate::controller::device::facts::Trigger;
use crate::fleet::record::Need;
use crate::fleet::{DeviceId, revive};
use crate::schedule::permits::{Lane, Permit};

/// What the index and the work in memory show of a device before anything is decided.
enum Outlook {
    Gone,
    /// An effect is in flight; its end reconciles the device.
    Busy,
    Settled,
    DriftCheck,
    /// Its object is not in memory.
    TakeUp(Need),
    /// Our copy of its object is out of date.
    Fetch,
    Decide,
}

impl Outlook {
    fn needs_more_than_a_check(&self) -> bool {
        match self {
            Self::Gone | Self::Busy | Self::Settled | Self::DriftCheck => false,
            Self::TakeUp(_) | Self::Fetch | Self::Decide => true,
        }
    }
}

impl Engine {
    pub(super) fn reconcile(&mut self, id: DeviceId, now: Now) {
        self.see_to_certificate(id, now);
        let outlook = self.outlook(id, now);
        if outlook.needs_more_than_a_check() && self.active.is_checking(id) {
            // What is looked up now answers a question of before.
            let held = self.active.release(id);
            self.leave_line(id, held, now);
        }
        match outlook {
            Outlook::Gone | Outlook::Busy => {}
            Outlook::Settled => self.settle(id, now),
            Outlook::DriftCheck if self.waits_for_namespace(id) => {}
            Outlook::DriftCheck => {
                if !self.start_drift_check(id, now) {
                    self.active.set_due(id, None);
                    self.settle(id, now);
                }
            }
            Outlook::TakeUp(need) => self.take_up(id, need, now),
            Outlook::Fetch => self.start_device_read(id),
            Outlook::Decide => self.decide_and_start(id, now),
        }
        self.return_unused(id);
        self.active.tidy(id);
    }

    /// A permit has come: it is used at once, or given back.
    pub(super) fn granted(&mut self, permit: Permit, now: Now) {
        let id = permit.waiter;
        let expected = self.fleet.get(id).is_some_and(|record| record.integration.index() == permit.tenant);
        if !expected || self.active.permit(id).is_some() {
            self.permits.unused(permit);
            return;
        }
        self.context.telemetry.metrics.count_grant(permit.lane().as_str(), permit.waited());
        self.active.left_line(id);
        self.active.hold(id, HeldPermit { permit, used: false });
        self.reconcile(id, now);
    }

    /// Reads: what is in memory.
    fn outlook(&mut self, id: DeviceId, now: Now) -> Outlook {
        let Some(record) = self.fleet.get(id) else { return Outlook::Gone };
        if record.deleting || self.endings.standing(record.namespace) == Standing::Ends {
            return Outlook::Settled;
        }
        let need = self.need(id, record);
        if need == Need::Nothing {
            return match self.active.due_work(id) {
                Some(_) if self.active.is_checking(id) => Outlook::Busy,
                // Its credentials have to be read first, and only its object says where they are.
                Some(_) if record.has_own_credential() => Outlook::TakeUp(Need::Fetch),
                Some(_) => Outlook::DriftCheck,
                None => Outlook::Settled,
            };
        }
        self.active.wake(id, now);
        let Some(work) = self.active.work(id) else { return Outlook::TakeUp(need) };
        if work.task.is_some() {
            return Outlook::Busy;
        }
        match work.freshness {
            Freshness::Stale => Outlook::Fetch,
            Freshness::Current | Freshness::Revived => Outlook::Decide,
        }
    }

    /// Gathers and decides, from memory alone; then starts.
    fn decide_and_start(&mut self, id: DeviceId, now: Now) {
        self.active.answer_taken(id);
        self.active.absorb_due(id);
        self.fit_credentials(id);
        self.come_to_ca(id, now);
        self.drop_outdated_registration(id);
        self.take_superseded(id);
        self.take_displaced(id);
        let Some(snapshot) = self.gather(id, now) else { return };
        let decision = decide(&snapshot);
        self.carry_out(id, decision, now);
    }

    /// Acts: a status that differs is written first; otherwise the step is begun.
    fn carry_out(&mut self, id: DeviceId, decision: Decision, now: Now) {
        let Decision { step, verdict, wake } = decision;
        if let Some(wake) = wake {
            self.ready.sleep_until(id, wake);
        }
        if let Some(verdict) = verdict {
            // Where a namespace is deleted every Secret is gone, which is no news.
            if verdict.reason == Reason::CredentialUnavailable && self.may_be_ending(id) {
                return self.active.sleep_in_a_crowd(id, now);
            }
            if self.start_status_write(id, &verdict, now) {
                return;
            }
        }
        match step {
            Step::Nothing => self.rest(id, now),
            // What comes of it would be written over what somebody else keeps writing.
            _ if self.waits_for_other_writer(id, now) => {}
            Step::Call(call, lane) => self.call_or_queue(id, call, lane, now),
            Step::ReadCredential => self.start_credential_read(id),
            Step::ReadSecret => self.start_secret_read(id),
            Step::WriteSecret if self.waits_for_look(id, now) => {}
            Step::WriteSecret => self.start_secret_write(id),
        }
    }

    /// Nothing to do now: either it is settled, or something will wake it.
    fn rest(&mut self, id: DeviceId, now: Now) {
        let (waits, may_pass) = match self.integration_of(id) {
            IntegrationState::Keyless(_, why, _) => (why.passes, why.passes),
            state => (state.target().is_none(), false),
        };
        if let Some(work) = self.active.work_mut(id) {
            // A check that was not made now is due again in an interval.
            work.facts.trigger = work.facts.trigger.filter(|trigger| *trigger != Trigger::DriftCheck);
            work.unreported &= may_pass;
            work.unreported |= work.facts.trigger.is_some() || work.facts.failure.is_some();
        }
        let Some(record) = self.fleet.get(id) else { return };
        if self.need(id, record) == Need::Nothing {
            return self.settle(id, now);
        }
        if waits || self.is_held_up(id) {
            self.plan_report(id, now);
        }
        self.active.sleep_in_a_crowd(id, now);
    }

    /// Ends the work of a device that needs none.
    fn settle(&mut self, id: DeviceId, now: Now) {
        let unknown =
            matches!(self.integration_of(id), IntegrationState::Missing(_) | IntegrationState::NotAllowed(_));
        self.fleet.status_agreed(id);
        self.note_superseded_at_end(id, now);
        let held = if unknown { self.active.settle_keeping_grace(id) } else { self.active.settle(id) };
        self.leave_line(id, held, now);
        if unknown {
            self.plan_report(id, now);
        }
    }

    /// Begins the call if the device has a permit; otherwise it queues for one.
    fn call_or_queue(&mut self, id: DeviceId, call: Call, lane: Lane, now: Now) {
        if self.waits_for_namespace(id) {
            return;
        }
        if call == Call::Register && self.waits_for_another_registration(id, now) {
            return;
        }
        if let Some(permit) = self.use_permit_or_queue(id, lane, now) {
            return self.start_call(id, call, permit, now);
        }
        if self.is_held_up(id) && !self.active.grace(id).is_over() {
            self.plan_report(id, now);
        } else if lane == Lane::New {
            self.plan_queued_report(id, now);
        }
        self.active.sleep_in_a_crowd(id, now);
    }

    /// A settled device needs something again. What concerns a whole fleet at once takes its place in
    /// the rollout first, and is read when its turn has come.
    fn take_up(&mut self, id: DeviceId, need: Need, now: Now) {
        let Some(integration) = self.fleet.get(id).map(|record| record.integration) else { return };
        let limits = self.registry.limits(integration);
        let suspended = self.registry.target(integration).is_some_and(|target| target.suspended);
        let has_permit = self.active.permit(id).is_some();
        match need {
            Need::Nothing => {}
            Need::Fetch => self.start_device_read(id),
            Need::Verify if !self.active.take_verification(id, party(&self.fleet, id), now.mono) => {}
            Need::Verify => self.start_device_read(id),
            Need::Register if has_permit => self.revive(id, now),
            Need::Rewrite if has_permit => self.start_device_read(id),
            Need::Register if suspended => {}
            Need::Rewrite if suspended && limits.paused => {}
            Need::Rewrite if suspended || (!limits.paused && limits.rollout.is_none()) => {
                self.start_device_read(id);
            }
            Need::Register | Need::Rewrite => self.enqueue(id, self.lane_of_rollout(id), now),
        }
    }

    /// Goes on with a device whose object is not kept; if there is nothing special about it, without
    /// reading it.
    fn revive(&mut self, id: DeviceId, now: Now) {
        let revived = self.fleet.get(id).zip(self.usable_of(id)).and_then(|(record, usable)| {
            let target = &usable.target;
            revive::revive(record, &self.fleet.names, target.scope(), target.token.as_deref())
        });
        let Some(device) = revived else { return self.start_device_read(id) };
        self.active.revived(id, device, now);
        self.decide_and_start(id, now);
    }

    /// A device that holds the other present credential can wait longest.
    fn lane_of_rollout(&self, id: DeviceId) -> Lane {
        let Some(record) = self.fleet.get(id) else { return Lane::Fleet };
        let other = self.registry.target(record.integration).and_then(|target| target.credentials.other());
        if record.credential.is_some() && record.credential == other { Lane::Last } else { Lane::Fleet }
    }
}
