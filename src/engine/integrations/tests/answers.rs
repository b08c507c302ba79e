//! What DPS answers.

use serde_json::json;

use super::{MINUTE, NOTHING, SECOND, Situation, canary, closed_until, gated, key_id, keys};
use crate::api::conditions::Reason;
use crate::dps::error::{Detail, DpsError, Unreachable};
use crate::engine::integrations::{Change, EndedCall};
use crate::schedule::permits::Gate;

#[test]
fn a_newcomer_that_is_refused_three_times_waits_for_a_minute() {
    let mut situation = Situation::usable(json!({}));
    let first_at = situation.now;

    let changes = [1, 2, 3].map(|device| {
        situation.now += SECOND;
        situation.refuse(device)
    });

    let first = Change { wake_waiting: true, ..gated(Gate::NEWCOMER) };
    assert_eq!(
        changes,
        [first, gated(Gate::NEWCOMER), Change { retry: true, ..gated(closed_until(situation.now + MINUTE)) }]
    );
    assert_eq!(situation.trouble(), (Some(Reason::Unauthorized), Some(first_at + SECOND)));
}

#[test]
fn acceptance_opens_the_gate_and_wakes_devices_that_wait_if_there_was_trouble() {
    for refused_before in [false, true] {
        let mut situation = Situation::usable(json!({}));
        if refused_before {
            situation.refuse(2);
        }
        situation.write();

        let change = situation.accept();

        assert_eq!(change, Change { wake_waiting: refused_before, claims: true, ..gated(Gate::OPEN) });
        assert_eq!(situation.trouble(), (None, None));
        assert!(situation.is_due());
        assert_eq!(situation.write().accepted_id_scope.as_deref(), Some("0ne1"));
    }
}

#[test]
fn an_answer_to_a_call_for_an_earlier_target_changes_nothing() {
    let mut situation = Situation::usable(json!({}));
    let (factory, revision) = (situation.factory, situation.target().revision);
    situation.show_keys(keys(3, 2));
    let answered = EndedCall {
        device: canary(1),
        revision,
        issuer: key_id(1),
        ca: None,
        error: None,
        throttled: false,
        newcomers: false,
    };

    let change = situation.registry.answered(factory, answered, situation.now);

    assert_eq!((change, situation.registry.accepted_scope(situation.factory)), (NOTHING, None));
    assert!(!situation.registry.is_present(factory, revision));
    assert!(situation.registry.is_present(factory, situation.target().revision));
}

#[test]
fn an_instance_that_cannot_be_reached_is_called_after_growing_waits() {
    let mut situation = Situation::accepted(json!({}));
    for (device, wait) in [(1, 5), (2, 10), (3, 20)] {
        let again_at = situation.now + SECOND * wait;

        let change = situation.answer(device, Some(&DpsError::Unreachable(Unreachable::Connect)));

        let gate = Gate { one_at_a_time: true, not_before: Some(again_at), ..Gate::OPEN };
        assert_eq!(change, Change { wake_waiting: wait == 5, ..gated(gate) });
        assert_eq!(situation.trouble().0, Some(Reason::EndpointUnreachable));
        situation.now = again_at;
    }
    assert_eq!(situation.accept(), Change { wake_waiting: true, ..gated(Gate::OPEN) });
}

#[test]
fn throttling_is_over_with_the_first_acceptance_after_its_pause() {
    let mut situation = Situation::accepted(json!({}));
    let error = DpsError::Throttled { retry_after: None, detail: Detail::default() };
    let late = EndedCall {
        device: canary(1),
        revision: 1,
        issuer: key_id(1),
        ca: None,
        error: None,
        throttled: true,
        newcomers: false,
    };
    let news = || Change { wake_waiting: true, ..gated(Gate::OPEN) };

    assert_eq!(situation.answer(1, Some(&error)), news());
    assert_eq!(situation.registry.answered(situation.factory, late, situation.now), gated(Gate::OPEN));
    assert_eq!(situation.trouble().0, Some(Reason::Throttled));
    assert_eq!(situation.accept(), news());
}

#[test]
fn each_429_has_the_status_looked_at_since_its_pause_may_be_longer() {
    let mut situation = Situation::accepted(json!({}));
    let throttled = DpsError::Throttled { retry_after: None, detail: Detail::default() };
    situation.answer(1, Some(&throttled));
    situation.write();
    situation.now += MINUTE;
    assert!(!situation.is_due());

    situation.answer(1, Some(&throttled));

    assert!(situation.is_due());
}

#[test]
fn another_device_is_asked_about_an_accepted_key_that_is_refused() {
    let mut situation = Situation::accepted(json!({}));

    let change = situation.refuse(1);

    assert_eq!(change, Change { ask_another: true, ..gated(Gate::NEWCOMER) });
    assert_eq!(situation.trouble(), (None, None));
}
