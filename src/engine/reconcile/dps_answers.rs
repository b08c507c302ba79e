//! What DPS answers is taken in: for the rate, for what its integration says, and as facts of the device.

use tracing::debug;

use super::outcome::{Called, Checked, DpsResult, Question};
use crate::api::conditions::Reason;
use crate::clock::Now;
use crate::controller::device::decide::Call;
use crate::controller::device::facts::{Facts, FailedWork, NewFailure, ServedRequests, Trigger, Unresolved};
use crate::controller::device::secret::settings_of_same_rendering;
use crate::controller::failure;
use crate::controller::integration::health::Canary;
use crate::controller::integration::issuers::Whose;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::certificate::CaId;
use crate::dps::error::DpsError;
use crate::dps::tls::Handshake;
use crate::engine::Engine;
use crate::engine::devices::{DueWork, Freshness};
use crate::engine::integrations::EndedCall;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::fleet::record::Record;
use crate::fleet::registration::Registration;
use crate::schedule::permits::{Ended, Permit};

/// Whether an answer is one to what would be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Standing {
    Present,
    /// The device has another integration by now, or the integration another target: what DPS did is
    /// a fact, what it refused or did not know is not.
    Past,
}

impl Engine {
    pub(super) fn called(&mut self, id: DeviceId, called: Called, now: Now) {
        let called = self.of_first_lookup(id, called);
        let standing = self.dps_answered(id, called.question, called.error(), now);
        let unresolved = called.is_unresolved();
        let Called { question, generation, served, call, accepted: _, result } = called;
        let usable = self.usable_of(id).filter(|usable| usable.target.revision == question.target);
        let inherited = usable.map(|usable| usable.target.inherited.clone());
        let (Some(record), Some(work)) = (self.fleet.get(id), self.active.work_mut(id)) else { return };
        let is_check = call == Call::Lookup
            && work.facts.trigger == Some(Trigger::DriftCheck)
            && record.has_own_credential();
        let registers = matches!(result, Ok(DpsResult::Registered(_)));
        // The index cannot compare credentials that it does not know.
        work.unreported = true;
        let is_told = registers || matches!(result, Ok(DpsResult::Found(_)));
        match (result, standing) {
            // It says itself in which scope and with which credential.
            (Ok(DpsResult::Registered(registered)), _) => {
                let registered = if call.registers() { registered.made_at(now.wall) } else { *registered };
                work.same_settings = inherited.and_then(|inherited| {
                    settings_of_same_rendering(&work.device, &work.facts, &registered, &inherited)
                });
                if work.freshness == Freshness::Revived {
                    work.freshness = Freshness::Current;
                }
                work.facts.register(registered, served);
            }
            // It says itself under what it was accepted.
            (Ok(DpsResult::Open { open, error: _ }), _) => work.facts.registering(*open),
            (Ok(DpsResult::Found(located)), _) => work.facts.look_up(located, served.reconcile_at),
            (Err(_), Standing::Past) => {}
            (Err(DpsError::NotAssigned(_)), Standing::Present) => {
                work.facts.not_found();
                work.facts.served.reconcile_at = served.reconcile_at;
            }
            // A failed check says nothing of the device: the next one comes.
            (Err(_), Standing::Present) if is_check => {
                (work.facts.trigger, work.unreported) = (None, false);
            }
            (Err(error), Standing::Present) => {
                if work.facts.registered.is_none() {
                    // There was nothing to look up: this was the look.
                    work.facts.served.reconcile_at.clone_from(&served.reconcile_at);
                }
                let mut failure = registration_failed(&error, question, generation, served, now);
                failure.reason = believed(failure.reason, &work.facts, &error);
                self.context.telemetry.metrics.count_failed_operation(failure.reason.as_str());
                debug!(device = &*record.name, reason = failure.reason.as_str(), "not registered");
                work.facts.fail(failure, record.uid.seed(), now.mono);
            }
        }
        if unresolved {
            work.facts.unresolved = Unresolved::Begun;
        }
        if is_told {
            self.forget_former(id);
        }
        // A credential of its own vouches for this device only, also by a lookup.
        if registers || (is_told && !question.issuer.kind().is_shared()) {
            self.set_registered(id, Registration::Known);
        }
        if registers {
            self.credential_registered(id);
            self.certificate_came(id);
        }
        self.active.has_answer(id);
        self.ready.take_answer(id);
    }

    /// DPS may say of a device that it does not know what it says of a wrong key. If it has accepted the
    /// key for others, it is the device: then a registration shows.
    fn of_first_lookup(&self, id: DeviceId, called: Called) -> Called {
        let revision = called.question.revision;
        let result = match called.result {
            Err(DpsError::Unauthorized(refusal))
                if called.call == Call::Adopt
                    && refusal.concerns_credential()
                    && (!refusal.issuer.kind().is_shared()
                        || self.has_accepted(id, revision, refusal.issuer)) =>
            {
                Err(DpsError::NotAssigned(refusal.detail))
            }
            result => result,
        };
        Called { result, ..called }
    }

