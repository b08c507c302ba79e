//! What falls due from time to time: lookups and periodic registrations of settled devices. Due
//! times are not stored: they follow from the device's uid, the same after a restart.

use std::time::Duration;

use tokio::time::Instant;

use super::work::Effect;
use super::{Engine, Message};
use crate::clock;
use crate::controller::device::act;
use crate::controller::device::facts::{Asked, looked_up_hash};
use crate::dps::answer::Assignment;
use crate::dps::error::DpsError;
use crate::dps::ids::RegistrationId;
use crate::fleet::DeviceId;
use crate::fleet::inherit::Policy;
use crate::schedule::due::is_due;
use crate::schedule::permits::{Lane, Permit};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_secs(10);

/// A check of a settled device, and what it has come to.
pub(super) enum Check {
    /// To be looked up.
    Lookup,
    /// To be registered again.
    Periodic,
    /// It is elsewhere, or its registration record has changed.
    Found(Box<Assignment>),
    /// DPS has no assignment for it.
    NotFound,
}

impl Check {
    /// The object is needed.
    pub(super) fn has_news(&self) -> bool {
        !matches!(self, Self::Lookup)
    }
}

/// When the clock was looked at last, in seconds since 1970.
#[derive(Default)]
pub(super) struct Ticks {
    last: Option<i64>,
    next: Option<Instant>,
}

impl Engine {
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.ticks.next
    }

    /// Finds whose check has fallen due since the last look.
    pub(super) fn tick(&mut self) {
        let now = clock::now();
        if self.ticks.next.is_some_and(|at| at > now.mono) {
            return;
        }
        self.ticks.next = Some(now.mono + TICK);
        let seconds = now.wall.as_second();
        // What fell due while nobody looked is due again in an interval.
        let last = self.ticks.last.replace(seconds).unwrap_or(seconds);
        let mut due = Vec::new();
        for (id, record) in self.fleet.iter() {
            if record.settled.is_none() || record.deleting {
                continue;
            }
            let ready =
                self.integrations.get(&record.integration).and_then(|integration| integration.ready());
            let Some(ready) = ready.filter(|ready| !ready.suspended) else { continue };
            let schedule = record.schedule.or(ready.inherited.schedule);
            let is_due = |interval: u32| is_due(record.uid.phase(), interval, last, seconds);
            match (schedule.policy, schedule.drift) {
                (Policy::Periodic(interval), _) if is_due(interval) => due.push((id, Check::Periodic)),
                (_, Some(interval)) if is_due(interval) => due.push((id, Check::Lookup)),
                _ => {}
            }
        }
        for (id, check) in due {
            self.checks.entry(id).or_insert(check);
            self.runner.wake_later(id);
        }
    }

    /// Looks a settled device up as soon as it has a permit.
    pub(super) fn check(&mut self, id: DeviceId) {
        let ready = self.ready_of(id).filter(|ready| !ready.suspended);
        let parts =
            self.fleet.get(id).map(|record| (record.uid, RegistrationId::parse(record.registration_id())));
        let (Some(ready), Some((uid, Ok(registration_id)))) = (ready, parts) else {
            self.checks.remove(&id);
            return self.settle(id);
        };
        let Some(permit) = self.permit_of(id, Lane::Fleet, clock::now().mono) else { return };
        let (sender, epoch) = (self.sender.clone(), ready.epoch);
        tokio::spawn(async move {
            let result = act::lookup(&registration_id, &ready).await.map(Box::new);
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::Effect(id, uid, Effect::Checked { permit, epoch, result })).await;
        });
    }

    /// Nothing new costs nothing. A failed check says nothing of the device: the next one comes.
    pub(super) fn checked(
        &mut self,
        id: DeviceId,
        permit: Permit,
        epoch: u64,
        result: Result<Box<Assignment>, DpsError>,
    ) {
        if self.take_permit(id, permit) {
            self.dps_answered(id, permit, epoch, result.as_ref().err());
        }
        let known = self.fleet.get(id).map(|record| record.looked_up);
        let news = match result {
            Ok(assignment) if known == Some(looked_up_hash(&assignment)) => None,
            Ok(assignment) => Some(Check::Found(assignment)),
            Err(DpsError::NotFound(_)) => Some(Check::NotFound),
            Err(_) => None,
        };
        match news {
            Some(news) => self.checks.insert(id, news),
            None => self.checks.remove(&id),
        };
        self.take_in_check(id);
        self.runner.wake(id);
    }

    /// What a check has come to becomes a fact as soon as the object is at hand.
    pub(super) fn take_in_check(&mut self, id: DeviceId) {
        let Some(work) = self.work.get_mut(&id) else { return };
        match self.checks.remove(&id) {
            Some(Check::Found(assignment)) => {
                let reconcile_at = work.facts.handled.reconcile_at.clone();
                work.facts.look_up(*assignment, reconcile_at);
            }
            Some(Check::NotFound) => work.facts.asked = Some(Asked::NotFound),
            Some(Check::Periodic) => work.facts.asked = Some(Asked::Periodic),
            Some(Check::Lookup) => work.facts.asked = work.facts.asked.or(Some(Asked::Look)),
            None => return,
        }
        work.news = true;
    }
}
