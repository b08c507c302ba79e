//! When DPS has to be called, and why it is not called now.

use super::{Call, Decision, Delay, Step, Subject, Verdict, not_ready, registered_hash};
use crate::api::conditions::Reason;
use crate::controller::device::facts::{Facts, FailedWork, Trigger, Trust, Unresolved};
use crate::controller::device::open_registration::OpenRegistration;
use crate::schedule::permits::Lane;

const QUEUED: &str = "The device waits for its turn: only so many registrations a minute are made (the operator's --registrations-per-minute, spec.rateLimit of the integration). status.devices.pending of the integration counts those that wait.";

/// No message changes by itself: the time is that of the one wait.
fn registering(open: &OpenRegistration) -> String {
    let at = open.operation.ask_at().wall.strftime("%H:%M:%S");
    format!(
        "DPS has accepted the registration and is still assigning the device; it asks to be asked again at {at} UTC, and is asked then."
    )
}

impl Subject<'_> {
    pub(super) fn call_due(&self) -> Option<Decision> {
        let (call, lane) = self.why()?;
        let stranded = self.stranded();
        let waiting = match &self.snapshot.facts.open {
            Some(open) => self.until_asked_for(open, lane),
            None => self.backing_off(FailedWork::Registration).or_else(|| self.behind_canaries()),
        };
        let held = self.snapshot.device.spec.suspend || self.target.suspended || waiting.is_some();
        let behind_the_fleet = lane >= Lane::Fleet && !self.is_observed();
        // What a user asks of the Secret does not wait for DPS, unless both belong together; and a new
        // device is not done without one.
        if (held || behind_the_fleet || self.can_have_first_secret())
            && let Some(write) = self.secret_to_write_from_known_key()
        {
            return Some(write);
        }
        if self.snapshot.device.spec.suspend {
            return Some(stranded.unwrap_or_else(|| self.suspended()));
        }
        if self.target.suspended && stranded.is_some() {
            return stranded;
        }
        if self.target.suspended {
            return Some(Decision { verdict: self.held_up(), ..Decision::rest() });
        }
        if let Some(waiting) = waiting {
            return Some(match stranded {
                Some(stranded) => Decision { wake: waiting.wake, ..stranded },
                None => waiting,
            });
        }
        let step = Decision::step(Step::Call(call, lane));
        if let Some(failed) = self.failed() {
            return Some(Decision { verdict: Some(failed), ..step });
        }
        // What has fallen due stands in no status: one that says nothing of it would settle the device.
        let facts = self.snapshot.facts;
        let compared = lane >= Lane::Fleet && facts.trust == Trust::Sealed && facts.trigger.is_none();
        if (behind_the_fleet || compared) && self.snapshot.facts.provisioned() {
            // Others may be hours ahead of it; what is known of it is said now.
            return Some(Decision { verdict: self.settled().verdict, ..step });
        }
        let queued = || Verdict { reason: Reason::Queued, message: QUEUED.to_owned() };
        let queued = self.is_delayed(Delay::Queued).then(queued);
        Some(Decision { verdict: self.held_up().or(queued), ..step })
    }

    /// Which call is needed and how urgent it is; `None` when none is. A registration that DPS has accepted
    /// comes to its end first, also when it is of no use any more.
    fn why(&self) -> Option<(Call, Lane)> {
        let wanted = self.wanted_call();
        if self.snapshot.facts.open.is_none() {
            return wanted;
        }
        Some((Call::Poll, wanted.map_or(Lane::Changed, |(_, lane)| lane)))
    }

    fn wanted_call(&self) -> Option<(Call, Lane)> {
        if self.registered().is_none() {
            return Some((self.first_call(), Lane::New));
        }
        if self.is_without_secret()
            && let Some(call) = self.call_for_first_secret()
        {
            return Some((call, Lane::New));
        }
        if let Some(lane) = self.asked_to_register() {
            return Some((Call::Register, lane));
        }
        match self.snapshot.facts.unresolved {
            Unresolved::Nothing => {}
            Unresolved::Displaced if self.never() => return Some((Call::Lookup, Lane::Changed)),
            Unresolved::Displaced => return Some((Call::Register, Lane::Changed)),
            // What was begun is brought to an end, with what is wanted now, with every policy.
            Unresolved::Begun => return Some((Call::Register, self.lane_of_change())),
        }
        if self.is_doubted() {
            let has_issued = self.registered().is_some_and(|registered| registered.issued.is_some());
            let registers = (self.has_certificate() || has_issued) && self.is_contradicted() && !self.never();
            return Some((if registers { Call::Register } else { Call::Lookup }, Lane::Changed));
        }
        if !self.never() {
            let lane = self.stranded().map(|_| Lane::Changed).or_else(|| self.changed());
            if let Some(lane) = lane.or_else(|| self.due()) {
                return Some((Call::Register, lane));
            }
        }
        if self.is_elsewhere() {
            // Only the scope that it was registered in knows where it is.
            return None;
        }
        if self.asked_to_look() {
            return Some((Call::Lookup, Lane::Changed));
        }
        (self.snapshot.facts.trigger == Some(Trigger::DriftCheck)).then_some((Call::Lookup, Lane::Fleet))
    }

    /// DPS wants to be asked at a later time. Whoever asks to look again has it asked now. A provisioned
    /// device stays as it is, and says what is known of it if others may be hours ahead of it.
    fn until_asked_for(&self, open: &OpenRegistration, lane: Lane) -> Option<Decision> {
        let at = open.operation.ask_at();
        if at.mono <= self.snapshot.now || self.asked_to_look() {
            return None;
        }
        let verdict = if !self.snapshot.facts.provisioned() {
            Some(Verdict { reason: Reason::Registering, message: registering(open) })
        } else if lane >= Lane::Fleet && !self.is_observed() && self.snapshot.facts.failure.is_none() {
            self.settled().verdict
        } else {
            None
        };
        Some(Decision { step: Step::Nothing, verdict, wake: Some(at.mono) })
    }

    fn first_call(&self) -> Call {
        // DPS may hold something else than what is recorded, which a lookup would not mend.
        let is_resolved = self.snapshot.facts.unresolved == Unresolved::Nothing;
        let is_recorded = is_resolved && self.is_recorded_without_seal();
        let looks = self.settings.looks_first || is_recorded;
        // Which certificate the hub knows no lookup tells: it has to be the one that is given to the device. And none
        // comes of a lookup.
        let registers = self.has_certificate() || self.target.issued.is_some();
        let looks = looks && (self.never() || is_recorded || !registers);
        let adopts = looks && self.snapshot.facts.trigger != Some(Trigger::NotFound);
        if adopts { Call::Adopt } else { Call::Register }
    }

    /// A device is new until it has its Secret: one whose integration, key or payload has changed
    /// meanwhile is not the fleet's work, and was never provisioned as far as its policy goes.
    fn call_for_first_secret(&self) -> Option<Call> {
        let registered = self.registered()?;
        let of_no_use =
            self.is_elsewhere() || !self.has_credential_of(registered) || self.answer_lost(registered);
        of_no_use.then(|| self.first_call())
    }

    /// Its first Secret can be written from what is known, and nothing is in its way.
    fn can_have_first_secret(&self) -> bool {
        let failed = self.snapshot.facts.failure.as_ref().map(|failure| failure.work);
        self.is_without_secret() && !self.is_elsewhere() && failed != Some(FailedWork::Secret)
    }

    /// No Secret was ever written for it.
    fn is_without_secret(&self) -> bool {
        self.snapshot.facts.secret.is_none()
    }

    /// Tokens are the one reason that counts with every policy.
    fn asked_to_register(&self) -> Option<Lane> {
        let handled = &self.snapshot.facts.served;
        if self.settings.token.is_some_and(|token| handled.token.as_deref() != Some(token)) {
            return Some(Lane::Changed);
        }
        let fleet = self.target.token.as_deref();
        fleet.filter(|token| handled.integration_token.as_deref() != Some(*token)).map(|_| Lane::Fleet)
    }

    /// What was registered no longer matches.
    fn changed(&self) -> Option<Lane> {
        let registered = self.registered()?;
        if registered.lacks_issued() && self.secret_is_off(registered) {
            return Some(Lane::Changed);
        }
        let changed =
            self.is_other_registration() || (self.answer_lost(registered) && self.secret_is_off(registered));
        if changed {
            return Some(self.lane_of_change());
        }
        if self.is_other_key() && !self.target.credentials.in_use().kind().is_shared() {
            let urgent = self.registration_expires_soon();
            return Some(if urgent { Lane::Changed } else { self.lane_of_change() });
        }
        let other = self.target.credentials.other();
        let lane = if registered.credential == other { Lane::Last } else { Lane::Fleet };
        self.is_other_key().then_some(lane)
    }

    /// A change of the defaults concerns the fleet, a change of the object one device: then it has a
    /// payload of its own, or the status was not written for this generation.
    fn lane_of_change(&self) -> Lane {
        let own = self.snapshot.device.spec.payload.is_some() || self.is_elsewhere();
        if own || !self.is_observed() { Lane::Changed } else { Lane::Fleet }
    }

    fn due(&self) -> Option<Lane> {
        let asked = self.snapshot.facts.trigger.filter(|asked| *asked != Trigger::DriftCheck);
        self.issued_is_due().or_else(|| asked.map(|_| Lane::Fleet))
    }

    fn is_other_registration(&self) -> bool {
        self.registered().is_some_and(|registered| {
            self.is_elsewhere()
                // A hash of another version is adopted, unless the user has changed something since.
                || registered
                    .hash
                    .map_or(!self.is_observed(), |hash| hash != registered_hash(self.settings, self.target))
        })
    }

    /// It was registered in another id scope than the integration's.
    fn is_elsewhere(&self) -> bool {
        self.registered().is_some_and(|registered| registered.scope != self.target.scope())
    }

    /// Nothing is left to do, or nothing before the fleet's work.
    pub(super) fn settled(&self) -> Decision {
        if self.snapshot.device.spec.suspend {
            return self.suspended();
        }
        let hub = self.registered().map_or("", |registered| registered.hub.as_str());
        let left_out = self.left_out();
        let message = if left_out.is_empty() {
            format!("Assigned to {hub}.")
        } else {
            let left_out = left_out.join(" and ");
            format!("Assigned to {hub}. Not applied, because reprovision.policy is Never: {left_out}.")
        };
        Decision::say(Reason::Provisioned, message)
    }

    fn suspended(&self) -> Decision {
        let held = "spec.suspend is true: no DPS operation is started for this device.";
        // What changes for all devices of the integration is no write for each that is suspended.
        let own = self.snapshot.device.spec.payload.is_some() || self.is_elsewhere();
        if self.never() || !own || !self.is_other_registration() {
            return Decision::say(Reason::Suspended, held);
        }
        let message = format!("{held} Its changed payload or id scope is registered when it is false again.");
        Decision::say(Reason::Suspended, message)
    }

    /// What policy Never leaves out.
    fn left_out(&self) -> Vec<&'static str> {
        let changes = [
            (self.is_other_registration(), "the changed payload or id scope"),
            (self.is_other_key(), "the new key"),
            (
                self.snapshot.facts.trigger == Some(Trigger::NotFound),
                "that DPS has no assignment for it any more",
            ),
        ];
        changes.into_iter().filter(|(is, _)| self.never() && *is).map(|(_, what)| what).collect()
    }

    /// A device that failed goes on saying why until it is tried again.
    fn failed(&self) -> Option<Verdict> {
        let Facts { failure, open, .. } = self.snapshot.facts;
        let failure = failure.as_ref().filter(|f| f.work == FailedWork::Registration && open.is_none())?;
        self.verdict_of(failure)
    }

    /// What a new device says while its integration keeps it waiting.
    fn held_up(&self) -> Option<Verdict> {
        self.is_delayed(Delay::HeldUp).then(|| not_ready(self.snapshot.device))
    }

    /// True for a new device that waits for this reason.
    fn is_delayed(&self, delay: Delay) -> bool {
        self.snapshot.delay == delay && !self.snapshot.facts.provisioned()
    }
}
