//! The status has another writer.

use serde_json::json;
use tokio::time::Instant;

use super::{FACTORY, SECOND, Situation, keys, reason, settled};
use crate::api::conditions::Reason;
use crate::api::integration::DpsIntegrationStatus;
use crate::api::names::RECONCILE_REQUESTED_AT;
use crate::engine::integrations::reporting::Reporting;
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Stored;

/// As an operator with other flags would say.
fn suspended(status: &mut DpsIntegrationStatus) {
    status.conditions[0].reason = "Suspended".to_owned();
}

/// Seconds until the status is written, when somebody else has just written over it.
fn overwritten(situation: &mut Situation, change: impl FnOnce(&mut DpsIntegrationStatus)) -> (u64, bool) {
    let before = situation.now;
    situation.overwrite(change);
    situation.now = situation.next_report(false).unwrap();
    assert!(situation.is_due());
    let report = situation.report().unwrap();
    situation.version += 1;
    situation.written(Ok(situation.version));
    ((situation.now - before).as_secs(), report.contested)
}

#[test]
fn a_status_that_somebody_else_keeps_changing_is_written_after_growing_waits_and_that_is_said_once() {
    let mut situation = Situation::usable(json!({}));
    situation.write();

    let rounds: Vec<_> = (0..11).map(|_| overwritten(&mut situation, suspended)).collect();

    let (waits, said): (Vec<u64>, Vec<bool>) = rounds.into_iter().unzip();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(said.iter().position(|said| *said), Some(1));
    assert_eq!(
        (said.iter().filter(|said| **said).count(), situation.registry.contested(situation.now)),
        (1, 1)
    );
    situation.now += SECOND * 1200;
    assert_eq!(situation.registry.contested(situation.now), 0);
}

#[test]
fn any_field_that_somebody_else_changes_counts_and_not_only_the_conditions() {
    let changes: [fn(&mut DpsIntegrationStatus); 4] = [
        |status| status.credentials = None,
        |status| status.accepted_id_scope = Some("0ne9".to_owned()),
        |status| status.last_handled_reconcile_at = Some("x".to_owned()),
        |status| status.observed_generation = Some(77),
    ];
    for change in changes {
        let mut situation = Situation::usable(json!({}));
        situation.annotate(RECONCILE_REQUESTED_AT, "1");
        situation.show_keys(keys(1, 2));
        situation.write();
        let mut next = || {
            situation.overwrite(change);
            situation.is_due()
        };
        assert!(!next());
    }
}

#[test]
fn a_status_that_says_what_would_be_written_is_left_alone_whoever_wrote_it() {
    let mut situation = Situation::usable(json!({}));
    situation.write();

    for _ in 0..20 {
        // Another operator of the same opinion writes at another time.
        situation.overwrite(|status| status.conditions[0].last_transition_time.0 += SECOND);
        situation.now += SECOND;
        assert!(situation.report().is_none());
    }

    assert_eq!(situation.registry.contested(situation.now), 0);
    situation.refuse(1);
    assert!(situation.is_due(), "what is news is written at once");
}

#[test]
fn a_write_that_the_watch_shows_before_it_has_ended_is_ours() {
    let mut situation = Situation::usable(json!({}));
    situation.write();
    for device in 1..=3 {
        situation.refuse(device);
        situation.accept();
        situation.refuse(device);
        let Some(report) = situation.report() else { continue };
        let mut seen = situation.object();
        seen.status = Some(report.status);
        situation.observe(seen);
        let version = situation.version;
        situation.written(Ok(version));
        assert!(situation.is_due() && situation.report().is_none());
    }
}

#[test]
fn counters_of_another_opinion_are_written_at_most_once_in_ten_seconds() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();
    let counted = situation.now;

    situation.overwrite(|status| status.devices.as_mut().unwrap().total = 7);
    situation.now += SECOND * 2;

    assert!(situation.report().is_none(), "they were written two seconds ago");
    let next = situation.next_report(true).unwrap();
    assert_eq!(next, counted + SECOND * 10);
    situation.now = next;
    assert_eq!(situation.write().devices.unwrap().total, 1);
}

#[test]
fn a_condition_is_written_at_once_while_counters_wait_and_takes_none_along() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();
    situation.overwrite(|status| status.devices.as_mut().unwrap().total = 7);
    situation.now += SECOND * 2;
    assert!(situation.report().is_none());

    situation.refuse(1);

    assert!(situation.is_due());
    let status = situation.write();
    assert_eq!((reason(&status), status.devices.unwrap().total), (Some(Reason::Unauthorized), 7));
}

