//! Two credentials, what is refused beside them, and which devices find out.

use super::*;
use crate::dps::scrub::Shown;

const SECOND: Duration = Duration::from_secs(1);

fn two() -> Pair {
    Pair { asked_for: issuer(1), other: Some(issuer(2)) }
}

fn not_found(message: &str) -> DpsError {
    let detail = Detail { http_status: Some(404), code: Some(404_201), ..Detail::default() };
    DpsError::NotFound(Detail { message: Shown::message(message), ..detail })
}

/// One integration whose calls are answered one after the other.
struct Answered {
    health: Health,
    now: Instant,
}

impl Answered {
    fn new(pair: Pair, accepted: bool) -> Self {
        let (mut health, now) = (Health::default(), Instant::now());
        health.credentials_changed(false, now);
        health.configured(pair, known(accepted));
        Self { health, now }
    }

    fn call(&mut self, number: u32, credential: u8, error: Option<&DpsError>) -> Change {
        let answer = Answer {
            device: device(number),
            issuer: issuer(credential),
            error,
            throttled: false,
            newcomers: false,
        };
        self.health.answered(&answer, self.now)
    }

    fn refuse(&mut self, number: u32, credential: u8) -> Next {
        self.call(number, credential, error(Outcome::Refused).as_ref()).next
    }

    fn accept(&mut self, number: u32, credential: u8) -> Next {
        self.call(number, credential, None).next
    }

    fn refuse_three(&mut self, credential: u8) -> Vec<Next> {
        (1..=3).map(|number| self.refuse(number, credential)).collect()
    }

    /// The credential of the next call.
    fn next(&self) -> CredentialId {
        self.health.credential(false, self.now).unwrap()
    }

    fn fall_back(&mut self) {
        self.refuse_three(1);
        self.accept(1, 2);
        assert_eq!(self.refuse(2, 1), Next::UseOther);
    }

    fn reason(&self) -> Option<Reason> {
        self.health.trouble().map(|trouble| trouble.reason)
    }

    /// How long the gate is closed.
    fn waits(&self) -> Option<Duration> {
        Some(self.health.gate().closed_until()?.saturating_duration_since(self.now))
    }
}

#[test]
fn an_accepted_key_that_is_refused_is_asked_about_and_given_up_after_three_canaries() {
    let mut accepted = Answered::new(two(), true);
    assert_eq!(accepted.refuse_three(1), [Next::AskAnother, Next::AskAnother, Next::Retry]);
    let mut newcomer = Answered::new(two(), false);
    assert_eq!(newcomer.refuse_three(1), [Next::Nothing, Next::Nothing, Next::Retry]);
}

#[test]
fn a_fleet_moves_when_the_other_key_is_accepted_and_the_first_refused_once_more_after_that() {
    let mut answered = Answered::new(two(), true);
    answered.refuse_three(1);
    assert_eq!((answered.next(), answered.health.is_blocked(), answered.waits()), (issuer(2), true, None));

    assert_eq!(answered.accept(1, 2), Next::Retry);
    assert_eq!((answered.next(), answered.health.has_fallen_back()), (issuer(1), false));
    assert_eq!(answered.reason(), Some(Reason::Unauthorized), "the first one is still refused");

    assert_eq!(answered.refuse(2, 1), Next::UseOther);
    assert_eq!((answered.next(), answered.health.has_fallen_back()), (issuer(2), true));
    assert!(answered.health.accepted() && !answered.health.is_blocked() && answered.reason().is_none());
    assert_eq!(answered.health.gate(), Gate::OPEN);
}

#[test]
fn a_refusal_that_passes_moves_nothing() {
    let mut answered = Answered::new(two(), true);
    answered.refuse_three(1);
    answered.accept(1, 2);

    assert_eq!(answered.accept(2, 1), Next::Nothing);

    assert!(answered.health.accepted() && !answered.health.has_fallen_back());
    assert_eq!((answered.next(), answered.reason()), (issuer(1), None));
    assert_eq!(answered.health.gate(), Gate::OPEN);
}