    /// DPS has accepted this credential for other devices of the integration.
    fn has_accepted(&self, id: DeviceId, revision: u64, issuer: CredentialId) -> bool {
        let Some(sym) = self.fleet.get(id).map(|record| record.integration) else { return false };
        let in_use = self.registry.target(sym).map(|target| target.credentials.in_use());
        self.registry.is_present(sym, revision)
            && in_use == Some(issuer)
            && self.registry.accepts_credential_in_use(sym)
    }

    /// If DPS reports what is known, nothing is written; and nothing read but once the Secret of a device of
    /// which this process only knows what others can write. A failed check says nothing of the device: the
    /// next one comes.
    pub(super) fn drift_checked(&mut self, id: DeviceId, checked: Checked, now: Now) {
        let Checked { question, result } = checked;
        if self.dps_answered(id, question, result.as_ref().err(), now) == Standing::Past {
            return self.ready.go_on(id);
        }
        let known = self.fleet.get(id).map(|record| (record.looked_up, record.is_vouched()));
        let found = match result {
            Ok(located) if known == Some((located.looked_up_hash(), true)) => None,
            Ok(located) if known == Some((located.looked_up_hash(), false)) => Some(DueWork::Compare),
            Ok(located) => Some(DueWork::Found(Box::new(located))),
            Err(DpsError::NotAssigned(_)) => Some(DueWork::NotFound),
            Err(_) => None,
        };
        self.active.checked(id, found);
        self.active.absorb_due(id);
        self.ready.go_on(id);
    }

    /// DPS has accepted the credential of a registration that goes on: others need not wait for its end.
    pub(super) fn credential_accepted(&mut self, id: DeviceId, question: Question, now: Now) {
        let Question { permit, revision, target: _, issuer, ca } = question;
        let Some(sym) = self.fleet.get(id).map(|record| record.integration) else { return };
        let is_its = sym.index() == permit.tenant && self.active.holds(id, permit);
        if !is_its || !self.registry.is_present(sym, revision) {
            return;
        }
        self.permits.admitted(&permit);
        let newcomers = permit.is_newcomers();
        let Some(device) = self.canary(id) else { return };
        let ca = self.ca_of(id, ca);
        let answered = EndedCall { device, revision, issuer, ca, error: None, throttled: false, newcomers };
        self.take_in_answer(sym, answered, now);
    }

    /// The CA of its certificate, and for whom that counts.
    fn ca_of(&self, id: DeviceId, ca: Option<CaId>) -> Option<(CaId, Whose)> {
        ca.zip(self.fleet.get(id).map(|record| self.whose(record)))
    }

    fn canary(&self, id: DeviceId) -> Option<Canary> {
        self.fleet.get(id).map(|record| Canary { device: id, uid: record.uid })
    }

    /// What an answer means for the integration, and what follows.
    fn take_in_answer(&mut self, sym: Sym, answered: EndedCall<'_>, now: Now) {
        let canaries: Vec<Canary> = self.registry.canaries(sym).to_vec();
        let change = self.registry.answered(sym, answered, now.mono);
        self.wake_canaries(&change.try_next);
        if change.ca_accepted {
            self.wake_waiting_for_ca(sym);
        }
        self.apply(sym, &change, now);
        if change.ask_another {
            self.ask_another(sym);
        }
        if change.retry {
            // Those that were canaries until now wait no longer than others.
            let canaries = canaries.iter().chain(self.registry.canaries(sym)).copied().collect();
            self.retry(sym, canaries, now);
        }
    }

    /// Has the devices that were refused reconciled, and one of them looked up if it needs no call.
    fn retry(&mut self, sym: Sym, canaries: Vec<Canary>, now: Now) {
        self.wake_canaries(&canaries);
        if self.registry.asks(sym, now.mono) {
            self.ask_another(sym);
        }
    }

    /// Wakes the devices with a certificate that DPS has not accepted yet.
    fn wake_waiting_for_ca(&mut self, sym: Sym) {
        let waits = |id: &DeviceId| {
            let is_registered = self.fleet.get(*id).is_some_and(Record::is_registered);
            self.fleet.reads_certificate(*id) && (!is_registered || self.fleet.has_unregistered(*id))
        };
        let waiting: Vec<DeviceId> = self.fleet.of_integration(sym).iter().copied().filter(waits).collect();
        waiting.into_iter().for_each(|id| self.ready.wake_later(id));
    }

    fn wake_canaries(&mut self, canaries: &[Canary]) {
        for Canary { device, uid } in canaries {
            if self.fleet.get(*device).is_some_and(|record| record.uid == *uid) {
                self.ready.wake(*device);
            }
        }
    }

