//! What is reported.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    FACTORY, MINUTE, SECOND, Situation, and, canary, key_id, keys, object, ready, reason, secret, settled,
    wall,
};
use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::api::references::Reference;
use crate::engine::integrations::EndedCall;
use crate::kube_io::error::ApiError;
use crate::telemetry::metrics::{IntegrationGauges, RotationGauges, Unserved};

#[test]
fn a_status_is_written_once_and_not_again_while_it_says_the_same() {
    let mut situation = Situation::usable(json!({}));

    let report = situation.report().unwrap();
    let was_writing = situation.registry.is_writing();
    situation.written(Ok(11_000));

    assert_eq!((reason(&report.status), was_writing), (Some(Reason::Available), true));
    assert!(!situation.registry.is_writing() && !situation.is_due());
    assert_eq!(situation.object().metadata.resource_version.as_deref(), Some("11000"));
    situation.version = 11_000;
    situation.declare(json!({}));
    assert!(situation.is_due() && situation.report().is_none());
}

#[test]
fn what_changes_during_a_write_is_reported_after_it_and_is_worth_one_event() {
    let mut situation = Situation::usable(json!({}));
    situation.report().unwrap();

    situation.refuse(1);

    assert!(!situation.is_due());
    situation.written(Ok(11_000));
    assert!(situation.is_due());
    let report = situation.report().unwrap();
    let events: Vec<_> = report.notes.iter().map(|note| note.reason.as_str()).collect();
    assert_eq!((reason(&report.status), events), (Some(Reason::Unauthorized), vec!["Unauthorized"]));
    situation.written(Ok(11_001));
    situation.refuse(2);
    assert!(!situation.is_due());
}

#[test]
fn a_status_that_met_a_conflict_is_written_after_ten_seconds_or_with_the_next_object() {
    for error in [ApiError::Conflict, ApiError::NotFound] {
        let mut situation = Situation::usable(json!({}));
        let refused = situation.report().unwrap();
        let again_at = situation.now + SECOND * 10;

        situation.written(Err(error.clone()));

        assert_eq!((situation.is_due(), situation.next_report(false)), (false, Some(again_at)));
        situation.now = again_at;
        assert!(situation.is_due() && situation.report().unwrap().status == refused.status);
        situation.written(Err(error));
        situation.declare(json!({}));
        assert!(situation.is_due());
    }
}

#[test]
fn a_status_that_the_api_server_did_not_take_is_written_after_growing_waits() {
    let mut situation = Situation::usable(json!({}));
    let fail = |situation: &mut Situation| {
        situation.report().unwrap();
        situation.written(Err(ApiError::Unavailable));
        let again_at = situation.next_report(false).unwrap();
        let wait = again_at - situation.now;
        situation.now = again_at;
        wait.as_secs()
    };

    let waits = [(), (), ()].map(|()| fail(&mut situation));

    assert!(matches!(waits, [5..=6, 10..=12, 20..=25]), "{waits:?}");
    situation.write();
    situation.refuse(1);
    assert!(matches!(fail(&mut situation), 5..=6), "a success ends the row");
}

#[test]
fn counters_are_taken_a_second_after_a_change_and_at_most_every_ten_seconds() {
    let mut situation = Situation::usable(json!({}));
    let start = situation.now;
    let mut counted_at = |milliseconds| {
        let at = start + Duration::from_millis(milliseconds);
        situation.registry.count_if_due(&situation.fleet, wall(at))
    };

    assert!(!counted_at(999) && counted_at(1000), "becoming usable is a change");
    assert!(!counted_at(60_000), "nothing has changed");
    situation.registry.recount(start + SECOND * 2);
    situation.registry.recount(start + SECOND * 9);
    assert_eq!(situation.next_report(false), None, "not every watch has been read");
    assert_eq!(situation.next_report(true), Some(start + SECOND * 11));
}

#[test]
fn counters_stay_as_written_while_not_every_watch_has_been_read() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();
    situation.device("fleet/b", FACTORY, settled());
    situation.count();

    let report = situation.registry.report(situation.factory, Some(MINUTE), false, wall(situation.now));

    let status = report.unwrap().status;
    assert_eq!(status.devices.unwrap().total, 1);
    assert_eq!(status.throttled_until.unwrap().0, Timestamp::from_second(60).unwrap());
}

