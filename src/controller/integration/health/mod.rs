//! How an integration fares with DPS: whether its credential is accepted, whether the instance
//! answers, which of two credentials works. Pure: answers and times in, what should follow out.
//!
//! Acceptance is counted per issuer of trust (today: an enrollment group's key). A credential that
//! vouches for one device only says nothing about the others when it is refused.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::conditions::Reason;
use crate::controller::failure;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::CredentialId;
use crate::dps::error::DpsError;
use crate::schedule::Waiter;
use crate::schedule::backoff::doubling;
use crate::schedule::permits::{self, Gate};

/// Devices that try a new credential, and refusals in a row before one is taken for wrong: a single
/// one could concern one device only.
pub const CANARIES: u32 = 3;
/// Server errors in a row before an instance is taken for down.
const SERVER_ERRORS: u32 = 3;
/// Refused devices that are remembered.
const REMEMBERED: usize = 16;
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_CAP: Duration = Duration::from_secs(3600);
const DOWN_FIRST: Duration = Duration::from_secs(5);
const DOWN_CAP: Duration = Duration::from_secs(600);

/// How a call that was made with a permit ended.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub device: Waiter,
    /// Of the credential that the call was made with.
    pub issuer: CredentialId,
    /// `None`: DPS assigned the device, or accepted the request.
    pub error: Option<&'a DpsError>,
    /// DPS has asked the id scope to wait.
    pub throttled: bool,
    /// The call was paid as a newcomer's: what DPS says of the rate concerns this integration alone.
    pub newcomers: bool,
}

/// What an answer changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// DPS has accepted the credential of the call.
    pub accepted: bool,
    /// The status may have to say something else.
    pub report: bool,
    /// Trouble has begun or ended: devices that wait have to know.
    pub wake_waiting: bool,
    pub next: Next,
}

/// What should be done about a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    #[default]
    Nothing,
    /// One device was refused with a credential that works for others: one of those should be looked
    /// up, so that a few devices that DPS refuses for themselves do not condemn the credential of all.
    AskAnother,
    /// The credential is refused: the other one should be tried.
    TryOther,
}

/// Which of two credentials is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fallback {
    /// The one that was asked for; the other was not tried since the credentials changed.
    #[default]
    AsAskedFor,
    /// The one that was asked for is refused, and the other one is used.
    OtherInUse,
    /// Both are refused; the one that was asked for has to be mended.
    BothRefused,
}

/// Where a fallback leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// To the other credential, which starts with a clean record.
    ToOther,
    /// Back to the one that was asked for, whose refusals still count.
    Back,
}

/// What is known of a configuration before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// DPS has accepted the credential for the present scope,
    pub accepted: bool,
    /// and a credential through the present host with the present trusted roots.
    pub proven: bool,
    /// Credential and route are those that were configured before.
    pub same_for_dps: bool,
}

/// What answers have shown of an integration.
#[derive(Clone, Debug)]
pub struct Health {
    issuer: Option<CredentialId>,
    /// DPS accepted the issuer for the present scope.
    accepted: bool,
    /// It did so through the host and with the trusted roots that are configured now.
    proven: bool,
    /// Refusals (401) since the last acceptance.
    refusals: u32,
    /// Devices refused since: the same one once more says nothing about an accepted credential.
    refused: Vec<Waiter>,
    /// 5xx answers in a row.
    server_errors: u32,
    /// Times in a row that the instance was found down.
    outages: u32,
    /// 429 answers in a row to calls that were paid as a newcomer's.
    throttles: u32,
    /// No call is made before this time.
    not_before: Option<Instant>,
    trouble: Option<Trouble>,
    fallback: Fallback,
}

/// What is wrong. The first failure of its kind is kept, so that repeating it writes nothing.
#[derive(Clone, Debug)]
struct Trouble {
    code: Option<i32>,
    said: Unusable,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            issuer: None,
            accepted: false,
            proven: false,
            refusals: 0,
            refused: Vec::new(),
            server_errors: 0,
            outages: 0,
            throttles: 0,
            not_before: None,
            trouble: None,
            fallback: Fallback::AsAskedFor,
        }
    }
}

impl Health {
    /// DPS accepted the credential in use for the present scope.
    pub fn accepted(&self) -> bool {
        self.accepted
    }

