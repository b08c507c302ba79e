//! What answers of DPS show: counted, judged, and what should follow.

use tokio::time::Instant;

use super::refused::{Canary, Refused};
use super::trial::{Trial, Turn};
use super::{Answer, CANARIES, Change, Health, Next, REMEMBERED, SERVER_ERRORS, Trouble};
use crate::api::conditions::Reason;
use crate::controller::failure;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::CredentialId;
use crate::dps::error::DpsError;
use crate::schedule::permits;

impl Health {
    /// Takes in how a call ended.
    pub fn answered(&mut self, answer: &Answer<'_>, now: Instant) -> Change {
        let (before, not_before) = (self.in_short(), self.not_before);
        let next = self.count(answer, now);
        self.judge(answer, self.not_before != not_before);
        let after = self.in_short();
        Change {
            accepted: accepts(answer.error),
            report: before != after,
            wake_waiting: before.1.is_some() != after.1.is_some(),
            next,
        }
    }

    /// What the status may have to say.
    fn in_short(&self) -> (bool, Option<Unusable>, bool) {
        (self.accepted, self.trouble().cloned(), self.is_blocked())
    }

    fn count(&mut self, answer: &Answer<'_>, now: Instant) -> Next {
        let server_error = matches!(answer.error, Some(DpsError::Server { .. }));
        self.server_errors = if server_error { self.server_errors + 1 } else { 0 };
        // Calls that were in flight together fail together: that is one outage, or one refusal.
        let known = self.not_before.is_some_and(|at| at > now);
        if accepts(answer.error) {
            if self.is_of_one_device(answer.issuer) {
                self.down_for.clear();
                return Next::Nothing;
            }
            return self.accept(answer.issuer, now);
        }
        let is_down = match answer.error {
            Some(DpsError::Unreachable(_)) => true,
            Some(DpsError::Server { .. }) => self.server_errors >= SERVER_ERRORS,
            _ => false,
        };
        if is_down {
            if !known {
                self.down(answer.device, now);
            }
            return Next::Nothing;
        }
        if !server_error || !known {
            self.down_for.clear();
        }
        match answer.error {
            Some(DpsError::Throttled { retry_after, .. }) if answer.newcomers => {
                self.throttles = self.throttles.saturating_add(1);
                self.not_before = Some(now + permits::pause(*retry_after, self.throttles));
                Next::Nothing
            }
            _ if known => Next::Nothing,
            _ => match self.refused(answer) {
                Some(refused) => self.refuse(refused, answer, now),
                None => Next::Nothing,
            },
        }
    }

    /// It is a device's own, beside a credential that the others share: what DPS says of it is said of no other.
    fn is_of_one_device(&self, issuer: CredentialId) -> bool {
        let shared = self.pair.is_some_and(|pair| pair.asked_for.kind().is_shared());
        shared && !issuer.kind().is_shared()
    }

    /// What the answer speaks against that devices share.
    fn refused(&self, answer: &Answer<'_>) -> Option<Refused> {
        let refused = Refused::of(answer.error?)?;
        let counts = match refused {
            Refused::Credential | Refused::Enrollment => answer.issuer.kind().is_shared(),
            Refused::Clock | Refused::Scope => !self.is_of_one_device(answer.issuer),
        };
        counts.then_some(refused)
    }

    fn accept(&mut self, issuer: CredentialId, now: Instant) -> Next {
        let Some(pair) = self.pair else { return Next::Nothing };
        self.proven = true;
        let trial = self.trial;
        if issuer == pair.asked_for {
            self.trial = Trial::AsAskedFor;
            self.reopen(true);
            return if trial == Trial::OtherInUse { Next::UseAskedFor } else { Next::Nothing };
        }
        match trial {
            Trial::OtherInUse => self.reopen(true),
            // It says nothing of the one that was asked for, which is to be asked once more.
            Trial::OfOther | Trial::BothRefused(_) => {
                self.trial = Trial::AskedAgain;
                self.try_on(now);
                return Next::Retry;
            }
            Trial::AsAskedFor | Trial::AskedAgain => {}
        }
        Next::Nothing
    }