#[test]
fn counters_stay_as_written_until_they_are_taken_for_the_present_target() {
    let mut situation = Situation::usable(json!({}));
    situation.device("fleet/a", FACTORY, settled());
    situation.count();
    situation.write();

    situation.annotate(REPROVISION_REQUESTED_AT, "1");

    assert!(situation.report().is_none(), "what was counted says nothing of this token");
    situation.count();
    assert!(situation.report().is_none(), "the device has not served it");
    situation.device("fleet/a", FACTORY, and(settled(), json!({"lastHandledIntegrationToken": "1"})));
    situation.count();
    assert_eq!(situation.write().last_handled_reprovision_token.as_deref(), Some("1"));
}

#[test]
fn checks_that_come_to_more_than_the_rate_of_the_scope_or_the_share_are_reported() {
    let share = json!({"rateLimit": {"registrationsPerMinute": 1}});
    let other_scope = json!({"idScope": "0ne2"});
    let none = json!({});
    for (own, other, other_devices, exceeded) in [
        (&none, &none, 0, None),
        (&share, &none, 0, Some("1 calls")),
        (&none, &none, 11, Some("2 calls")),
        (&none, &other_scope, 11, None),
        (&none, &share, 8, None),
    ] {
        let mut situation = Situation::accepted(own.clone());
        situation.observe(object("fleet/other", other.clone()));
        situation.show_keys(keys(1, 2));
        let other_sym = situation.fleet.names.intern("fleet/other");
        let revision = situation.registry.target(other_sym).unwrap().revision;
        let accepted = EndedCall {
            device: canary(1),
            revision,
            issuer: key_id(1),
            ca: None,
            error: None,
            throttled: false,
            newcomers: true,
        };
        situation.registry.answered(other_sym, accepted, situation.now);
        for (integration, devices) in [(FACTORY, 11), ("fleet/other", other_devices)] {
            let names = (0..devices).map(|number| format!("{integration}-{number}"));
            names.for_each(|name| situation.device(&name, integration, settled()));
        }

        situation.count();

        let conditions = situation.write().conditions;
        let found = find(&conditions, ConditionType::QuotaInsufficient);
        let says = |rate| found.is_some_and(|found| found.message.contains(rate));
        assert!(exceeded.map_or(found.is_none(), says), "{own} {other}: {found:?}");
    }
}

#[test]
fn devices_of_an_integration_that_dps_has_not_accepted_say_nothing_of_the_scopes_rate() {
    let mut situation = Situation::accepted(json!({}));
    situation.observe(object("other/stranger", json!({})));
    situation.show(&Reference { namespace: "other".to_owned(), ..secret("keys") }, keys(3, 4));
    for name in (0..100).map(|number| format!("other/{number}")) {
        situation.device(&name, "other/stranger", settled());
    }

    situation.count();

    let conditions = situation.write().conditions;
    assert!(find(&conditions, ConditionType::QuotaInsufficient).is_none());
}

#[test]
fn gauges_show_what_was_counted_and_reported() {
    let mut situation = Situation::usable(json!({}));
    let credential = json!({"type": "SymmetricKey", "fingerprint": key_id(9).to_string()});
    situation.device("fleet/a", FACTORY, and(settled(), json!({"credential": credential})));
    situation.device("fleet/b", FACTORY, ready("False", "Disabled"));

    situation.count();
    situation.write();

    let expected = IntegrationGauges {
        namespace: "fleet".to_owned(),
        name: "factory".to_owned(),
        ready: true,
        reason: "Available".to_owned(),
        devices: [("ready", 1), ("pending", 1), ("failed", 0), ("suspended", 0)],
        assigned: 1,
        hubs: vec![("hub-a".to_owned(), 1)],
        failures: vec![("Disabled".to_owned(), 1)],
        fallen_back: false,
        certificates: None,
        rotation: Some(RotationGauges { total: 1, pending: 1, blocked: false }),
    };
    assert_eq!(situation.registry.gauges(), [expected]);
}

#[test]
fn devices_without_an_integration_are_counted_by_their_namespace() {
    let mut situation = Situation::usable(json!({}));
    situation.device("plant/a", FACTORY, json!({}));
    situation.device("fleet/a", FACTORY, json!({}));
    situation.device("plant/b", FACTORY, json!({}));
    situation.device("fleet/b", "fleet/missing", json!({}));

    situation.count();

    let unserved = |namespace: &str, devices| Unserved { namespace: namespace.to_owned(), devices };
    assert_eq!(situation.registry.unserved(), [unserved("fleet", 1), unserved("plant", 2)]);
}