    /// What is wrong, if anything is: refused, unreachable, throttled.
    pub fn trouble(&self) -> Option<&Unusable> {
        self.trouble.as_ref().map(|trouble| &trouble.said)
    }

    /// The other credential is used instead of the one that was asked for.
    pub fn has_fallen_back(&self) -> bool {
        self.fallback == Fallback::OtherInUse
    }

    /// Every canary was refused: no other device is registered until something changes.
    pub fn is_blocked(&self) -> bool {
        self.outages == 0 && self.refusals >= CANARIES && !self.accepted
    }

    /// How its calls are to be limited.
    pub fn gate(&self) -> Gate {
        let trusted = self.accepted && self.proven && self.refusals == 0;
        Gate {
            one_at_a_time: !trusted || self.outages > 0,
            // Newcomers and refused credentials do not spend the rate of the scope.
            own_budget: !trusted,
            not_before: self.not_before,
        }
    }

    /// A configuration is in use from now on. Refusals and outages are forgotten: what changed may
    /// have mended them. That DPS throttles is not, unless it is another credential or route.
    pub fn configured(&mut self, issuer: CredentialId, known: Known) {
        let Known { accepted, proven, same_for_dps } = known;
        let pause = self.not_before.filter(|_| same_for_dps && self.throttles > 0);
        let throttles = pause.map_or(0, |_| self.throttles);
        self.issuer = Some(issuer);
        self.proven = proven;
        self.reopen(accepted);
        (self.not_before, self.throttles) = (pause, throttles);
    }

