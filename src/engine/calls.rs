//! Calls to DPS: who queues, who holds a permit, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::work::{Answered, Effect};
use super::{Engine, Message};
use crate::clock;
use crate::controller::device::act;
use crate::controller::device::decide::Call;
use crate::controller::device::facts::Handled;
use crate::controller::integration::Ready;
use crate::fleet::DeviceId;
use crate::fleet::uid::Uid;
use crate::schedule::permits::{Lane, Outcome, Permit};

/// A device that waits this long for its turn is told so.
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);

/// Leave to call DPS, and whether the call has begun.
#[derive(Clone, Copy)]
pub(super) struct Held {
    permit: Permit,
    used: bool,
}

impl Engine {
    pub(super) fn ask_to_call(&mut self, id: DeviceId, call: Call, lane: Lane, now: Instant) {
        if let Some(permit) = self.permit_of(id, lane, now) {
            self.spawn_call(id, call, permit);
            return;
        }
        if self.is_held_up(id) && !self.is_told(id, now) {
            self.plan_to_tell(id, now);
        } else if lane == Lane::New {
            self.plan_to_say_queued(id, now);
        }
        if lane == Lane::New {
            self.park(id);
        }
    }

    /// Sets the time at which a new device says that it waits; a fleet does so one after the other.
    fn plan_to_say_queued(&mut self, id: DeviceId, now: Instant) {
        let Some(due) = self.queue.waiting_since(id).map(|since| since + LONG_WAIT) else { return };
        // A time from an earlier wait says nothing.
        let planned = self.queued_at.get(&id).copied().filter(|at| *at >= due);
        let at = planned.unwrap_or_else(|| self.queued_tells.take(due));
        self.queued_at.insert(id, at);
        if at > now {
            self.runner.wake_by(id, at);
        }
    }

    /// A permit that can be used now; without one the device queues. A permit that has been held for
    /// too long goes back, and the device is next.
    pub(super) fn permit_of(&mut self, id: DeviceId, lane: Lane, now: Instant) -> Option<Permit> {
        let Some(held) = self.permits.get(&id).copied().filter(|held| !held.used) else {
            self.enqueue(id, lane, now);
            return None;
        };
        if self.queue.is_fresh(&held.permit, now) {
            self.permits.insert(id, Held { used: true, ..held });
            return Some(held.permit);
        }
        self.permits.remove(&id);
        self.queue.next_time(held.permit, now);
        None
    }

    /// A permit served to begin something that is no call: its place in the rollout is used up.
    pub(super) fn spend_without_call(&mut self, id: DeviceId) {
        if let Some(held) = self.permits.get(&id).copied().filter(|held| !held.used) {
            self.permits.remove(&id);
            self.queue.no_call(held.permit);
        }
    }

    pub(super) fn enqueue(&mut self, id: DeviceId, lane: Lane, now: Instant) {
        if let Some(tenant) = self.fleet.get(id).map(|record| record.integration.index()) {
            self.queue.enqueue(tenant, id, lane, now);
        }
    }

    pub(super) fn has_waited_long(&self, id: DeviceId, now: Instant) -> bool {
        let due = self.queue.waiting_since(id).map(|since| since + LONG_WAIT);
        let planned = self.queued_at.get(&id);
        due.zip(planned).is_some_and(|(due, planned)| due <= *planned && *planned <= now)
    }

    /// A permit has come: used at once, or given back.
    pub(super) fn granted(&mut self, permit: Permit) {
        let id = permit.waiter;
        let expected = self.fleet.get(id).is_some_and(|record| record.integration.index() == permit.tenant);
        if !expected || self.permits.contains_key(&id) {
            self.queue.unused(permit);
            return;
        }
        self.telemetry.metrics.granted(permit.lane().index(), permit.waited());
        self.queued_at.remove(&id);
        self.permits.insert(id, Held { permit, used: false });
        self.step(id);
    }

    /// A device that no longer wants to register gives its permit back. One that is being read, whose
    /// side effect is in flight or that is about to be looked at keeps it.
    pub(super) fn return_unused(&mut self, id: DeviceId) {
        let Some(held) = self.permits.get(&id).copied().filter(|held| !held.used) else { return };
        let read = self.reading.contains(&id) || self.waits_to_be_read.contains(&id);
        let busy =
            read || self.runner.is_ready(id) || self.work.get(&id).is_some_and(|work| work.task.is_some());
        if !busy {
            self.permits.remove(&id);
            self.queue.unused(held.permit);
        }
    }

    /// Gives up a device's place in the queue and its permit. A call that has begun may have reached
    /// DPS, so it counts.
    pub(super) fn leave_line(&mut self, id: DeviceId) {
        self.queue.leave(id);
        self.queued_at.remove(&id);
        match self.permits.remove(&id) {
            Some(Held { permit, used: true }) => {
                self.queue.finished(permit, Outcome::Unknown, clock::now().mono);
            }
            Some(Held { permit, used: false }) => self.queue.unused(permit),
            None => {}
        }
    }

    /// True if this call is still the device's; its permit is taken away.
    pub(super) fn take_permit(&mut self, id: DeviceId, permit: Permit) -> bool {
        let holds = self.holds(id, permit);
        if holds {
            self.permits.remove(&id);
        }
        holds
    }

    pub(super) fn holds(&self, id: DeviceId, permit: Permit) -> bool {
        self.permits.get(&id).is_some_and(|held| held.permit == permit)
    }

    pub(super) fn ready_of(&self, id: DeviceId) -> Option<Arc<Ready>> {
        let record = self.fleet.get(id)?;
        self.integrations.get(&record.integration)?.shared()
    }

    fn spawn_call(&mut self, id: DeviceId, call: Call, permit: Permit) {
        let (Some(ready), Some(work)) = (self.ready_of(id), self.work.get(&id)) else {
            return self.leave_line(id);
        };
        let (device, epoch) = (work.device.clone(), ready.epoch);
        let known = work.facts.registered.is_some();
        let handled = Handled::now(&device, ready.token.as_ref(), &work.facts.handled);
        let generation = device.metadata.generation.unwrap_or(0);
        debug!(namespace = device.metadata.namespace, device = device.metadata.name, ?call, "calling DPS");
        let (sender, uid) = (self.sender.clone(), Uid::of(&device));
        let awaited = self.queue.is_awaited(&permit);
        self.spawn(id, async move {
            let accepted = || {
                if awaited {
                    // A full channel costs nothing but time: the end of the operation tells the same.
                    let _ = sender.try_send(Message::Effect(id, uid, Effect::KeyAccepted { permit, epoch }));
                }
            };
            let answered = match call {
                Call::Register => act::register(&device, &ready, accepted).await.map(Answered::Registered),
                Call::Lookup if known => act::look_again(&device, &ready).await.map(Answered::Found),
                Call::Lookup => act::adopt(&device, &ready).await.map(Answered::Registered),
            };
            Effect::Called { permit, epoch, generation, handled, call, result: answered.map(Box::new) }
        });
    }
}
