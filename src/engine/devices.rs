//! One look at one device: gather what is known, decide, start the side effect.

use std::time::Duration;

use tokio::time::Instant;

use super::checks::Check;
use super::work::{Effect, Work};
use super::{Engine, Message};
use crate::api::references::{Reference, ReferredKind};
use crate::api::version;
use crate::clock;
use crate::controller::device::decide::{Decision, Integration, Snapshot, Step, Verdict, decide};
use crate::controller::device::status;
use crate::controller::events;
use crate::fleet::intern::Sym;
use crate::fleet::record::{Need, Record, Wanted};
use crate::fleet::{self, DeviceId};
use crate::schedule::permits::Lane;

/// Devices are told of a missing or unusable integration after this time,
const TELL_AFTER: Duration = Duration::from_secs(30);
/// and not faster than this one after the other: 50 a second.
pub(super) const TELL_INTERVAL: Duration = Duration::from_millis(20);
/// Secrets whose version alone has moved are compared ten a second, a hundred at once: a person
/// edits a few, a re-encryption of etcd all.
pub(super) const VERIFY_INTERVAL: Duration = Duration::from_millis(100);
pub(super) const VERIFIED_AT_ONCE: u32 = 100;
/// A watch that does not bring the object we conflicted with is not waited for any longer.
const STALE_WAIT: Duration = Duration::from_secs(10);

/// When a device may be told that its integration cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tell {
    /// Not before, and then in turn.
    From(Instant),
    /// Its turn.
    At(Instant),
}

impl Engine {
    /// Looks at a device. Whatever it came to, a permit that was not used goes back.
    pub(super) fn step(&mut self, id: DeviceId) {
        self.look_at(id);
        self.return_unused(id);
    }

    pub(super) fn look_at(&mut self, id: DeviceId) {
        let Some(record) = self.fleet.get(id) else { return };
        let need = self.need(id, record);
        if record.deleting {
            return self.settle(id);
        }
        if need == Need::Nothing {
            return if self.checks.contains_key(&id) { self.check(id) } else { self.settle(id) };
        }
        self.unpark(id);
        let Some(work) = self.work.get(&id) else {
            self.take_up(id, need);
            return;
        };
        if work.task.is_some() {
            // Its effect looks at the device again.
            return;
        }
        if work.stale {
            self.read_device(id);
            return;
        }
        self.take_in_check(id);
        let Some(work) = self.work.get(&id) else { return };
        let decision = self.decide(id, work);
        self.carry_out(id, decision);
    }

    /// Gathers: everything comes from memory.
    fn decide(&self, id: DeviceId, work: &Work) -> Decision {
        let now = clock::now();
        decide(&Snapshot {
            device: &work.device,
            facts: &work.facts,
            integration: self.integration_of(id, now.mono),
            secret: self.fleet.secret(id),
            secret_read: work.secret_read,
            must_look: self.fleet.must_look_for_secrets(),
            duplicate: self.is_duplicate(id),
            secret_is_key: self.secret_is_key(id),
            fought_until: self.fought_until(id, now),
            waited_long: self.has_waited_long(id, now.mono),
            held_up: self.is_held_up(id) && self.is_told(id, now.mono),
            metadata_prefixes: &self.config.secret_metadata_prefixes,
            now: now.wall,
        })
    }

    fn carry_out(&mut self, id: DeviceId, decision: Decision) {
        let now = clock::now();
        if let Some(wake) = decision.wake {
            let wait = Duration::try_from(wake.duration_since(now.wall)).unwrap_or_default();
            self.runner.sleep_until(id, now.mono + wait);
        }
        if let Some(verdict) = &decision.verdict
            && self.say(id, verdict)
        {
            return;
        }
        match decision.step {
            Step::Nothing => self.rest(id, now.mono),
            Step::Call(call, lane) => self.ask_to_call(id, call, lane, now.mono),
            Step::ReadSecret => self.spawn_secret_read(id),
            Step::WriteSecret => self.spawn_secret_write(id),
        }
    }

    /// Writes the status if it differs; true if a write was started.
    fn say(&mut self, id: DeviceId, verdict: &Verdict) -> bool {
        let Some(work) = self.work.get_mut(&id) else { return false };
        if work.revived {
            self.read_device(id);
            return true;
        }
        let wanted = status::render(&work.device, &work.facts, verdict, clock::now().wall);
        if status::is_equal(work.device.status.as_ref(), &wanted, work.facts.failure.as_ref()) {
            return false;
        }
        let news = status::is_news(work.device.status.as_ref(), &wanted);
        let told = events::of_device(work.device.status.as_ref(), &wanted, self.teller.tells_all());
        work.tried = Some(version::of(&work.device.metadata));
        let (device, writer) = (work.device.clone(), self.writer.for_fleet(work.for_fleet));
        self.spawn(id, async move {
            let result = writer.replace_status(&*device, &wanted).await;
            Effect::StatusWritten { status: Box::new(wanted), news, told, result }
        });
        true
    }

