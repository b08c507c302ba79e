//! What an integration says while nothing is wrong with it.

use super::*;
use crate::dps::error::{Detail, Unreachable};

fn said(status: &DpsIntegrationStatus) -> &str {
    &find(&status.conditions, ConditionType::Ready).unwrap().message
}

fn moving(pending: i32) -> Counts {
    Counts { rotation: Rotation { total: 127, pending, excluded: 0 }, ..Counts::default() }
}

#[test]
fn it_says_whether_its_key_was_tried_and_how_far_a_rotation_is() {
    let paused = json!({"rollout": {"paused": true}});
    for (spec, health, pending, says, state) in [
        (json!({}), Health::default(), 0, "Not tried yet", "Ready"),
        (json!({}), accepted(), 0, "DPS accepts the key.", "Ready"),
        (
            json!({}),
            accepted(),
            63,
            "Moving to the Primary key: 64 of 127 devices moved, at most 600 a minute",
            "Ready",
        ),
        (paused, accepted(), 20, "paused by spec.rollout.paused: 107 of 127", "Ready"),
        (json!({"suspend": true}), accepted(), 0, "DPS accepts the key.", "Suspended"),
        (json!({}), refused(), 127, "DPS refused the credentials", "Failed"),
    ] {
        let integration = integration(spec);
        let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
        let status = render(&integration, &view(&usable, &health, &moving(pending)), NOW);
        assert!(said(&status).contains(says), "{}", said(&status));
        assert_eq!(serde_json::to_value(status.state).unwrap(), state, "{}", said(&status));
    }
}

#[test]
fn a_column_has_how_far_a_rotation_is_and_what_holds_it() {
    for (rollout, health, progress) in [
        (json!({}), accepted(), "64/127"),
        (json!({"rollout": {"paused": true}}), accepted(), "64/127 paused"),
        (json!({"rollout": {"paused": true}}), refused(), "64/127 blocked"),
    ] {
        let integration = integration(rollout);
        let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
        let status = render(&integration, &view(&usable, &health, &moving(63)), NOW);
        assert_eq!(status.key_rotation.unwrap().progress.as_deref(), Some(progress));
    }
}

#[test]
fn what_version_0_1_0_said_of_an_integration_is_worth_no_write_and_anything_else_is() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let (health, refused, counts) = (accepted(), refused(), Counts::default());
    let wanted = render(&integration, &view(&usable, &health, &counts), NOW);
    let mut early = wanted.clone();
    early.state = None;
    early.conditions[0].message = "The configuration is valid and nothing is known to be wrong.".to_owned();
    integration.status = Some(early.clone());
    assert!(is_equal(&integration, &wanted));

    let moving = moving(62);
    let warned = View { warning: Some("Look at this."), ..view(&usable, &health, &counts) };
    for news in [view(&usable, &health, &moving), view(&usable, &refused, &counts), warned] {
        assert!(!is_equal(&integration, &render(&integration, &news, NOW)), "{news:?}");
    }
    early.conditions[0].message = "Something else.".to_owned();
    integration.status = Some(early);
    assert!(!is_equal(&integration, &wanted));
}

fn answered(error: &DpsError, throttled: bool) -> Health {
    let mut health = accepted();
    for number in 0..CANARIES {
        let (device, issuer) = (device(number), key_id(1));
        let answer = Answer { device, issuer, error: Some(error), throttled, newcomers: false };
        health.answered(&answer, Instant::now());
    }
    health
}

#[test]
fn a_pause_is_said_with_its_end_which_is_written_again_only_when_it_has_become_later() {
    let mut integration = integration(json!({}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let error = DpsError::Throttled { retry_after: None, detail: Detail::default() };
    let (health, counts) = (answered(&error, true), Counts::default());
    let until = |second| Some(Timestamp::from_second(second).unwrap());
    let mut seen = Vec::new();
    for second in [120, 125, 140] {
        let throttled = View { throttled_until: until(second), ..view(&usable, &health, &counts) };
        let status = render(&integration, &throttled, NOW);
        seen.push((
            said(&status).split("Calls go on").nth(1).unwrap().to_owned(),
            is_equal(&integration, &status),
        ));
        integration.status = Some(status);
    }
    let expected = [(" at 00:02:00 UTC.", false), (" at 00:02:00 UTC.", true), (" at 00:02:20 UTC.", false)];
    assert_eq!(seen, expected.map(|(text, same)| (text.to_owned(), same)));
}

#[test]
fn what_cannot_be_reached_is_named_once_also_after_a_restart() {
    let integration = integration(json!({"hostname": "dps.azure-devices-provisioning.net"}));
    let usable = resolved(&integration, good_keys(), Referred::Missing).unwrap().unwrap();
    let health = answered(&DpsError::Unreachable(Unreachable::Dns), false);
    let counts = Counts::default();
    let status = render(&integration, &view(&usable, &health, &counts), NOW);
    let message = said(&status).to_owned();
    assert!(message.contains("cannot be resolved; check") && message.contains("dps.azure"), "{message}");
    let mut recalled = Health::default();
    recalled.recall_trouble(Unusable::new(Reason::EndpointUnreachable, message.clone()));
    assert_eq!(said(&render(&integration, &view(&usable, &recalled, &counts), NOW)), message);
}
