//! Register, poll and lookup of a device whose token is accepted.

use std::time::Duration;

use dps_simulator::config::{
    ConcurrentRegister, KeyDerivedFrom, Location, Presence, ShownOn, UpperCaseRegistrationId,
};
use dps_simulator::{Config, KeySlot, OperationKind, Outcome, Readings, SymmetricKey};
use http::Method;

use crate::device::{self, Device, GROUP, HUB_A, SCOPE, device_key, error, in_an_hour, token};

fn reading(readings: Readings) -> Config {
    Config { readings, ..device::config() }
}

#[tokio::test]
async fn a_device_registers_polls_and_is_assigned() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev-1").await;

    let started = device.register().await;
    assert_eq!(started.status, 202);
    assert_eq!(started.json()["status"], "assigning");
    assert_eq!(started.json().as_object().unwrap().len(), 2);
    assert_eq!(started.header("retry-after"), "1");
    assert!(!started.header("x-ms-request-id").is_empty());
    assert!(started.header("content-type").starts_with("application/json"));

    let done = device.poll(&started.operation_id()).await;
    assert_eq!(done.status, 200);
    let state = &done.json()["registrationState"];
    assert_eq!(done.json()["status"], "assigned");
    assert_eq!(state["assignedHub"], HUB_A);
    assert_eq!(state["deviceId"], "dev-1");
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(state["symmetricKey"]["enrollmentGroupId"], GROUP);
    assert!(!done.headers.contains_key("retry-after"));

    let record = device.lookup().await;
    assert_eq!(record.status, 200);
    assert_eq!(&record.json(), state);
}

#[tokio::test]
async fn an_operation_is_assigning_for_the_think_time() {
    let config = Config { think_time: Duration::from_secs(3600), ..device::config() };
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev-1").await;

    let started = device.register().await;
    let polled = device.poll(&started.operation_id()).await;
    assert_eq!(polled.status, 202);
    assert_eq!(polled.json(), started.json());
    assert_eq!(polled.header("retry-after"), "1");

    let record = device.lookup().await;
    assert_eq!(record.status, 200);
    assert_eq!(record.json()["status"], "assigning");
    assert_eq!(record.json().get("assignedHub"), None);
}

#[tokio::test]
async fn register_can_answer_with_the_assignment_at_once() {
    let simulator = device::start(Config { assign_at_once: true, ..device::config() }).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    let done = device.register().await;
    assert_eq!(done.status, 200);
    assert_eq!(done.json()["registrationState"]["assignedHub"], HUB_A);
    assert_eq!(device.poll(&done.operation_id()).await.status, 200);
}

#[tokio::test]
async fn registering_again_keeps_the_creation_time_and_renews_the_etag() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    let first = device.provision().await;
    let second = device.provision().await;
    assert_eq!(first["createdDateTimeUtc"], second["createdDateTimeUtc"]);
    assert_ne!(first["etag"], second["etag"]);
    assert_eq!(second["substatus"], "initialAssignment");
}

#[tokio::test]
async fn both_keys_of_a_group_are_accepted_and_the_ledger_shows_which() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    device.provision().await;
    let secondary = SymmetricKey::from_base64(&device::secondary()).unwrap().derive("dev-1");
    device.sign_with(&secondary);
    device.provision().await;

    let slots: Vec<KeySlot> = simulator.ledger().into_iter().map(|entry| entry.key.unwrap().slot).collect();
    assert_eq!(slots, [KeySlot::Primary, KeySlot::Primary, KeySlot::Secondary, KeySlot::Secondary]);
}

#[tokio::test]
async fn the_ledger_has_every_request_with_its_outcome() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "Dev-1").await;
    device.provision().await;
    device.lookup().await;

    let ledger = simulator.ledger();
    let seen: Vec<_> = ledger.iter().map(|e| (e.sequence, e.operation, e.status, e.outcome)).collect();
    assert_eq!(
        seen,
        [
            (1, OperationKind::Register, Some(202), Outcome::Started),
            (2, OperationKind::Poll, Some(200), Outcome::Assigned),
            (3, OperationKind::Lookup, Some(200), Outcome::Assigned),
        ]
    );
    assert_eq!(ledger[0].path, format!("/{SCOPE}/registrations/Dev%2D1/register"));
    assert_eq!(ledger[0].registration_id.as_deref(), Some("Dev-1"));
    assert_eq!(ledger[0].id_scope.as_deref(), Some(SCOPE));
    assert!(ledger[0].authorized);
    assert_eq!(ledger[0].key.as_ref().unwrap().enrollment, GROUP);
}

#[tokio::test]
async fn an_upper_case_id_is_answered_in_lower_case_or_as_sent() {
    let simulator = device::start(device::config()).await;
    let state = Device::connect(&simulator, "DEV-1").await.provision().await;
    assert_eq!((&state["registrationId"], &state["deviceId"]), (&"dev-1".into(), &"dev-1".into()));

    let as_sent =
        Readings { upper_case_registration_id: UpperCaseRegistrationId::AsSent, ..Readings::default() };
    let simulator = device::start(reading(as_sent)).await;
    let state = Device::connect(&simulator, "DEV-1").await.provision().await;
    assert_eq!(state["registrationId"], "DEV-1");
}