    /// Nothing to do now: either it is settled, or something will wake it.
    fn rest(&mut self, id: DeviceId, now: Instant) {
        if let Some(work) = self.work.get_mut(&id) {
            work.news = work.facts.asked.is_some() || work.facts.failure.is_some();
        }
        if self.fleet.get(id).is_some_and(|record| self.need(id, record) == Need::Nothing) {
            self.settle(id);
            return;
        }
        let waits = !matches!(self.integration_of(id, now), Integration::Ready(_));
        if (waits || self.is_held_up(id)) && !self.is_told(id, now) {
            self.plan_to_tell(id, now);
        }
    }

    pub(super) fn is_told(&self, id: DeviceId, now: Instant) -> bool {
        matches!(self.tell_at.get(&id), Some(Tell::At(at)) if *at <= now)
    }

    /// The integration could be used, but is suspended or in trouble.
    pub(super) fn is_held_up(&self, id: DeviceId) -> bool {
        let integration = self.fleet.get(id).and_then(|record| self.integrations.get(&record.integration));
        integration.is_some_and(super::integrations::Integration::holds_up)
    }

    pub(super) fn settle(&mut self, id: DeviceId) {
        let tell = self.tell_at.get(&id).copied();
        self.drop_work(id);
        let now = clock::now().mono;
        let integration = self.integration_of(id, now);
        if matches!(
            integration,
            Integration::Missing { told: false } | Integration::NotAllowed { told: false }
        ) {
            self.tell_at.extend(tell.map(|tell| (id, tell)));
            self.plan_to_tell(id, now);
        }
    }

    /// Sets the time at which a device may be told that its integration cannot be used. Its place in
    /// the line of those that are told is taken when that time has come: most never come to it.
    pub(super) fn plan_to_tell(&mut self, id: DeviceId, now: Instant) {
        let since =
            self.fleet.get(id).and_then(|record| self.unusable_since(record.integration)).unwrap_or(now);
        let tell = match self.tell_at.get(&id).copied() {
            None => Tell::From(since + TELL_AFTER),
            Some(Tell::From(at)) if at <= now => Tell::At(self.tells.take(now)),
            Some(tell) => tell,
        };
        self.tell_at.insert(id, tell);
        let (Tell::From(at) | Tell::At(at)) = tell;
        self.runner.wake_by(id, at);
    }

    /// What the index alone shows of a device's needs.
    fn need(&self, id: DeviceId, record: &Record) -> Need {
        if record.deleting {
            return Need::Nothing;
        }
        let Some(settled) = record.settled else { return Need::Look };
        let busy = |work: &Work| work.task.is_some() || work.news;
        if self.work.get(&id).is_some_and(|work| busy(work))
            || self.checks.get(&id).is_some_and(Check::has_news)
        {
            return Need::Look;
        }
        match self.integration_of(id, clock::now().mono) {
            Integration::Missing { told: false } | Integration::NotAllowed { told: false } => Need::Nothing,
            Integration::NotReady { .. } if record.secret_seen > 0 => Need::Nothing,
            Integration::Missing { told: true }
            | Integration::NotAllowed { told: true }
            | Integration::NotReady { .. } => Need::Look,
            Integration::Ready(ready) => {
                let namespace = self.fleet.names.text(record.namespace);
                if !ready.allows_id(record.registration_id(), namespace) || self.is_duplicate(id) {
                    return Need::Look;
                }
                let scope = ready.scope.as_str();
                let fingerprint = ready.active.fingerprint;
                record.need(&settled, Wanted { scope, fingerprint, inherited: &ready.inherited })
            }
        }
    }

