//! How an integration fares, together with the permits that its gate limits.

mod outages;
mod own;
mod trials;

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Canary, Change, Health, Known, Next, Pair};
use crate::api::conditions::Reason;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::CredentialKind::GroupKey;
use crate::dps::error::{Detail, DpsError, Refusal, Unreachable};
use crate::dps::ids::IdScope;
use crate::fleet::uid::Uid;
use crate::schedule::permits::{Ended, Gate, Lane, Permit, Permits};
use crate::schedule::turns::Party;

/// The integration's own devices.
const OWN: Party = Party { namespace: 7, integration: 1 };

const MINUTE: Duration = Duration::from_secs(60);

/// An integration with a single credential.
fn one() -> Pair {
    Pair { asked_for: issuer(1), other: None }
}

fn device(number: u32) -> Canary {
    Canary { device: number, uid: Uid::parse(&format!("00000000-0000-0000-0000-{number:012}")) }
}

fn issuer(filler: u8) -> CredentialId {
    CredentialId::parse(GroupKey, &format!("{filler:016x}")).unwrap()
}

/// Nothing has changed about how DPS is reached.
fn known(accepted: bool) -> Known {
    Known { accepted, proven: accepted, same_for_dps: false }
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Accepted,
    Refused,
    Unreachable,
    ServerError,
    /// DPS answered, and that says nothing about the key.
    Answered,
    /// It was made for an earlier revision.
    Unknown,
}

fn error(outcome: Outcome) -> Option<DpsError> {
    match outcome {
        Outcome::Accepted | Outcome::Unknown => None,
        Outcome::Refused => Some(DpsError::Unauthorized(Refusal::of(issuer(1)))),
        Outcome::Unreachable => Some(DpsError::Unreachable(Unreachable::Connect)),
        Outcome::ServerError => Some(DpsError::Server { retry_after: None, detail: Detail::default() }),
        Outcome::Answered => Some(DpsError::Conflict(Detail::default())),
    }
}

/// Why calls go one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrow {
    Refused(u32),
    Down(usize),
}

/// One integration and the permits of its scope.
struct Driven {
    health: Health,
    permits: Permits,
}

impl Driven {
    fn new(per_minute: u32, accepted: bool, waiters: u32) -> (Self, Instant) {
        let now = Instant::now();
        let mut driven = Self { health: Health::default(), permits: Permits::new(per_minute, 1000) };
        driven.configured(accepted, now);
        for waiter in 0..waiters {
            assert!(driven.permits.enqueue(OWN, waiter, Lane::New, now));
        }
        (driven, now)
    }

    fn configured(&mut self, accepted: bool, now: Instant) {
        self.health.configured(one(), known(accepted));
        let scope = IdScope::parse("0ne1").unwrap();
        self.permits.admit(1, 7, &scope, self.health.gate(), now);
    }

    fn recall_refusal(&mut self, now: Instant) {
        self.health.recall_refusal(Unusable::new(Reason::Unauthorized, "m"), now);
        self.permits.set_gate(1, self.health.gate());
    }

    fn answered(&mut self, permit: &Permit, outcome: Outcome, now: Instant) {
        let error = error(outcome);
        let answer = Answer {
            device: device(permit.waiter),
            issuer: issuer(1),
            error: error.as_ref(),
            throttled: false,
            newcomers: false,
        };
        self.health.answered(&answer, now);
        self.permits.set_gate(1, self.health.gate());
    }

    fn accepted(&mut self, permit: Permit, now: Instant) {
        self.permits.admitted(&permit);
        self.answered(&permit, Outcome::Accepted, now);
    }

    fn finished(&mut self, permit: Permit, outcome: Outcome, now: Instant) {
        let ended = if matches!(outcome, Outcome::Accepted) { Ended::Admitted } else { Ended::Answered };
        self.permits.finished(permit, ended, now);
        if !matches!(outcome, Outcome::Unknown) {
            self.answered(&permit, outcome, now);
        }
        // A device that should try again does.
        if self.health.retry_at(device(permit.waiter).uid, now).is_some() {
            self.permits.enqueue_first(OWN, permit.waiter, Lane::New, now);
        }
    }

    fn narrow(&self) -> Option<Narrow> {
        match (self.health.down_for.all().len(), self.health.refusals) {
            (0, 0) => None,
            (0, refusals) => Some(Narrow::Refused(refusals)),
            (outages, _) => Some(Narrow::Down(outages)),
        }
    }

