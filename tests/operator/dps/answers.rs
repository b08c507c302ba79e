//! DPS answers something else than an assignment.

use std::collections::BTreeMap;

use dps_simulator::{Fault, FaultAction, HugeOf, RawBody, RegistrationStatus};
use serde_json::{Value, json};

use crate::world::objects::is_observed;
use crate::world::{GROUP, HUBS, INTEGRATION, Kind, SCOPE, World, condition};

fn message(object: &Value) -> String {
    condition(object, "Ready").map(|ready| ready.message).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_enrollment_stalls_a_device_until_it_is_enabled() {
    let world = World::start().await;
    world.dps.set_group_enabled(SCOPE, GROUP, false).unwrap();

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "Disabled").await;
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "Disabled");
    assert_eq!(condition(&device, "Registered").unwrap().reason, "Disabled");
    assert!(!condition(&device, "Ready").unwrap().is_true());
    assert!(world.find(Kind::Secret, "truck-1-hub").await.is_none());

    world.dps.set_group_enabled(SCOPE, GROUP, true).unwrap();
    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"labels": {"touched": "yes"}}}})).await;

    let device = world.wait_ready("truck-1").await;
    assert!(device["status"]["lastError"].is_null() && device["status"]["attempts"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_id_scope_is_reported_by_the_device_that_met_it_and_by_the_integration() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"idScope": "0neUNKNOWN"})).await;

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "EnrollmentNotFound").await;
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "EnrollmentNotFound");
    assert!(message(&device).contains("spec.idScope"), "{}", message(&device));
    let error = &device["status"]["lastError"];
    assert_eq!((&error["httpStatus"], &error["code"]), (&json!(404), &json!(404_201)));
    let integration = world.wait_integration(INTEGRATION, "IdScopeNotFound").await;
    assert_eq!(condition(&integration, "Stalled").unwrap().reason, "IdScopeNotFound");
    assert!(message(&integration).contains("spec.idScope"), "{}", message(&integration));
    assert!(integration["status"]["acceptedIdScope"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allocation_that_fails_is_reported_with_the_code_of_dps() {
    let world = World::accepted().await;
    let failed = FaultAction::Outcome {
        status: RegistrationStatus::Failed,
        error_code: Some(400_208),
        error_message: Some("No hub available.".to_owned()),
    };
    world.dps.inject(Fault::device("truck-1", failed)).unwrap();

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "AllocationFailed").await;
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "AllocationFailed");
    assert!(message(&device).contains("400208 No hub available."), "{}", message(&device));
    assert_eq!(device["status"]["lastError"]["code"], 400_208);
    assert_eq!(device["status"]["lastError"]["message"], "No hub available.");
    assert!(world.find(Kind::Secret, "truck-1-hub").await.is_none());
    assert!(condition(&world.wait_integration(INTEGRATION, "Available").await, "Stalled").is_none());
}

/// An answer that cannot be true.
struct InvalidAnswer {
    /// The device that gets it.
    device: &'static str,
    action: FaultAction,
    /// Words of the message that says what is wrong with it.
    words: &'static str,
}

fn invalid_answers(world: &World) -> Vec<InvalidAnswer> {
    let answer = |device, action, words| InvalidAnswer { device, action, words };
    let state = FaultAction::rewrite_state;
    let elsewhere = format!("https://localhost:{}/elsewhere", world.port());
    let text = |body: &str| FaultAction::json(body);
    vec![
        answer(
            "hub-suffix",
            state("assignedHub", json!("other.example")),
            "other.example is not under an allowed suffix",
        ),
        answer(
            "hub-suffix-inside",
            state("assignedHub", json!("a.azure-devices.net.evil.example")),
            "suffix",
        ),
        answer("hub-newline", state("assignedHub", json!("hub\nx.azure-devices.net")), "host name"),
        answer("hub-injection", state("assignedHub", json!("a;DeviceId=x.azure-devices.net")), "host name"),
        answer("hub-lookalike", state("assignedHub", json!("аzure.azure-devices.net")), "host name"),
        answer(
            "hub-long",
            state("assignedHub", json!(format!("{}.azure-devices.net", "h".repeat(300)))),
            "host name",
        ),
        answer("hub-missing", state("assignedHub", Value::Null), "no hub"),
        answer("device-missing", state("deviceId", Value::Null), "no hub or device id"),
        answer("device-other", state("deviceId", json!("another-device")), "device id"),
        answer("id-other", state("registrationId", json!("another-device")), "registration id"),
        answer("cut-off", FaultAction::Malformed, "JSON"),
        answer("portal", FaultAction::Html, "JSON"),
        answer("empty", text(""), "JSON"),
        answer("array", text("[]"), "JSON"),
        answer("number", text("{\"status\":7}"), "JSON"),
        answer("no-operation", text("{}"), "operation"),
        answer("payload-large", state("payload", json!({"text": "x".repeat(33_000)})), "32 KiB"),
        answer("redirected", FaultAction::Redirect { status: 307, location: elsewhere }, "redirect"),
        answer(
            "teapot",
            FaultAction::Answer { status: 203, headers: BTreeMap::new(), body: empty() },
            "status",
        ),
        answer("huge", FaultAction::Huge { bytes: 100_000_000, of: HugeOf::Space }, "256 KiB"),
        answer("nested", FaultAction::Huge { bytes: 200_000, of: HugeOf::Nesting }, "JSON"),
        answer("endless", FaultAction::Endless, "256 KiB"),
    ]
}

