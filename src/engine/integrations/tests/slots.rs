//! Which of two keys is used.

use super::{
    MINUTE, Situation, admitted, and, both_keys, closed_until, gated, key_id, keys, reason, swapped,
    with_payload,
};
use crate::api::attestation::KeySlot::{Primary, Secondary};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::engine::integrations::Change;
use crate::schedule::permits::Gate;

#[test]
fn three_refusals_bring_the_other_key_into_use_as_a_newcomer() {
    let mut situation = Situation::usable(both_keys(Primary));

    let change = situation.refuse_three();

    assert_eq!(change, swapped(Gate::NEWCOMER));
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(2), 2));
    assert!(situation.registry.gauges()[0].fallen_back);
    situation.accept();
    let status = situation.write();
    assert_eq!(reason(&status), Some(Reason::Available));
    assert_eq!(status.credentials.unwrap().in_use, Some(Secondary));
}

#[test]
fn another_key_that_dps_has_accepted_before_is_used_without_trouble() {
    let mut situation = Situation::accepted(both_keys(Secondary));
    situation.write();
    situation.declare(both_keys(Primary));

    let change = situation.refuse_three();

    assert_eq!(change, swapped(Gate::OPEN));
    assert_eq!(situation.target().credentials.in_use(), key_id(2));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn if_both_keys_are_refused_the_one_that_was_asked_for_stays_in_use_behind_a_closed_gate() {
    let mut situation = Situation::usable(both_keys(Primary));
    situation.refuse_three();

    let both_refused = situation.refuse_three();
    let closed = closed_until(situation.now + MINUTE);
    situation.now += MINUTE;
    let refused_again = situation.refuse(1);

    assert_eq!(both_refused, Change { wake_devices: true, ..gated(closed) });
    assert_eq!(refused_again, gated(closed_until(situation.now + MINUTE * 2)));
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(1), 3));
    assert!(!situation.registry.gauges()[0].fallen_back);
}

#[test]
fn the_other_key_stays_in_use_until_one_of_the_keys_changes() {
    let mut situation = Situation::fallen_back();
    situation.show_keys(Referred::Missing);

    let same_keys =
        [situation.show_keys(keys(1, 2)), situation.declare(and(both_keys(Primary), with_payload()))];

    assert_eq!(same_keys, [admitted(Gate::OPEN), admitted(Gate::OPEN)]);
    assert_eq!(situation.target().credentials.in_use(), key_id(2));

    let mended = situation.show_keys(keys(3, 2));

    assert_eq!((mended, situation.target().credentials.in_use()), (admitted(Gate::NEWCOMER), key_id(3)));
}