    /// Grants everything that may be granted, each call ending at once with `outcome`, until `until`;
    /// returns the times of the grants.
    fn run(&mut self, from: Instant, until: Instant, outcome: Outcome) -> Vec<Instant> {
        let (mut now, mut grants) = (from, Vec::new());
        while now < until {
            while let Some(permit) = self.permits.poll(now) {
                grants.push(now);
                self.finished(permit, outcome, now);
            }
            now = self.permits.next_at().unwrap_or(until).max(now + Duration::from_millis(1));
        }
        grants
    }
}

fn seconds(grants: &[Instant], from: Instant) -> Vec<u64> {
    grants.iter().map(|grant| (*grant - from).as_secs()).collect()
}

#[test]
fn an_integration_that_was_never_accepted_has_one_call_in_flight() {
    let (mut queue, now) = Driven::new(600, false, 5);
    let permit = queue.permits.poll(now).unwrap();
    assert_eq!(queue.permits.poll(now), None);
    assert_eq!(queue.permits.next_at(), None);
    queue.finished(permit, Outcome::Accepted, now);
    assert!(queue.permits.poll(now).is_some() && queue.permits.poll(now).is_some());
}

#[test]
fn the_others_do_not_wait_for_the_end_of_the_first_operation() {
    let (mut queue, now) = Driven::new(600, false, 5);
    let first = queue.permits.poll(now).unwrap();
    assert!(queue.permits.is_awaited(&first));
    queue.accepted(first, now);
    assert!(queue.permits.poll(now).is_some() && queue.permits.poll(now).is_some());
}

#[test]
fn a_wrong_key_costs_three_refusals_and_then_one_try_a_minute_and_longer() {
    let (mut queue, now) = Driven::new(600, false, 100);
    let grants = queue.run(now, now + MINUTE * 8, Outcome::Refused);
    assert_eq!(seconds(&grants, now), [0, 0, 0, 60, 180, 420]);
    assert_eq!(queue.narrow(), Some(Narrow::Refused(6)));
}

#[test]
fn a_refusal_from_before_the_start_costs_no_new_canaries() {
    let (mut queue, now) = Driven::new(600, false, 10);
    queue.recall_refusal(now);
    let grants = queue.run(now, now + MINUTE * 4, Outcome::Refused);
    assert_eq!(seconds(&grants, now), [60, 180]);
}

#[test]
fn a_changed_key_is_tried_within_ten_seconds_and_changes_refill_nothing() {
    let (mut queue, now) = Driven::new(600, false, 1000);
    let mut grants = queue.run(now, now + Duration::from_millis(50), Outcome::Refused);
    let mut at = now;
    // One wrong key is pasted after the other, twenty a second.
    while at < now + MINUTE * 2 {
        at += Duration::from_millis(50);
        queue.configured(false, at);
        grants.extend(queue.run(at, at + Duration::from_millis(50), Outcome::Refused));
    }
    assert_eq!(seconds(&grants[..4], now), [0, 0, 0, 10], "{:?}", seconds(&grants, now));
    for from in &grants {
        let in_a_minute = grants.iter().filter(|at| *at >= from && **at < *from + MINUTE).count();
        assert!(in_a_minute <= 6, "{in_a_minute}");
    }
}

#[test]
fn another_route_has_to_prove_itself_before_it_shares_the_rate_and_the_key_stays_accepted() {
    let mut health = Health::default();
    health.configured(one(), Known { accepted: true, proven: false, same_for_dps: false });
    assert_eq!(health.gate(), Gate::NEWCOMER);
    assert!(health.accepted());

    let accepted =
        Answer { device: device(1), issuer: issuer(1), error: None, throttled: false, newcomers: true };
    health.answered(&accepted, Instant::now());

    assert_eq!(health.gate(), Gate::OPEN);
}

#[test]
fn what_dps_asks_a_newcomer_to_wait_is_waited_for_by_it_alone_and_edits_do_not_end_it() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(false));
    for (asked, waits) in [(Some(MINUTE * 10), MINUTE * 10), (None, Duration::from_secs(10))] {
        let error = DpsError::Throttled { retry_after: asked, detail: Detail::default() };
        let answer = Answer {
            device: device(1),
            issuer: issuer(1),
            error: Some(&error),
            throttled: false,
            newcomers: true,
        };
        health.answered(&answer, now);
        assert_eq!(health.paused_until(), Some(now + waits));
        assert_eq!(health.trouble().map(|trouble| trouble.reason), Some(Reason::Throttled));
    }
    health.configured(one(), Known { same_for_dps: true, ..known(false) });
    assert_eq!(health.gate().closed_until(), Some(now + Duration::from_secs(10)));
    health.configured(one(), known(false));
    assert_eq!(health.gate().closed_until(), None, "another key or another host is not throttled");

    let paid = DpsError::Throttled { retry_after: Some(MINUTE), detail: Detail::default() };
    let answer = Answer {
        device: device(1),
        issuer: issuer(1),
        error: Some(&paid),
        throttled: true,
        newcomers: false,
    };
    health.answered(&answer, now);
    assert_eq!(health.paused_until(), None, "the scope waits");
}

