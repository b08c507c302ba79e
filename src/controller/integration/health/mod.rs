//! How an integration fares with DPS: whether its credential, enrollment group and id scope are
//! accepted, whether the instance answers, which of two credentials works. Pure: answers and times in,
//! what should follow out.
//!
//! Acceptance is counted per issuer of trust (today: an enrollment group's key). A credential that
//! vouches for one device only says nothing about the others when it is refused.

mod answers;
mod refused;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use tokio::time::Instant;

use self::refused::Canaries;
pub use self::refused::Canary;
pub use self::trial::Pair;
use self::trial::Trial;
use crate::api::backoff::doubling;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::CredentialId;
use crate::dps::error::DpsError;
use crate::fleet::uid::Uid;
use crate::schedule::permits::Gate;

/// Devices that try a new credential, and refusals in a row before one is taken for wrong: a single
/// one could concern one device only.
pub const CANARIES: u32 = 3;
/// Canaries that are remembered.
const REMEMBERED: usize = 3;
/// Server errors in a row before an instance is taken for down.
const SERVER_ERRORS: u32 = 3;
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_CAP: Duration = Duration::from_secs(3600);
/// Devices that were refused go first for so long, which is longer than a newcomer's budget has them
/// wait; then another takes their place: they may be gone.
const PRECEDENCE: Duration = Duration::from_secs(30);
const DOWN_FIRST: Duration = Duration::from_secs(5);
const DOWN_CAP: Duration = Duration::from_secs(600);
/// As many make the longest wait.
const DOWN_DEVICES: usize = 8;

/// How a call that was made with a permit ended.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub device: Canary,
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

/// What should be done about an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    #[default]
    Nothing,
    /// One device was refused with a credential that works for others: one of those should be looked
    /// up, so that a few devices that DPS refuses for themselves do not condemn the credential of all.
    AskAnother,
    /// The canaries should try once more, as soon as the gate opens.
    Retry,
    /// The other credential is in use from now on.
    UseOther,
    /// The credential that was asked for is in use again.
    UseAskedFor,
}

/// What is known of a configuration before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// DPS has accepted the credential in use for the present scope,
    pub accepted: bool,
    /// and a credential through the present host with the present trusted roots.
    pub proven: bool,
    /// Credential and route are those that were configured before.
    pub same_for_dps: bool,
}

/// What answers have shown of an integration.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pair: Option<Pair>,
    trial: Trial,
    /// DPS accepted the credential in use for the present scope.
    accepted: bool,
    /// It did so through the host and with the trusted roots that are configured now.
    proven: bool,
    /// Refusals of the credential in use since it was last accepted.
    refusals: u32,
    /// Devices refused since: the same one once more says nothing about an accepted credential.
    canaries: Canaries,
    /// Refusals of the other credential while it is tried.
    refusals_of_other: u32,
    /// Times in a row that refusals have closed the gate.
    closed: u32,
    /// When the credential that was asked for is asked again while the other one is in use, and how
    /// often it was.
    ask_again: Option<Instant>,
    asked_again: u32,
    /// 5xx answers in a row.
    server_errors: u32,
    /// Devices that found the instance down since it last answered.
    down_for: Canaries,
    /// 429 answers in a row to calls that were paid as a newcomer's.
    throttles: u32,
    /// No call is made before this time,
    not_before: Option<Instant>,
    /// and until this one only by canaries.
    precedence: Option<Instant>,
    trouble: Option<Trouble>,
}