#[test]
fn a_person_who_changes_the_object_waits_for_no_other_writer() {
    let mut situation = Situation::usable(json!({}));
    situation.write();
    let _: Vec<_> = (0..8).map(|_| overwritten(&mut situation, suspended)).collect();
    situation.overwrite(suspended);
    assert!(!situation.is_due());

    situation.annotate(RECONCILE_REQUESTED_AT, "now");

    assert!(situation.is_due());
    assert_eq!(situation.write().last_handled_reconcile_at.as_deref(), Some("now"));
    situation.overwrite(suspended);
    assert!(!situation.is_due());
}

#[test]
fn however_often_something_is_asked_for_the_status_is_written_once_a_second() {
    let mut situation = Situation::usable(json!({}));
    let start = situation.now;
    let mut writes = 0;
    for number in 0..600 {
        situation.annotate(RECONCILE_REQUESTED_AT, &number.to_string());
        situation.now = start + SECOND / 10 * number;
        if situation.is_due() {
            situation.write();
            writes += 1;
        }
    }
    assert!((60..=70).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn a_conflict_with_an_object_that_is_known_already_is_tried_again_at_once() {
    let mut situation = Situation::usable(json!({}));
    situation.report().unwrap();
    // The watch is faster than the answer.
    situation.overwrite(|status| *status = DpsIntegrationStatus::default());

    situation.written(Err(ApiError::Conflict));

    assert!(situation.is_due());
    situation.write();
}

#[test]
fn a_status_that_the_api_server_refuses_is_said_once_for_each_reason() {
    let mut reporting = Reporting::due();
    let invalid = |field: &str| Err(ApiError::Invalid(field.to_owned()));
    let forbidden = Err(ApiError::Forbidden("no right".to_owned()));
    let stored = Ok(Stored { version: 1, status: None });
    for (number, (result, said)) in [
        (Err(ApiError::Unavailable), false),
        (invalid(".spec.idScope"), true),
        (invalid(".spec.idScope"), false),
        (Err(ApiError::Conflict), false),
        (Err(ApiError::Unavailable), false),
        (invalid(".spec.idScope"), false),
        (forbidden.clone(), true),
        (forbidden.clone(), false),
        (stored, false),
        (forbidden, true),
    ]
    .into_iter()
    .enumerate()
    {
        let now = Instant::now();
        reporting.begin(1, false, now);
        assert_eq!(reporting.ended(&result, 1, 0, now), said, "{number}");
        assert_eq!(reporting.is_unwritten(), result.is_err());
    }
}

#[test]
fn another_accepted_id_scope_is_written_over_and_unlocks_nothing() {
    let mut situation = Situation::accepted(json!({}));
    situation.write();

    situation.overwrite(|status| status.accepted_id_scope = Some("0ne9".to_owned()));

    assert_eq!(situation.registry.accepted_scope(situation.factory), Some("0ne1"));
    situation.now = situation.next_report(false).unwrap();
    assert_eq!(situation.write().accepted_id_scope.as_deref(), Some("0ne1"));
    // Of an integration that DPS has never accepted it says nothing.
    let mut stranger = Situation::usable(json!({}));
    stranger.write();
    stranger.overwrite(|status| status.accepted_id_scope = Some("0ne9".to_owned()));
    assert_eq!(stranger.registry.accepted_scope(stranger.factory), None);
}

#[test]
fn conflicts_without_an_end_are_tried_again_once_a_second() {
    let mut situation = Situation::usable(json!({}));
    let (start, mut tries) = (situation.now, 0);
    for number in 0..3000 {
        situation.now = start + SECOND / 50 * number;
        if situation.is_due() {
            situation.report().unwrap();
            tries += 1;
            situation.overwrite(|status| *status = DpsIntegrationStatus::default());
            situation.written(Err(ApiError::Conflict));
        }
    }
    assert!((60..=70).contains(&tries), "{tries} tries in a minute");
}

#[test]
fn another_object_of_the_same_name_begins_without_the_other_writer() {
    let mut situation = Situation::usable(json!({}));
    situation.write();
    let _: Vec<_> = (0..8).map(|_| overwritten(&mut situation, suspended)).collect();

    // Deleted and created again, seen as one event.
    let mut object = super::object(FACTORY, json!({}));
    object.metadata.uid = Some("another".to_owned());
    object.status = Some(DpsIntegrationStatus::default());
    situation.observe(object);

    assert!(situation.is_due() && situation.report().is_some_and(|report| !report.contested));
    assert_eq!(situation.registry.contested(situation.now), 0);
}