#[test]
fn an_enrollment_or_a_hub_that_does_not_take_the_device_shows_that_the_key_is_right() {
    let detail = || Detail { code: Some(401_002), ..Detail::default() };
    for (error, accepted) in [
        (DpsError::AllocationFailed(detail()), true),
        (DpsError::AllocationInterrupted(detail()), true),
        (DpsError::Disabled(detail()), true),
        (DpsError::Conflict(detail()), false),
        (DpsError::NotFound(detail()), false),
    ] {
        let (mut health, now) = (Health::default(), Instant::now());
        health.configured(one(), known(false));
        let (device, issuer) = (device(1), issuer(1));
        let answer = Answer { device, issuer, error: Some(&error), throttled: false, newcomers: true };
        let change = health.answered(&answer, now);
        assert_eq!((change.accepted, health.accepted()), (accepted, accepted), "{error:?}");
    }
}

#[test]
fn what_a_user_asks_for_is_tried_at_once_unless_dps_has_asked_to_wait() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(true));
    health.recall_refusal(Unusable::new(Reason::Unauthorized, "m"), now);
    assert!(health.try_now(now));
    assert_eq!((health.gate().closed_until(), health.gate().others_not_before), (None, None));
    assert!(!health.try_now(now), "it is open");
    health.recall_pause(now + MINUTE);
    assert!(!health.try_now(now));
    assert_eq!(health.gate().closed_until(), Some(now + MINUTE));
}

#[test]
fn one_device_that_is_refused_again_and_again_does_not_condemn_an_accepted_key() {
    let (mut queue, now) = Driven::new(60_000, true, 1);
    for minute in 0..5 {
        let at = now + MINUTE * minute;
        let permit = queue.permits.poll(at).unwrap();
        queue.finished(permit, Outcome::Refused, at);
        assert!(queue.permits.enqueue(OWN, permit.waiter, Lane::New, at));
    }
    assert_eq!(queue.narrow(), Some(Narrow::Refused(1)));
}

#[test]
fn two_devices_that_are_refused_in_turn_do_not_condemn_an_accepted_key_either() {
    let (mut queue, now) = Driven::new(60_000, true, 0);
    for (minute, waiter) in [0, 1, 0, 1, 0].into_iter().enumerate() {
        let at = now + MINUTE * u32::try_from(minute).unwrap();
        queue.permits.enqueue(OWN, waiter, Lane::New, at);
        let permit = queue.permits.poll(at).unwrap();
        queue.finished(permit, Outcome::Refused, at);
    }
    assert_eq!(queue.narrow(), Some(Narrow::Refused(2)));
}

#[test]
fn a_refusal_of_a_credential_that_is_not_in_use_says_nothing() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(true));
    let refused = error(Outcome::Refused);
    for number in 0..10 {
        let answer = Answer {
            device: device(number),
            issuer: issuer(2),
            error: refused.as_ref(),
            throttled: false,
            newcomers: false,
        };
        let change = health.answered(&answer, now);
        assert_eq!((change.next, change.report), (Next::Nothing, false));
    }
    assert!(health.accepted() && health.trouble().is_none() && !health.is_blocked());
}

#[test]
fn trouble_is_said_once_and_ends_with_the_first_success() {
    let (mut health, now) = (Health::default(), Instant::now());
    health.configured(one(), known(false));
    let mut answered = |outcome| {
        let error = error(outcome);
        let answer = Answer {
            device: device(1),
            issuer: issuer(1),
            error: error.as_ref(),
            throttled: false,
            newcomers: false,
        };
        let change = health.answered(&answer, now);
        (change.report, change.wake_waiting, health.trouble().map(|trouble| trouble.reason))
    };
    assert_eq!(answered(Outcome::Refused), (true, true, Some(Reason::Unauthorized)));
    assert_eq!(answered(Outcome::Refused), (false, false, Some(Reason::Unauthorized)));
    assert_eq!(answered(Outcome::Accepted), (true, true, None));
    assert_eq!(answered(Outcome::Unreachable), (true, true, Some(Reason::EndpointUnreachable)));
    assert_eq!(answered(Outcome::Answered), (true, true, None), "any answer shows that it is there");
}