fn empty() -> RawBody {
    RawBody::Text(String::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_answers_are_refused_and_leave_no_secret() {
    let mut world = World::accepted().await;
    let answers = invalid_answers(&world);
    for answer in &answers {
        world.dps.inject(Fault::device(answer.device, answer.action.clone())).unwrap();
        world.device(answer.device).await;
    }

    for InvalidAnswer { device: name, words, .. } in &answers {
        let device = world.wait_reason(name, "InvalidResponse").await;
        let said = message(&device);
        assert!(said.contains(words), "{name}: {said}");
        assert_eq!(condition(&device, "Stalled").unwrap().reason, "InvalidResponse", "{name}");
        // Of an answer the name of a hub is shown, and nothing else.
        for part in ["another-device", "\n", "DeviceId="] {
            assert!(!said.contains(part), "{name}: {said}");
        }
        assert!(device["status"]["assignedHub"].is_null(), "{name}");
    }
    assert_eq!(world.generated_secrets().await.len(), 1, "that of the first device");
    assert!(
        world.ledger().iter().all(|entry| !entry.path.contains("elsewhere")),
        "redirects are not followed"
    );
    assert!(world.operator_runs());
    assert!(!world.operator_log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_answer_leaves_a_provisioned_device_with_what_it_has() {
    let world = World::accepted().await;
    let secret = world.get(Kind::Secret, "first-hub").await;
    let evil = FaultAction::rewrite_state("assignedHub", json!("evil.example"));
    world.dps.inject(Fault::device("first", evil)).unwrap();

    world.patch(Kind::Device, "first", json!({"spec": {"payload": {"site": "gdansk"}}})).await;

    let device = world.wait_reason("first", "InvalidResponse").await;
    assert!(condition(&device, "Ready").unwrap().is_true());
    assert!(!condition(&device, "Registered").unwrap().is_true());
    assert!(HUBS.contains(&device["status"]["assignedHub"].as_str().unwrap()));
    assert_eq!(world.get(Kind::Secret, "first-hub").await["data"], secret["data"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_dps_are_shown_without_what_looks_like_a_key_and_never_as_a_whole_body() {
    let world = World::accepted().await;
    let run = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4";
    let said = json!({"errorCode": 400_004, "trackingId": "t-1", "message": format!("bad token {run} for you\u{1b}[31m")});
    let answers = [
        ("worded", "application/json", said.to_string()),
        ("html", "text/html", format!("<html>{run} internal stack trace</html>")),
        ("text", "text/plain", format!("internal stack trace {run}")),
    ];
    for (name, kind, body) in answers {
        let headers = BTreeMap::from([("content-type".to_owned(), kind.to_owned())]);
        let answer = FaultAction::Answer { status: 400, headers, body: RawBody::Text(body) };
        world.dps.inject(Fault::device(name, answer)).unwrap();
        world.device(name).await;
    }

    for name in ["worded", "html", "text"] {
        let device = world.wait_reason(name, "InvalidConfiguration").await;
        let status = device["status"].to_string();
        for part in [&run[..12], "stack trace", "\u{1b}", "<html>"] {
            assert!(!status.contains(part), "{name}: {status}");
        }
    }
    let worded = world.get(Kind::Device, "worded").await;
    assert!(message(&worded).contains("bad token … for you"), "{}", message(&worded));
    assert_eq!(worded["status"]["lastError"]["trackingId"], "t-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_attempts_is_written_at_powers_of_two() {
    let world = World::accepted().await;
    world.dps.set_device_enabled(SCOPE, "truck-1", false).unwrap();
    world.device("truck-1").await;
    world.wait_reason("truck-1", "Disabled").await;

    for (attempt, written) in [(2, 2), (3, 2), (4, 4), (5, 4)] {
        // A change of the integration ends the wait, and is none of the device.
        let limit = json!({"spec": {"registrationIdPrefixes": ["", format!("try-{attempt}")]}});
        world.patch(Kind::Integration, INTEGRATION, limit).await;
        world.wait_ledger("another attempt", |_| world.registers_of("truck-1") == attempt).await;
        world.device(&format!("after-{attempt}")).await;
        world.wait_ready(&format!("after-{attempt}")).await;

        let recorded = |device: &Value| device["status"]["attempts"] == written;
        world.wait(Kind::Device, "truck-1", &format!("{written} attempts"), recorded).await;
    }
    assert!(is_observed(&world.get(Kind::Device, "truck-1").await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_differs_from_that_of_dps_is_corrected_for_and_reported_if_that_does_not_help() {
    let world = World::accepted().await;
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&ahead).unwrap();
    let date = BTreeMap::from([("date".to_owned(), date)]);
    let body = RawBody::Text(json!({"errorCode": 401_002, "message": "Unauthorized"}).to_string());
    let refused = FaultAction::Answer { status: 401, headers: date, body };
    world.dps.inject(Fault::device("truck-1", refused.clone()).times(1)).unwrap();
    world.dps.inject(Fault::device("truck-2", refused)).unwrap();

    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.device("truck-2").await;

    let device = world.wait_reason("truck-2", "Unauthorized").await;
    assert!(message(&device).contains("more than five minutes apart"), "{}", message(&device));
    let tries =
        world.ledger().into_iter().filter(|e| e.registration_id.as_deref() == Some("truck-2")).count();
    assert_eq!(tries, 1, "the offset was known already");
}
