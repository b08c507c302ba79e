//! What DPS says of a device's own credential.

use super::*;
use crate::dps::attestation::CredentialKind;
use crate::dps::clock_offset::{Off, TokenClock};
use crate::dps::scrub::Shown;

/// Of an integration whose devices share nothing.
fn per_device() -> Health {
    let mut health = Health::default();
    let pair = Pair { asked_for: CredentialId::OF_EACH_DEVICE, other: None };
    health.configured(pair, known(false));
    health
}

fn own_refusal() -> Refusal {
    Refusal::of(CredentialId::parse(CredentialKind::IndividualKey, "00000000000000ff").unwrap())
}

fn answer(health: &mut Health, number: u32, error: Option<&DpsError>, now: Instant) -> Change {
    let (device, issuer) = (device(number), CredentialId::OF_EACH_DEVICE);
    health.answered(&Answer { device, issuer, error, throttled: false, newcomers: true }, now)
}

fn unknown_scope() -> DpsError {
    let message = Shown::message("Id scope not found");
    DpsError::NotFound(Detail { http_status: Some(404), message, ..Detail::default() })
}

#[test]
fn refusals_of_any_number_of_devices_say_nothing_of_the_others() {
    let (mut health, now) = (per_device(), Instant::now());
    for number in 1..=10 {
        for error in [DpsError::Unauthorized(own_refusal()), DpsError::NotFound(Detail::default())] {
            let change = answer(&mut health, number, Some(&error), now);
            assert_eq!((change.next, change.report), (Next::Nothing, false));
        }
    }
    assert_eq!((health.gate(), health.trouble().is_some()), (Gate::NEWCOMER, false));
    assert!(answer(&mut health, 11, None, now).accepted);
    assert!(health.accepted());
    assert_eq!(health.gate(), Gate::OPEN);
    answer(&mut health, 1, Some(&DpsError::Unauthorized(own_refusal())), now);
    assert_eq!((health.gate(), health.trouble().is_some()), (Gate::OPEN, false));
}

#[test]
fn what_concerns_all_is_said_and_holds_all() {
    let (mut health, now) = (per_device(), Instant::now());
    answer(&mut health, 1, Some(&unknown_scope()), now);
    assert_eq!(health.trouble().unwrap().reason, Reason::IdScopeNotFound);
    let gate = health.gate();
    assert_eq!((gate.not_before, gate.shared_not_before), (Some(now + MINUTE), None));

    let mut health = per_device();
    let clock = TokenClock::Unbelievable(Off::Behind);
    let off = DpsError::Unauthorized(Refusal { clock, ..own_refusal() });
    for number in 1..=3 {
        answer(&mut health, number, Some(&off), now);
    }
    assert_eq!(health.gate().not_before, Some(now + MINUTE));
    assert_eq!(health.trouble().unwrap().reason, Reason::Unauthorized);
}

#[test]
fn beside_a_group_it_neither_vouches_for_the_group_nor_against_it() {
    let now = Instant::now();
    for pair in [one(), Pair { other: Some(issuer(2)), ..one() }] {
        let mut health = Health::default();
        health.configured(pair, known(false));
        for error in [None, Some(DpsError::Unauthorized(own_refusal())), Some(unknown_scope())] {
            for number in 1..=4 {
                answer(&mut health, number, error.as_ref(), now);
            }
        }
        assert_eq!(
            (health.accepted(), health.gate(), health.trouble().is_some()),
            (false, Gate::NEWCOMER, false)
        );
    }
    // Which refusals have closed the gate for, they are kept out, and the others are not.
    let mut health = Health::default();
    health.configured(one(), known(false));
    let refused = DpsError::Unauthorized(Refusal::of(issuer(1)));
    for number in 1..=3 {
        let (device, issuer) = (device(number), issuer(1));
        let call = Answer { device, issuer, error: Some(&refused), throttled: false, newcomers: true };
        health.answered(&call, now);
    }
    answer(&mut health, 9, None, now);
    let gate = health.gate();
    assert_eq!((gate.not_before, gate.shared_not_before), (None, Some(now + MINUTE)));
    assert_eq!(health.trouble().unwrap().reason, Reason::Unauthorized);
    assert!(health.is_blocked());
}

#[test]
fn that_dps_answers_again_is_known_from_any_device() {
    let now = Instant::now();
    let mut health = Health::default();
    health.configured(one(), known(true));
    let down = DpsError::Unreachable(Unreachable::Connect);
    answer(&mut health, 1, Some(&down), now);
    assert_eq!(health.trouble().unwrap().reason, Reason::EndpointUnreachable);
    assert!(health.gate().not_before.is_some() && health.gate().shared_not_before.is_none());
    answer(&mut health, 1, None, now + MINUTE);
    assert!(health.trouble().is_none() && !health.gate().one_at_a_time);
}