#[test]
fn late_answers_of_calls_from_before_prove_nothing() {
    let mut answered = Answered::new(two(), true);
    answered.refuse_three(1);
    // In flight when the third was refused.
    assert_eq!(answered.refuse(4, 1), Next::Nothing);
    assert_eq!(answered.next(), issuer(2));
    answered.accept(1, 2);
    assert_eq!(answered.refuse(3, 2), Next::Nothing);
    assert_eq!(answered.call(1, 1, error(Outcome::Unreachable).as_ref()).next, Next::Nothing);
    assert_eq!((answered.next(), answered.health.has_fallen_back()), (issuer(1), false));
}

#[test]
fn two_refused_keys_cost_six_refusals_of_the_same_three_devices_and_then_both_are_tried_more_rarely() {
    let mut answered = Answered::new(two(), false);
    let first = answered.refuse_three(1);
    let second = answered.refuse_three(2);
    assert_eq!((first[2], second[2]), (Next::Retry, Next::Retry));
    assert_eq!(answered.waits(), Some(MINUTE));
    let canaries: Vec<u32> = answered.health.canaries().iter().map(|canary| canary.device).collect();
    assert_eq!(canaries, [1, 2, 3]);
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        answered.now = answered.health.gate().closed_until().unwrap();
        assert_eq!((answered.next(), answered.refuse(1, 1)), (issuer(1), Next::Retry));
        assert_eq!((answered.next(), answered.waits()), (issuer(2), None));
        assert_eq!(answered.refuse(1, 2), Next::Retry);
        assert_eq!(answered.waits(), Some(MINUTE * wait));
    }
}

#[test]
fn what_was_refused_passes_by_itself_whichever_of_both_keys_is_accepted_first() {
    for accepted in [1, 2] {
        let mut answered = Answered::new(two(), false);
        answered.refuse_three(1);
        answered.refuse_three(2);
        answered.now += MINUTE;
        if accepted == 1 {
            answered.accept(1, 1);
            assert!(answered.health.accepted() && !answered.health.has_fallen_back());
            // And it is judged as any other from then on.
            answered.refuse_three(1);
            assert_eq!(answered.next(), issuer(2));
        } else {
            answered.refuse(1, 1);
            assert_eq!(answered.accept(1, 2), Next::Retry);
            assert_eq!(answered.refuse(1, 1), Next::UseOther);
            assert!(answered.health.accepted() && answered.health.has_fallen_back());
        }
        assert_eq!(answered.reason().is_some(), accepted == 1);
    }
}

#[test]
fn while_the_other_key_is_used_the_first_is_asked_again_by_lookups_alone_and_returns_when_accepted() {
    let mut answered = Answered::new(two(), true);
    answered.fall_back();
    assert!(!answered.health.asks(answered.now));
    for wait in [1, 2, 4] {
        answered.now += MINUTE * wait;
        assert!(answered.health.asks(answered.now));
        assert_eq!(answered.next(), issuer(2), "a device is registered with what works");
        assert_eq!(answered.health.credential(true, answered.now), Some(issuer(1)));
        answered.health.begun(issuer(1), answered.now);
        assert_eq!(answered.health.credential(true, answered.now), Some(issuer(2)), "one call is enough");
        assert_eq!(answered.refuse(9, 1), Next::Nothing);
        assert!(answered.health.accepted() && answered.reason().is_none());
    }
    answered.now += MINUTE * 8;
    assert_eq!(answered.accept(9, 1), Next::UseAskedFor);
    assert!(answered.health.accepted() && !answered.health.has_fallen_back());
}

