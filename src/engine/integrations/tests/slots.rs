//! Which of two keys is used.

use serde_json::json;

use super::{
    FACTORY, MINUTE, SECOND, Situation, admitted, and, both_keys, closed_until, gated, key_id, keys,
    open_to_canaries, reason, settled, swapped, with_payload,
};
use crate::api::attestation::KeySlot::{Primary, Secondary};
use crate::api::conditions::Reason;
use crate::api::references::Referred;
use crate::controller::events::EventReason;
use crate::engine::integrations::Change;
use crate::schedule::permits::Gate;

#[test]
fn after_three_refusals_the_same_devices_try_the_other_key_and_the_fleet_moves_only_on_proof() {
    let mut situation = Situation::usable(both_keys(Primary));

    let refused = situation.refuse_three();
    assert_eq!(refused, Change { retry: true, ..gated(open_to_canaries(situation.now)) });
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(1), 1));
    assert_eq!(reason(&situation.write()), Some(Reason::Unauthorized));

    let accepted = situation.accept();
    assert_eq!(accepted, Change { retry: true, claims: true, ..gated(open_to_canaries(situation.now)) });
    assert_eq!(situation.target().credentials.in_use(), key_id(1), "it may have passed");

    let proven = situation.refuse(2);
    assert_eq!(proven, Change { retry: true, wake_waiting: true, ..swapped(Gate::OPEN) });
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(2), 2));
    assert!(situation.registry.gauges()[0].fallen_back);
    let status = situation.write();
    assert_eq!(reason(&status), Some(Reason::Available));
    let credentials = status.credentials.unwrap();
    assert_eq!((credentials.in_use, credentials.working), (Some(Secondary), Some(Secondary)));
}

#[test]
fn a_refusal_that_passes_leaves_the_key_that_was_asked_for_in_use() {
    let mut situation = Situation::accepted(both_keys(Primary));
    situation.refuse_three();
    situation.accept();

    let passed = situation.accept();

    assert_eq!(passed, Change { wake_waiting: true, ..gated(Gate::OPEN) });
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(1), 1));
    assert_eq!(situation.trouble(), (None, None));
}

#[test]
fn if_both_keys_are_refused_the_one_that_was_asked_for_stays_in_use_behind_a_closed_gate() {
    let mut situation = Situation::usable(both_keys(Primary));
    situation.refuse_three();

    let both_refused = situation.refuse_three();

    assert_eq!(both_refused, Change { retry: true, ..gated(closed_until(situation.now + MINUTE)) });
    assert_eq!((situation.target().credentials.in_use(), situation.target().revision), (key_id(1), 1));
    assert!(!situation.registry.gauges()[0].fallen_back);
}

#[test]
fn that_a_rotation_is_blocked_is_said_with_the_refusal_that_blocks_it() {
    let mut situation = Situation::accepted(both_keys(Primary));
    for number in 0..5 {
        let other = json!({"credential": {"type": "SymmetricKey", "fingerprint": key_id(7).to_string()}});
        situation.device(&format!("fleet/{number}"), FACTORY, and(settled(), other));
    }
    situation.count();
    assert!(!situation.write().key_rotation.unwrap().blocked);

    situation.refuse_three();

    assert!(situation.write().key_rotation.unwrap().blocked);
    situation.accept();
    situation.accept();
    assert!(!situation.write().key_rotation.unwrap().blocked);
}

#[test]
fn that_a_rotation_is_blocked_does_not_wait_for_counters_to_be_written() {
    let mut situation = Situation::accepted(both_keys(Primary));
    let other = json!({"credential": {"type": "SymmetricKey", "fingerprint": key_id(7).to_string()}});
    situation.device("fleet/a", FACTORY, and(settled(), other));
    situation.count();
    situation.write();
    situation.overwrite(|status| status.devices.as_mut().unwrap().total = 7);
    situation.now += SECOND * 2;

    situation.refuse_three();

    let status = situation.write();
    assert_eq!((status.devices.unwrap().total, status.key_rotation.unwrap().blocked), (7, true));
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

#[test]
fn a_rotation_of_seconds_has_its_two_events_and_its_figures() {
    let mut situation = Situation::accepted(both_keys(Primary));
    let of = |key: u8| {
        let credential = json!({"type": "SymmetricKey", "fingerprint": key_id(key).to_string()});
        and(settled(), json!({"credential": credential}))
    };
    for number in 0..5 {
        situation.device(&format!("fleet/{number}"), FACTORY, of(1));
    }
    situation.count();
    situation.write();
    situation.now += SECOND;

    // Counters were written a second ago.
    situation.show_keys(keys(3, 2));
    let changed_at = situation.now;
    situation.count();
    assert_eq!(situation.now, changed_at, "it is counted at once");
    let begun = situation.report().unwrap();
    situation.version += 1;
    let (version, status) = (situation.version, begun.status.clone());
    situation.written(Ok(version));
    let rotation = status.key_rotation.unwrap();
    assert_eq!((rotation.total, rotation.pending), (5, 5));
    assert_eq!(begun.notes[0].reason, EventReason::KeyRotationStarted);

    for number in 0..5 {
        situation.device(&format!("fleet/{number}"), FACTORY, of(3));
    }
    situation.count();
    let completed = situation.report().unwrap();
    assert_eq!(completed.status.key_rotation, None);
    assert_eq!(completed.notes[0].reason, EventReason::KeyRotationCompleted);
}

#[test]
fn a_fleet_that_moves_to_the_other_key_is_counted_at_once() {
    let mut situation = Situation::accepted(both_keys(Primary));
    let of_first = json!({"credential": {"type": "SymmetricKey", "fingerprint": key_id(1).to_string()}});
    situation.device("fleet/a", FACTORY, and(settled(), of_first));
    situation.count();
    situation.write();
    situation.now += SECOND;

    situation.refuse_three();
    situation.accept();
    situation.refuse(2);

    let moved_at = situation.now;
    situation.count();
    assert_eq!((situation.now, situation.target().credentials.in_use()), (moved_at, key_id(2)));
    assert_eq!(situation.write().key_rotation.map(|rotation| rotation.pending), Some(1));
}

#[test]
fn however_often_keys_change_the_fleet_is_counted_once_a_second() {
    let mut situation = Situation::accepted(both_keys(Primary));
    situation.count();
    let counted_at = situation.now;
    for key in 3..9 {
        situation.show_keys(keys(key, 2));
        assert_eq!(situation.next_report(true), Some(counted_at + SECOND));
    }
}