#[tokio::test]
async fn a_group_key_is_applied_to_the_id_as_sent_or_in_lower_case() {
    let lower = Readings { key_derived_from: KeyDerivedFrom::LowerCase, ..Readings::default() };
    let simulator = device::start(reading(lower)).await;
    let mut device = Device::connect(&simulator, "DEV-1").await;
    assert_eq!(device.register().await.status, 401);
    device.sign_with(&device_key("dev-1"));
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn an_id_with_colons_is_escaped_once_in_path_and_token() {
    let simulator = device::start(device::config()).await;
    let state = Device::connect(&simulator, "mac:a1:b2").await.provision().await;
    assert_eq!(state["deviceId"], "mac:a1:b2");
}

#[tokio::test]
async fn a_token_with_raw_slashes_in_lower_case_is_taken_for_an_id_scope_in_upper_case() {
    let mut config = device::config();
    config.id_scopes[0].id_scope = "0NE00000001".to_owned();
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    device.id_scope = "0NE00000001".to_owned();
    let expiry = in_an_hour();
    let resource = "0ne00000001/registrations/dev-1";
    let signature = device_key("dev-1").sign(&[resource.as_bytes(), b"\n", expiry.to_string().as_bytes()]);
    let signature = device::escape(&device::base64(signature));
    device.authorization =
        Some(format!("SharedAccessSignature skn=&sr={resource}&sig={signature}&se={expiry}"));
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn a_second_registration_is_a_conflict_until_the_first_completes() {
    let config = Config { think_time: Duration::from_secs(3600), ..device::config() };
    let simulator = device::start(config.clone()).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    assert_eq!(device.register().await.status, 202);
    assert_eq!(error(&device.register().await), (409, 409_203));
    let mut other = Device::connect(&simulator, "dev-2").await;
    assert_eq!(other.register().await.status, 202);

    let failed =
        Readings { concurrent_register: ConcurrentRegister::PreconditionFailed, ..Readings::default() };
    let simulator = device::start(Config { readings: failed, ..config.clone() }).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    device.register().await;
    assert_eq!(error(&device.register().await), (412, 412_000));

    let another = Readings { concurrent_register: ConcurrentRegister::NewOperation, ..Readings::default() };
    let simulator = device::start(Config { readings: another, ..config }).await;
    let mut device = Device::connect(&simulator, "dev-1").await;
    let first = device.register().await;
    let second = device.register().await;
    assert_eq!(second.status, 202);
    assert_ne!(first.operation_id(), second.operation_id());
}

#[tokio::test]
async fn location_points_at_register_in_one_of_three_ways() {
    for (location, expected) in [
        (Location::Absolute, Some("https://HOST/0ne00000001/registrations/dev/register")),
        (Location::Relative, Some("/0ne00000001/registrations/dev/register")),
        (Location::Absent, None),
    ] {
        let config = Config {
            think_time: Duration::from_secs(3600),
            ..reading(Readings { location, ..Readings::default() })
        };
        let simulator = device::start(config).await;
        let mut device = Device::connect(&simulator, "dev").await;
        let host = format!("localhost:{}", simulator.address().port());
        let expected = expected.map(|text| text.replace("HOST", &host));
        let started = device.register().await;
        let polled = device.poll(&started.operation_id()).await;
        for answer in [started, polled] {
            let sent = answer.headers.get("location").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(sent, expected);
        }
    }
}

#[tokio::test]
async fn the_retry_after_of_a_202_can_be_left_out() {
    let simulator = device::start(Config { retry_after: None, ..device::config() }).await;
    let started = Device::connect(&simulator, "dev").await.register().await;
    assert!(!started.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_disabled_enrollment_is_answered_to_register_or_to_the_poll() {
    let mut config = device::config();
    config.id_scopes[0].enrollment_groups[0].enabled = false;
    let simulator = device::start(config.clone()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let told = device.register().await;
    assert_eq!(told.status, 200);
    assert_eq!(told.json()["status"], "disabled");
    assert_eq!(told.json()["registrationState"]["status"], "disabled");
    let record = device.lookup().await;
    assert_eq!((record.status.as_u16(), &record.json()["status"]), (200, &"disabled".into()));

    config.readings.disabled_shown_on = ShownOn::Poll;
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let started = device.register().await;
    assert_eq!(started.status, 202);
    assert_eq!(device.poll(&started.operation_id()).await.json()["status"], "disabled");
}

#[tokio::test]
async fn without_a_linked_hub_a_registration_fails_with_http_200() {
    let mut config = device::config();
    config.id_scopes[0].hubs.clear();
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let started = device.register().await;
    assert_eq!(started.status, 202);
    let failed = device.poll(&started.operation_id()).await;
    assert_eq!(failed.status, 200);
    assert_eq!(failed.json()["status"], "failed");
    assert_eq!(failed.json()["registrationState"]["errorCode"], 400_208);
    assert_eq!(simulator.ledger()[1].error_code, Some(400_208));
}

#[tokio::test]
async fn a_lookup_can_leave_the_payload_out() {
    let absent = Readings { lookup_payload: Presence::Absent, ..Readings::default() };
    let config = Config { readings: absent, ..crate::enrollments::by_site() };
    let simulator = device::start(config).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let body = serde_json::json!({"payload": {"site": "north"}});
    let started = device.register_with(body).await;
    let polled = device.poll(&started.operation_id()).await;
    assert!(polled.json()["registrationState"]["payload"].is_object());
    assert_eq!(device.lookup().await.json().get("payload"), None);
}

#[tokio::test]
async fn one_token_serves_every_call_and_expires_on_time() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let key = device_key("dev");
    device.authorization = Some(token(SCOPE, "dev", &key, in_an_hour() - 3600 + 60));
    device.provision().await;
    assert_eq!(device.lookup().await.status, 200);
    device.authorization = Some(token(SCOPE, "dev", &key, in_an_hour() - 3600 - 60));
    let path = device.path("");
    let late = device.send(Method::POST, &path, "{}".to_owned()).await.unwrap();
    assert_eq!(error(&late), (401, 401_002));
}