    /// Takes in how a call ended: for the rate, and for what the integration says.
    fn dps_answered(
        &mut self,
        id: DeviceId,
        question: Question,
        error: Option<&DpsError>,
        now: Now,
    ) -> Standing {
        let Question { permit, revision, target: _, issuer, ca } = question;
        if !self.take_permit(id, permit) {
            return Standing::Past;
        }
        let sym = self.fleet.get(id).map(|record| record.integration);
        let is_its = |sym: &_| self.registry.is_present(*sym, revision);
        // What DPS says of the rate counts whoever the integration is now.
        self.permits.finished(permit, ended(error), now.mono);
        let Some(sym) = sym.filter(|sym| sym.index() == permit.tenant).filter(is_its) else {
            return Standing::Past;
        };
        let throttled = self.permits.paused_until(permit.tenant).is_some_and(|until| until > now.mono);
        let newcomers = permit.is_newcomers();
        if let Some(device) = self.canary(id) {
            let ca = self.ca_of(id, ca);
            let answered = EndedCall { device, revision, issuer, ca, error, throttled, newcomers };
            self.take_in_answer(sym, answered, now);
        }
        Standing::Present
    }

    /// True if this call is still the device's; its permit is taken away.
    fn take_permit(&mut self, id: DeviceId, permit: Permit) -> bool {
        let holds = self.active.holds(id, permit);
        if holds {
            self.active.release(id);
        }
        holds
    }

    /// Whether DPS accepts a credential is to be found out: a settled device is looked up. While all
    /// others wait it is one that was refused, before that one that was not.
    pub(in crate::engine) fn ask_another(&mut self, sym: Sym) {
        let Some(target) = self.registry.target(sym).filter(|target| !target.suspended) else { return };
        let in_use = target.credentials.in_use();
        let settled = |record: &Record| record.settled.is_some();
        let canaries = self.registry.canaries(sym).iter().filter_map(|canary| {
            let record = self.fleet.get(canary.device)?;
            (record.uid == canary.uid && !record.deleting).then_some((canary.device, record))
        });
        let canaries: Vec<(DeviceId, &Record)> = canaries.collect();
        let refused = |record: &Record| self.registry.has_refused(sym, record.uid);
        let asked = if canaries.is_empty() {
            let works = |record: &Record| settled(record) && record.credential == Some(in_use);
            let of_it =
                self.fleet.of_integration(sym).iter().filter_map(|id| Some((*id, self.fleet.get(*id)?)));
            let mut works = of_it.filter(|(_, record)| !record.deleting && works(record) && !refused(record));
            works.next().map(|(id, _)| id)
        } else {
            // One that is not settled calls for itself.
            canaries.iter().find(|(_, record)| settled(record)).map(|(id, _)| *id)
        };
        if let Some(id) = asked.filter(|id| self.active.due_work(*id).is_none()) {
            self.active.due(id, DueWork::Check);
            self.ready.wake(id);
        }
    }
}

/// What the end of a call says about the rate.
fn ended(error: Option<&DpsError>) -> Ended {
    match error {
        None
        | Some(DpsError::Disabled(_) | DpsError::AllocationFailed(_) | DpsError::AllocationInterrupted(_)) => {
            Ended::Admitted
        }
        Some(DpsError::Throttled { retry_after, .. }) => Ended::Throttled { retry_after: *retry_after },
        Some(
            DpsError::Unauthorized(_)
            | DpsError::Conflict(_)
            | DpsError::Forgotten(_)
            | DpsError::Deadline
            | DpsError::NotFound(_)
            | DpsError::NotAssigned(_)
            | DpsError::Rejected { .. }
            | DpsError::ClockOff,
        ) => Ended::Answered,
        // Whoever gave an answer that DPS would not give, it need not be DPS.
        Some(DpsError::Unreachable(_) | DpsError::Server { .. } | DpsError::InvalidResponse(_)) => {
            Ended::Unanswered
        }
    }
}

/// The reason, as far as it is believed. DPS now and then refuses a certificate of a group that works, and takes it at
/// the next try: the first refusal of a device that it has registered before may pass.
fn believed(reason: Reason, facts: &Facts, error: &DpsError) -> Reason {
    let DpsError::Unauthorized(refusal) = error else { return reason };
    let refused_before = facts.failure.as_ref().and_then(|failure| failure.error.as_ref());
    let may_pass = facts.registered.is_some()
        && refusal.certificate.as_deref().is_some_and(|it| it.handshake == Handshake::Sent)
        && refused_before.and_then(|error| error.http_status) != Some(401);
    if may_pass { Reason::ServiceUnavailable } else { reason }
}

fn registration_failed(
    error: &DpsError,
    question: Question,
    generation: i64,
    served: ServedRequests,
    now: Now,
) -> NewFailure {
    NewFailure {
        work: FailedWork::Registration,
        reason: failure::reason(error),
        message: failure::message(error),
        error: Some(failure::last_error(error, now.wall)),
        at_least: error.retry_after(),
        generation,
        revision: question.target,
        token: served.token,
        reconcile_at: served.reconcile_at,
    }
}