#[test]
fn if_the_other_key_is_refused_later_the_first_is_in_use_again_and_both_are_tried() {
    let mut answered = Answered::new(two(), true);
    answered.fall_back();
    assert_eq!(answered.refuse_three(2), [Next::AskAnother, Next::AskAnother, Next::UseAskedFor]);
    assert!(answered.health.is_blocked() && !answered.health.has_fallen_back());
    assert_eq!(answered.next(), issuer(1));
    assert_eq!((answered.refuse(1, 1), answered.next()), (Next::Retry, issuer(2)));
    assert_eq!((answered.refuse(1, 2), answered.waits()), (Next::Retry, Some(MINUTE)));
}

#[test]
fn canaries_go_first_and_another_takes_their_place_if_none_of_them_comes() {
    let mut answered = Answered::new(one(), false);
    answered.refuse_three(1);
    let (now, uid) = (answered.now, device(2).uid);
    let gate = answered.health.gate();
    assert_eq!(gate.shared_not_before, Some(now + MINUTE));
    assert_eq!(gate.others_not_before, Some(now + MINUTE + SECOND * 30));
    assert_eq!(answered.health.retry_at(uid, now), Some(now + MINUTE));
    assert_eq!(answered.health.retry_at(device(4).uid, now), None);
    // Its place in the index is another device's now.
    assert_eq!(answered.health.retry_at(Uid::parse("another"), now), None);
}

#[test]
fn another_device_in_the_place_of_a_refused_one_is_another_canary() {
    let mut answered = Answered::new(one(), true);
    for uid in ["one", "two", "three"] {
        let canary = Canary { device: 5, uid: Uid::parse(uid) };
        let refused = error(Outcome::Refused);
        let answer = Answer {
            device: canary,
            issuer: issuer(1),
            error: refused.as_ref(),
            throttled: false,
            newcomers: false,
        };
        answered.health.answered(&answer, answered.now);
    }
    assert!(answered.health.is_blocked());
}

#[test]
fn an_unknown_id_scope_is_said_with_the_first_answer_that_speaks_of_it() {
    for (message, accepted) in [("Id scope not found.", false), ("IdScope 0ne1 does not exist", true)] {
        let mut answered = Answered::new(two(), accepted);
        assert_eq!(answered.call(1, 1, Some(&not_found(message))).next, Next::Retry);
        assert_eq!((answered.reason(), answered.waits()), (Some(Reason::IdScopeNotFound), Some(MINUTE)));
        assert!(answered.health.is_blocked());
        assert_eq!(answered.next(), issuer(1), "another key would not help");
        let said = &answered.health.trouble().unwrap().message;
        assert!(said.contains("spec.idScope") && said.contains(message.trim_end_matches('.')), "{said}");
        answered.now += MINUTE;
        answered.accept(1, 1);
        assert_eq!(answered.reason(), None);
    }
}

#[test]
fn an_unknown_enrollment_is_said_after_three_devices_in_a_row_met_it() {
    for accepted in [false, true] {
        let mut answered = Answered::new(two(), accepted);
        let unknown = not_found("Enrollment not found.");
        answered.call(1, 1, Some(&unknown));
        answered.call(2, 1, Some(&unknown));
        assert_eq!((answered.reason(), answered.waits()), (None, None));
        answered.accept(3, 1);
        for number in 1..=2 {
            answered.call(number, 1, Some(&unknown));
        }
        assert_eq!(answered.reason(), None, "in a row");
        assert_eq!(answered.call(3, 1, Some(&unknown)).next, Next::Retry);
        assert_eq!((answered.reason(), answered.waits()), (Some(Reason::EnrollmentNotFound), Some(MINUTE)));
        assert!(answered.health.trouble().unwrap().message.contains("enrollment group"));
    }
}

#[test]
fn a_device_that_has_no_enrollment_of_its_own_does_not_condemn_an_accepted_integration() {
    let mut answered = Answered::new(one(), true);
    let unknown = not_found("Enrollment not found.");
    for _ in 0..10 {
        assert_eq!(answered.call(1, 1, Some(&unknown)).next, Next::Nothing);
    }
    assert!(answered.health.accepted() && answered.reason().is_none());
}