    fn refuse(&mut self, refused: Refused, answer: &Answer<'_>, now: Instant) -> Next {
        let Some(pair) = self.pair else { return Next::Nothing };
        let of_asked_for = answer.issuer == pair.asked_for;
        if !of_asked_for && Some(answer.issuer) != pair.other {
            return Next::Nothing;
        }
        match self.trial {
            Trial::AsAskedFor if of_asked_for => self.doubt(refused, answer.device, now),
            Trial::OtherInUse if !of_asked_for => self.doubt(refused, answer.device, now),
            Trial::OfOther if !of_asked_for => {
                self.refusals_of_other += 1;
                let enough = u32::try_from(self.canaries.all().len()).unwrap_or(CANARIES).max(1);
                if self.refusals_of_other >= enough {
                    self.trial = Trial::BothRefused(Turn::AskedFor);
                    self.close(now);
                } else {
                    self.try_on(now);
                }
                Next::Retry
            }
            Trial::AskedAgain if of_asked_for && refused == Refused::Credential => {
                self.trial = Trial::OtherInUse;
                self.reopen(true);
                self.trouble = None;
                self.asked_again = 0;
                self.ask_again_later(now);
                Next::UseOther
            }
            Trial::BothRefused(Turn::AskedFor) if of_asked_for => {
                self.trial = Trial::BothRefused(Turn::Other);
                self.try_on(now);
                Next::Retry
            }
            Trial::BothRefused(Turn::Other) if !of_asked_for => {
                self.trial = Trial::BothRefused(Turn::AskedFor);
                self.close(now);
                Next::Retry
            }
            // Of a call that was made before the trial went on.
            _ => Next::Nothing,
        }
    }

    /// The credential in use was refused.
    fn doubt(&mut self, refused: Refused, device: Canary, now: Instant) -> Next {
        if self.accepted && self.canaries.has(device.uid) {
            return Next::Nothing;
        }
        self.canaries.add(device, REMEMBERED);
        self.refusals = self.refusals.saturating_add(1);
        if refused == Refused::Scope {
            self.refusals = self.refusals.max(CANARIES);
        }
        if self.refusals < CANARIES {
            let doubted = self.accepted && refused == Refused::Credential;
            return if doubted { Next::AskAnother } else { Next::Nothing };
        }
        self.accepted = false;
        let has_other = self.pair.is_some_and(|pair| pair.other.is_some());
        if refused != Refused::Credential || !has_other {
            self.close(now);
            return Next::Retry;
        }
        if self.trial == Trial::OtherInUse {
            // The one that was asked for may be accepted by now.
            self.trial = Trial::BothRefused(Turn::AskedFor);
            self.try_on(now);
            return Next::UseAskedFor;
        }
        self.trial = Trial::OfOther;
        self.refusals_of_other = 0;
        self.try_on(now);
        Next::Retry
    }

    /// `once_more`: DPS still cannot be reached, by a call that was made to find that out.
    fn judge(&mut self, answer: &Answer<'_>, once_more: bool) {
        let said = match answer.error {
            error if accepts(error) => {
                // Calls that were in flight when DPS began to throttle do not end its pause, and that DPS
                // accepts one credential does not mean that it accepts the one in use.
                let accepted = self.accepted;
                return self.keep_trouble(|reason| match reason {
                    Reason::Throttled => answer.throttled,
                    Reason::EndpointUnreachable => false,
                    _ => !accepted,
                });
            }
            Some(error @ DpsError::Throttled { .. }) => {
                Unusable::new(Reason::Throttled, failure::message(error))
            }
            Some(error) if self.is_down() => {
                Unusable::new(Reason::EndpointUnreachable, failure::message(error))
            }
            Some(error) => match self.refused(answer).filter(|refused| self.is_said(*refused)) {
                Some(refused) => refused.said(error),
                // DPS answered; what it said does not matter here.
                None => return self.keep_trouble(|reason| reason != Reason::EndpointUnreachable),
            },
            None => return,
        };
        let detail = answer.error.and_then(DpsError::detail);
        let code = detail.and_then(|detail| detail.code);
        let same = |trouble: &Trouble| {
            let said_already = trouble.said.message.starts_with(&said.message);
            // What stands in the way may have changed: the proxy is back and refuses, the name resolves.
            let same_cause = said.reason != Reason::EndpointUnreachable || !once_more || said_already;
            let same_code = trouble.code == code || trouble.code.is_none();
            trouble.said.reason == said.reason && same_cause && same_code
        };
        if self.trouble.as_ref().is_some_and(same) {
            return;
        }
        let tracking = detail.and_then(|detail| detail.tracking_id.as_ref());
        let tracking =
            tracking.map(|id| format!(" Tracking id of the first refusal: {id}.")).unwrap_or_default();
        let said = Unusable::new(said.reason, format!("{}{tracking}", said.message));
        self.trouble = Some(Trouble { code, said });
    }

    /// A refused credential that was never accepted is said at once, what may concern one device only
    /// once it has met as many as there are canaries.
    fn is_said(&self, refused: Refused) -> bool {
        let of_all = matches!(refused, Refused::Credential | Refused::Clock);
        !self.accepted && (self.is_blocked() || (of_all && self.refusals > 0))
    }

    fn keep_trouble(&mut self, keep: impl Fn(Reason) -> bool) {
        self.trouble = self.trouble.take().filter(|trouble| keep(trouble.said.reason));
    }
}

/// True if DPS accepted the credential: before it says anything about the enrollment or the hubs, it
/// has accepted that.
fn accepts(error: Option<&DpsError>) -> bool {
    matches!(
        error,
        None | Some(
            DpsError::Disabled(_) | DpsError::AllocationFailed(_) | DpsError::AllocationInterrupted(_)
        )
    )
}