    /// The integration as this device sees it.
    fn integration_of(&self, id: DeviceId, now: Instant) -> Integration<'_> {
        let told = self.is_told(id, now);
        let Some(record) = self.fleet.get(id) else { return Integration::Missing { told } };
        let integration = self.integrations.get(&record.integration).filter(|i| i.object.is_some());
        if !self.is_of_namespace(record.integration, record.namespace) {
            let labels = self.namespaces.labels(self.fleet.names.text(record.namespace));
            let admitted = integration.and_then(|integration| integration.consent.admits(labels));
            if admitted != Some(true) {
                return Integration::NotAllowed { told };
            }
        }
        match integration.map(super::integrations::Integration::ready) {
            Some(Some(ready)) => Integration::Ready(ready),
            Some(None) => Integration::NotReady { told },
            None => Integration::Missing { told },
        }
    }

    /// True if the integration of this key (`namespace/name`) is in this namespace.
    pub(super) fn is_of_namespace(&self, integration: Sym, namespace: Sym) -> bool {
        let own = self.fleet.names.text(integration).split_once('/');
        own.is_some_and(|(own, _)| own == self.fleet.names.text(namespace))
    }

    /// True if another device has the better claim on the registration id: same id scope, and an
    /// integration that DPS has accepted.
    fn is_duplicate(&self, id: DeviceId) -> bool {
        let Some(record) = self.fleet.get(id) else { return false };
        let Some(own) = self.accepted_scope(record) else { return false };
        self.fleet.holders(record.registration_id()).filter(|other| *other != id).any(|other| {
            self.fleet.get(other).is_some_and(|other| {
                !other.deleting && self.accepted_scope(other) == Some(own) && fleet::precedes(other, record)
            })
        })
    }

    fn accepted_scope(&self, record: &Record) -> Option<&str> {
        self.integrations.get(&record.integration)?.accepted_scope()
    }

    /// The device's Secret is one that an integration of its namespace takes a group's key from.
    fn secret_is_key(&self, id: DeviceId) -> bool {
        let Some(record) = self.fleet.get(id) else { return false };
        let namespace = self.fleet.names.text(record.namespace).to_owned();
        let name = record.secret_name();
        self.referred.contains_key(&Reference { kind: ReferredKind::Secret, namespace, name })
    }

    /// A settled device has to do with something again. What concerns a whole fleet at once takes its
    /// place in the rollout first, and is read when its turn has come.
    fn take_up(&mut self, id: DeviceId, need: Need) {
        let limits = self.fleet.get(id).and_then(|record| self.integrations.get(&record.integration));
        let limits = limits.map(|integration| integration.limits).unwrap_or_default();
        let suspended = self.ready_of(id).is_some_and(|ready| ready.suspended);
        let has_permit = self.permits.contains_key(&id);
        if need == Need::Verify && !self.may_verify(id) {
            return;
        }
        match need {
            Need::Register if !has_permit && suspended => {}
            Need::Rewrite if !has_permit && suspended && limits.paused => {}
            Need::Rewrite if suspended || (!limits.paused && limits.rollout.is_none()) => {
                self.read_device(id)
            }
            Need::Register | Need::Rewrite if !has_permit => {
                self.enqueue(id, self.lane_of_rollout(id), clock::now().mono);
            }
            Need::Register => self.revive(id),
            Need::Nothing => {}
            Need::Look | Need::Verify | Need::Rewrite => self.read_device(id),
        }
    }

    /// Who holds the other current key can wait longest.
    fn lane_of_rollout(&self, id: DeviceId) -> Lane {
        let fingerprint = self.fleet.get(id).and_then(|record| record.fingerprint);
        let other = self.ready_of(id).and_then(|ready| Some(ready.other.as_ref()?.fingerprint));
        if fingerprint.is_some() && fingerprint == other { Lane::Last } else { Lane::Fleet }
    }

    /// True if it is this device's turn to have its Secret compared; otherwise it is woken then.
    fn may_verify(&mut self, id: DeviceId) -> bool {
        let now = clock::now().mono;
        let at = *self.verify_at.entry(id).or_insert_with(|| self.verifications.take(now));
        if at > now {
            self.runner.wake_by(id, at);
            return false;
        }
        self.verify_at.remove(&id);
        true
    }

    pub(super) fn spawn(&mut self, id: DeviceId, effect: impl Future<Output = Effect> + Send + 'static) {
        let (Some(record), Some(work)) = (self.fleet.get(id), self.work.get_mut(&id)) else { return };
        let (uid, sender) = (record.uid, self.sender.clone());
        let task = tokio::spawn(async move {
            let effect = effect.await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::Effect(id, uid, effect)).await;
        });
        self.tasks += usize::from(work.task.replace(task.abort_handle()).is_none());
    }

    /// The API server did not take a write of this version: the watch brings another one.
    pub(super) fn wait_for_watch(&mut self, id: DeviceId) {
        if let Some(work) = self.work.get_mut(&id) {
            work.stale = true;
            self.runner.sleep_until(id, clock::now().mono + STALE_WAIT);
        }
    }
}