/// What is wrong. The first failure of its kind is kept, so that repeating it writes nothing.
#[derive(Clone, Debug)]
struct Trouble {
    code: Option<i32>,
    said: Unusable,
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
        self.trial == Trial::OtherInUse
    }

    /// Every canary was refused: no other device is registered until something changes.
    pub fn is_blocked(&self) -> bool {
        self.refusals >= CANARIES && !self.accepted
    }

    /// How its calls are to be limited.
    pub fn gate(&self) -> Gate {
        let trusted = self.accepted && self.proven && self.refusals == 0;
        let prefers = self.is_blocked() && !self.canaries.all().is_empty();
        let shared = self.pair.is_none_or(|pair| pair.asked_for.kind().is_shared());
        let concerns_shared = shared && self.throttles == 0 && !self.is_down();
        Gate {
            one_at_a_time: !trusted || self.is_down(),
            // Newcomers and refused credentials do not spend the rate of the scope.
            own_budget: !trusted,
            not_before: self.not_before.filter(|_| !concerns_shared),
            shared_not_before: self.not_before.filter(|_| concerns_shared),
            others_not_before: self.precedence.filter(|_| prefers),
        }
    }

    /// Until when DPS has asked this integration alone to wait.
    pub fn paused_until(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.throttles > 0)
    }

    /// The devices that were refused while all others wait.
    pub fn canaries(&self) -> &[Canary] {
        if self.is_blocked() { self.canaries.all() } else { &[] }
    }

    /// The credential in use was refused for this device since it was last accepted.
    pub fn has_refused(&self, uid: Uid) -> bool {
        self.canaries.has(uid)
    }

    /// When a canary should try again, whatever it has met: `None` for other devices.
    pub fn retry_at(&self, uid: Uid, now: Instant) -> Option<Instant> {
        let is_canary = self.is_blocked() && self.canaries.has(uid);
        is_canary.then(|| self.not_before.unwrap_or(now))
    }

    /// The credential that a call is made with; `looks_up`: it moves nothing.
    pub fn credential(&self, looks_up: bool, now: Instant) -> Option<CredentialId> {
        let pair = self.pair?;
        let again = looks_up && self.is_to_be_asked_again(now);
        Some(if again { pair.asked_for } else { self.trial.credential(pair) })
    }

    fn is_to_be_asked_again(&self, now: Instant) -> bool {
        self.trial == Trial::OtherInUse && self.ask_again.is_some_and(|at| at <= now)
    }

    /// True if a lookup would show what is to be known next.
    pub fn asks(&self, now: Instant) -> bool {
        self.is_stuck(now) || (self.accepted && self.refusals > 0)
    }

    /// True if nothing goes on before DPS has answered another call, which no device need make.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let open = self.not_before.is_none_or(|at| at <= now);
        self.is_to_be_asked_again(now) || (open && self.is_blocked())
    }

    /// A call with this credential begins: one is enough to ask once more.
    pub fn begun(&mut self, issuer: CredentialId, now: Instant) {
        let asks_again = self.is_to_be_asked_again(now);
        if asks_again && self.pair.is_some_and(|pair| pair.asked_for == issuer) {
            self.ask_again_later(now);
        }
    }

    fn ask_again_later(&mut self, now: Instant) {
        self.asked_again = self.asked_again.saturating_add(1);
        self.ask_again = Some(now + doubling(REFUSED_FIRST, self.asked_again, REFUSED_CAP));
    }

    /// A configuration is in use from now on. Refusals and outages are forgotten: what changed may
    /// have mended them. That DPS throttles is not, unless it is another credential or route.
    pub fn configured(&mut self, pair: Pair, known: Known) {
        let Known { accepted, proven, same_for_dps } = known;
        let pause = self.not_before.filter(|_| same_for_dps && self.throttles > 0);
        let throttles = pause.map_or(0, |_| self.throttles);
        self.pair = Some(pair);
        if self.trial.goes_on() {
            self.trial = Trial::AsAskedFor;
        }
        self.proven = proven;
        self.reopen(accepted);
        (self.not_before, self.throttles) = (pause, throttles);
    }

    /// The status has recorded that DPS refused this credential: after a start that still stands, and
    /// it is tried again after the first wait.
    pub fn recall_refusal(&mut self, said: Unusable, now: Instant) {
        self.trouble = Some(Trouble { code: None, said });
        self.accepted = false;
        self.refusals = CANARIES;
        self.close(now);
    }

    /// The status has recorded that DPS refused the credential that was asked for, while the other one
    /// is used: until DPS answers to that one it still stands. That one is tried at once.
    pub fn recall_trouble(&mut self, said: Unusable) {
        self.trouble = Some(Trouble { code: None, said });
    }

    /// The status has recorded until when DPS asked this integration to wait.
    pub fn recall_pause(&mut self, until: Instant) {
        self.throttles = self.throttles.max(1);
        self.not_before = self.not_before.max(Some(until));
    }

    /// A user asks for a device: what was refused or did not answer may have been mended. What DPS asked
    /// to wait is waited for. True if that opens the gate.
    pub fn try_now(&mut self, now: Instant) -> bool {
        let closed = self.throttles == 0 && self.gate_opens_at().is_some_and(|at| at > now);
        if closed {
            self.not_before = None;
            self.precedence = None;
        }
        closed
    }

    fn gate_opens_at(&self) -> Option<Instant> {
        self.not_before.max(self.precedence)
    }

    /// What was wrong concerned another instance or credential.
    pub fn forget_trouble(&mut self) {
        self.trouble = None;
    }

    /// The credentials are others than before. `replaced`: the status has recorded that the other one
    /// is used.
    pub fn credentials_changed(&mut self, replaced: bool, now: Instant) {
        self.trial = if replaced { Trial::OtherInUse } else { Trial::AsAskedFor };
        self.asked_again = 0;
        self.ask_again_later(now);
    }

    fn reopen(&mut self, accepted: bool) {
        self.accepted = accepted;
        self.refusals = 0;
        self.canaries.clear();
        self.refusals_of_other = 0;
        self.closed = 0;
        self.server_errors = 0;
        self.down_for.clear();
        self.throttles = 0;
        self.not_before = None;
        self.precedence = None;
    }

    fn is_down(&self) -> bool {
        !self.down_for.all().is_empty()
    }

    /// A device has found the instance down. The wait grows with the devices that did, not with the times: it
    /// may be something in one device's own requests, and others wait no longer for that.
    fn down(&mut self, device: Canary, now: Instant) {
        self.down_for.add(device, DOWN_DEVICES);
        let devices = u32::try_from(self.down_for.all().len()).unwrap_or(u32::MAX);
        self.not_before = Some(now + doubling(DOWN_FIRST, devices, DOWN_CAP));
    }

    /// The canaries may go on at once.
    fn try_on(&mut self, now: Instant) {
        self.not_before = None;
        self.precedence = Some(now + PRECEDENCE);
    }

    fn close(&mut self, now: Instant) {
        self.closed = self.closed.saturating_add(1);
        let until = now + doubling(REFUSED_FIRST, self.closed, REFUSED_CAP);
        self.not_before = Some(until);
        self.precedence = Some(until + PRECEDENCE);
    }
}