    /// Until when DPS has asked this integration alone to wait.
    pub fn paused_until(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.throttles > 0)
    }

    /// The status has recorded that DPS refused this credential: after a start that still stands, and
    /// it is tried again after the first wait.
    pub fn recall_refusal(&mut self, said: Unusable, now: Instant) {
        self.trouble = Some(Trouble { code: None, said });
        self.accepted = false;
        self.refusals = CANARIES;
        self.not_before = Some(now + REFUSED_FIRST);
    }

    /// The status has recorded that DPS refused the credential that was asked for, while the other one
    /// is used: until DPS answers to that one it still stands. That one is tried at once.
    pub fn recall_trouble(&mut self, said: Unusable) {
        self.trouble = Some(Trouble { code: None, said });
    }

    /// What was wrong concerned another instance or credential.
    pub fn forget_trouble(&mut self) {
        self.trouble = None;
    }

    /// The credentials are others than before. `replaced`: the status has recorded that the other one
    /// is used.
    pub fn credentials_changed(&mut self, replaced: bool) {
        self.fallback = if replaced { Fallback::OtherInUse } else { Fallback::AsAskedFor };
    }

    fn reopen(&mut self, accepted: bool) {
        self.accepted = accepted;
        self.refusals = 0;
        self.refused.clear();
        self.server_errors = 0;
        self.outages = 0;
        self.throttles = 0;
        self.not_before = None;
    }

    /// Takes in how a call ended.
    pub fn answered(&mut self, answer: &Answer<'_>, now: Instant) -> Change {
        let before = self.in_short();
        self.count(answer, now);
        self.judge(answer);
        let after = self.in_short();
        Change {
            accepted: accepts(answer.error),
            report: before != after,
            wake_waiting: before.1.is_some() != after.1.is_some(),
            next: self.next_after(answer),
        }
    }

    /// What the status may have to say.
    fn in_short(&self) -> (bool, Option<Reason>) {
        (self.accepted, self.trouble.as_ref().map(|trouble| trouble.said.reason))
    }

    /// True if a refusal of this answer's credential says something about the one in use.
    fn concerns_issuer(&self, answer: &Answer<'_>) -> bool {
        answer.issuer.kind().is_shared() && self.issuer == Some(answer.issuer)
    }

    /// True if the credential itself was refused, and not the clock that a token was made with.
    fn condemns_issuer(&self, answer: &Answer<'_>) -> bool {
        let Some(DpsError::Unauthorized(refusal)) = answer.error else { return false };
        refusal.concerns_credential() && self.concerns_issuer(answer)
    }

    fn count(&mut self, answer: &Answer<'_>, now: Instant) {
        let server_error = matches!(answer.error, Some(DpsError::Server { .. }));
        self.server_errors = if server_error { self.server_errors + 1 } else { 0 };
        // Calls that were in flight together fail together: that is one outage, or one refusal.
        let known = self.not_before.is_some_and(|at| at > now);
        match answer.error {
            error if accepts(error) => {
                self.proven = true;
                self.reopen(true);
            }
            Some(DpsError::Unauthorized(_)) if !self.concerns_issuer(answer) => self.outages = 0,
            Some(DpsError::Unauthorized(_)) => {
                let repeated = self.accepted && self.refused.contains(&answer.device);
                if !known && !repeated {
                    self.refused_once_more(answer.device, now);
                }
            }
            Some(DpsError::Unreachable(_) | DpsError::Server { .. }) if known => {}
            Some(DpsError::Throttled { retry_after, .. }) if answer.newcomers => {
                self.outages = 0;
                self.throttles = self.throttles.saturating_add(1);
                self.not_before = Some(now + permits::pause(*retry_after, self.throttles));
            }
            Some(DpsError::Unreachable(_)) => self.down(now),
            Some(DpsError::Server { .. }) if self.server_errors >= SERVER_ERRORS => self.down(now),
            _ => self.outages = 0,
        }
    }

    fn refused_once_more(&mut self, device: Waiter, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        self.outages = 0;
        self.refused.push(device);
        self.refused.truncate(REMEMBERED);
        if self.refusals >= CANARIES {
            self.accepted = false;
            self.not_before = Some(now + doubling(REFUSED_FIRST, self.refusals - CANARIES + 1, REFUSED_CAP));
        }
    }

    fn down(&mut self, now: Instant) {
        self.outages = self.outages.saturating_add(1);
        self.not_before = Some(now + doubling(DOWN_FIRST, self.outages, DOWN_CAP));
    }

    fn judge(&mut self, answer: &Answer<'_>) {
        let reason = match answer.error {
            error if accepts(error) => {
                // Calls that were in flight when DPS began to throttle do not end its pause.
                self.keep_trouble(|reason| answer.throttled && reason == Reason::Throttled);
                return;
            }
            Some(DpsError::Throttled { .. }) => Reason::Throttled,
            _ if self.outages > 0 => Reason::EndpointUnreachable,
            Some(DpsError::Unauthorized(_)) if self.refusals > 0 && !self.accepted => Reason::Unauthorized,
            // DPS answered; what it said does not matter here.
            _ => return self.keep_trouble(|reason| reason != Reason::EndpointUnreachable),
        };
        let Some(error) = answer.error else { return };
        let detail = error.detail();
        let code = detail.and_then(|detail| detail.code);
        let same = |trouble: &Trouble| {
            trouble.said.reason == reason && (trouble.code == code || trouble.code.is_none())
        };
        if self.trouble.as_ref().is_some_and(same) {
            return;
        }
        let tracking = detail.and_then(|detail| detail.tracking_id.as_ref());
        let tracking =
            tracking.map(|id| format!(" Tracking id of the first refusal: {id}.")).unwrap_or_default();
        let said = Unusable::new(reason, format!("{}{tracking}", failure::message(error)));
        self.trouble = Some(Trouble { code, said });
    }

    fn keep_trouble(&mut self, keep: impl Fn(Reason) -> bool) {
        self.trouble = self.trouble.take().filter(|trouble| keep(trouble.said.reason));
    }

    fn next_after(&self, answer: &Answer<'_>) -> Next {
        // A wrong clock keeps calls back as a wrong key does, but another key would not help.
        if !self.condemns_issuer(answer) || self.outages > 0 {
            return Next::Nothing;
        }
        match self.refusals {
            0 => Next::Nothing,
            CANARIES.. => Next::TryOther,
            _ if self.accepted => Next::AskAnother,
            _ => Next::Nothing,
        }
    }

    /// The credential in use is refused and there is another one, `other`, of which the status says
    /// whether DPS accepted it. `None`: both have been tried.
    pub fn fall_back(&mut self, other: CredentialId, other_was_accepted: bool) -> Option<Swap> {
        match self.fallback {
            Fallback::AsAskedFor => {
                self.fallback = Fallback::OtherInUse;
                if other_was_accepted {
                    self.trouble = None;
                }
                self.issuer = Some(other);
                self.reopen(other_was_accepted);
                Some(Swap::ToOther)
            }
            Fallback::OtherInUse => {
                self.fallback = Fallback::BothRefused;
                self.issuer = Some(other);
                self.accepted = false;
                Some(Swap::Back)
            }
            Fallback::BothRefused => None,
        }
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

#[cfg(test)]
mod tests;
