//! Every way in which DPS refuses a request.

use std::time::Duration;

use dps_simulator::config::{
    Acceptance, DeletedGroup, IdScopeCase, LookupOfUnknown, PayloadNotObject, Presence, ThrottleWindow,
    Unauthorized, UnknownIdScope, UnknownOperation,
};
use dps_simulator::{Config, OperationKind, Outcome, Quotas, Readings, Running, SymmetricKey};
use http::Method;
use serde_json::json;

use crate::device::{self, Answer, Device, GROUP, SCOPE, device_key, error, in_an_hour, token};

async fn reading(readings: Readings) -> Running {
    device::start(Config { readings, ..device::config() }).await
}

async fn refused_with(readings: Readings, prepare: impl FnOnce(&mut Device)) -> (u16, u64) {
    let simulator = reading(readings).await;
    let mut device = Device::connect(&simulator, "dev").await;
    prepare(&mut device);
    error(&device.register().await)
}

async fn refused(prepare: impl FnOnce(&mut Device)) -> (u16, u64) {
    refused_with(Readings::default(), prepare).await
}

#[tokio::test]
async fn a_key_that_is_not_the_devices_is_unauthorized() {
    let group = SymmetricKey::from_base64(&device::primary()).unwrap();
    assert_eq!(refused(|d| d.sign_with(&device_key("other"))).await, (401, 401_002));
    assert_eq!(refused(|d| d.sign_with(&group)).await, (401, 401_002));
}

#[tokio::test]
async fn a_key_that_was_derived_twice_has_a_code_of_its_own_by_reading() {
    let twice = || device_key("dev").derive("dev");
    assert_eq!(refused(|d| d.sign_with(&twice())).await, (401, 401_000));
    let like_any = Readings { doubly_derived_key: Unauthorized::Code401002, ..Readings::default() };
    assert_eq!(refused_with(like_any, |d| d.sign_with(&twice())).await, (401, 401_002));
}

#[tokio::test]
async fn a_missing_malformed_expired_or_foreign_token_is_unauthorized() {
    assert_eq!(refused(|d| d.authorization = None).await, (401, 401_000));
    assert_eq!(refused(|d| d.authorization = Some("Bearer x".to_owned())).await, (401, 401_000));
    let other = Readings { missing_token: Unauthorized::Code401002, ..Readings::default() };
    assert_eq!(refused_with(other, |d| d.authorization = None).await, (401, 401_002));

    let expired = || Some(token(SCOPE, "dev", &device_key("dev"), 1_663_952_627));
    assert_eq!(refused(|d| d.authorization = expired()).await, (401, 401_002));
    let other = Readings { expired_token: Unauthorized::Code401000, ..Readings::default() };
    assert_eq!(refused_with(other, |d| d.authorization = expired()).await, (401, 401_000));

    let foreign = Some(token(SCOPE, "other", &device_key("other"), in_an_hour()));
    assert_eq!(refused(|d| d.authorization = foreign).await, (401, 401_002));
}

#[tokio::test]
async fn a_token_of_this_device_for_another_resource_is_unauthorized() {
    let own_key = device_key("dev");
    let for_another = Some(token(SCOPE, "other", &own_key, in_an_hour()));
    assert_eq!(refused(|d| d.authorization = for_another).await, (401, 401_002));
    let for_elsewhere = Some(token("0ne99999999", "dev", &own_key, in_an_hour()));
    assert_eq!(refused(|d| d.authorization = for_elsewhere).await, (401, 401_002));
    let by_owner = token(SCOPE, "dev", &own_key, in_an_hour()).replace("skn=registration", "skn=owner");
    assert_eq!(refused(|d| d.authorization = Some(by_owner)).await, (401, 401_002));
}

#[tokio::test]
async fn a_clock_tolerance_takes_tokens_that_just_expired() {
    let tolerant = Readings { clock_tolerance: Duration::from_secs(300), ..Readings::default() };
    let simulator = reading(tolerant).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let expired = in_an_hour() - 3600 - 60;
    device.authorization = Some(token(SCOPE, "dev", &device_key("dev"), expired));
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn an_unknown_id_scope_is_not_found_or_a_failed_registration() {
    let elsewhere = |d: &mut Device| {
        d.id_scope = "0ne99999999".to_owned();
        d.sign_with(&device_key("dev"));
    };
    assert_eq!(refused(elsewhere).await, (404, 404_201));

    let failed = Readings { unknown_id_scope: UnknownIdScope::Failed, ..Readings::default() };
    let simulator = reading(failed).await;
    let mut device = Device::connect(&simulator, "dev").await;
    elsewhere(&mut device);
    let answer = device.register().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "failed");
    assert_eq!(answer.json()["registrationState"]["errorCode"], 404_201);
}

#[tokio::test]
async fn the_case_of_the_id_scope_matters_or_not() {
    let upper = |d: &mut Device| d.id_scope = SCOPE.to_uppercase();
    assert_eq!(refused(upper).await, (404, 404_201));
    let ignored = Readings { id_scope_case: IdScopeCase::Ignored, ..Readings::default() };
    let simulator = reading(ignored).await;
    let mut device = Device::connect(&simulator, "dev").await;
    upper(&mut device);
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn an_unknown_operation_or_one_of_another_device_is_not_found() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(error(&device.poll("4.unknown").await), (404, 404_201));
    let operation = device.register().await.operation_id();
    let mut other = Device::connect(&simulator, "other").await;
    other.register().await;
    assert_eq!(error(&other.poll(&operation).await), (404, 404_201));

    let bad = Readings { unknown_operation: UnknownOperation::BadRequest, ..Readings::default() };
    let simulator = reading(bad).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(error(&device.poll("4.unknown").await), (400, 400_004));
}

#[tokio::test]
async fn a_device_that_never_registered_cannot_be_looked_up() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(error(&device.lookup().await), (404, 404_201));

    let unauthorized = Readings { lookup_of_unknown: LookupOfUnknown::Unauthorized, ..Readings::default() };
    let simulator = reading(unauthorized).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(error(&device.lookup().await), (401, 401_002));
}

#[tokio::test]
async fn the_keys_of_a_deleted_group_are_unknown_or_not_found() {
    for (deleted_group, expected) in
        [(DeletedGroup::Unauthorized, (401, 401_002)), (DeletedGroup::NotFound, (404, 404_201))]
    {
        let simulator = reading(Readings { deleted_group, ..Readings::default() }).await;
        let mut device = Device::connect(&simulator, "dev").await;
        device.provision().await;
        simulator.delete_group(SCOPE, GROUP).unwrap();
        assert_eq!(error(&device.register().await), expected);
        assert!(simulator.registration(SCOPE, "dev").is_some(), "records outlive their group");
    }
}

#[tokio::test]
async fn the_other_key_is_refused_by_reading_once_a_device_has_registered() {
    let refused = Readings { alternate_key: Acceptance::Refused, ..Readings::default() };
    let simulator = reading(refused).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    let secondary = SymmetricKey::from_base64(&device::secondary()).unwrap().derive("dev");
    device.sign_with(&secondary);
    assert_eq!(error(&device.register().await), (401, 401_002));
}

fn quota(registrations: u32) -> Config {
    let quotas = Quotas { registrations_per_minute: Some(registrations), ..Quotas::default() };
    Config { quotas, ..device::config() }
}

fn wait(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn registrations_and_lookups_share_a_quota_and_polls_do_not() {
    let simulator = device::start(quota(2)).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let operation = device.register().await.operation_id();
    assert_eq!(device.poll(&operation).await.status, 200);
    assert_eq!(device.lookup().await.status, 200);

    let throttled = device.register().await;
    assert_eq!(error(&throttled), (429, 429_001));
    assert!((1..=60).contains(&wait(&throttled)), "{throttled:?}");
    assert_eq!(error(&device.lookup().await), (429, 429_001));
    assert_eq!(device.poll(&operation).await.status, 200);
    assert_eq!(simulator.ledger()[3].outcome, Outcome::Throttled);

    simulator.reset_quota_counters(SCOPE).unwrap();
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn others_spend_what_is_left_of_a_quota() {
    let simulator = device::start(quota(3)).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(device.register().await.status, 202);

    assert_eq!(simulator.spend_quota(SCOPE, 5).unwrap(), 2);

    assert_eq!(device.lookup().await.status, 429);
    assert!(simulator.spend_quota("0neOTHER", 1).is_err());
}

#[tokio::test]
async fn throttling_comes_before_authentication() {
    let simulator = device::start(quota(1)).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.authorization = None;
    assert_eq!(device.register().await.status, 401);
    assert_eq!(device.register().await.status, 429);
}

#[tokio::test]
async fn a_device_may_poll_five_times_in_ten_seconds() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let operation = device.register().await.operation_id();
    for _ in 0..5 {
        assert_eq!(device.poll(&operation).await.status, 200);
    }
    let throttled = device.poll(&operation).await;
    assert_eq!(error(&throttled), (429, 429_001));
    assert!((1..=10).contains(&wait(&throttled)), "{throttled:?}");

    let mut other = Device::connect(&simulator, "other").await;
    let operation = other.register().await.operation_id();
    assert_eq!(other.poll(&operation).await.status, 200);
}

#[tokio::test]
async fn a_429_can_be_without_retry_after() {
    let silent = Readings { throttle_retry_after: Presence::Absent, ..Readings::default() };
    let simulator = device::start(Config { readings: silent, ..quota(0) }).await;
    let throttled = Device::connect(&simulator, "dev").await.register().await;
    assert_eq!(throttled.status, 429);
    assert!(!throttled.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn in_fixed_minutes_retry_after_is_the_rest_of_the_minute() {
    let fixed = Readings { throttle_window: ThrottleWindow::Fixed, ..Readings::default() };
    let simulator = device::start(Config { readings: fixed, ..quota(1) }).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(device.register().await.status, 202);
    assert!((1..=60).contains(&wait(&device.register().await)));
}

#[tokio::test]
async fn a_request_that_cannot_be_understood_is_bad() {
    assert_eq!(refused(|d| d.api_version = "2017-01-01".to_owned()).await, (400, 400_004));
    assert_eq!(refused(|d| d.content_type = Some("text/plain".to_owned())).await, (415, 415_000));
    assert_eq!(refused(|d| d.content_type = None).await, (415, 415_000));

    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    let versionless = device.path("/register").replace("api-version", "version");
    let answer = device.send(Method::PUT, &versionless, "{}".to_owned()).await.unwrap();
    assert_eq!(error(&answer), (400, 400_004));
    for body in [json!([]), json!({"registrationId": "other"}), json!({"payload": "text"})] {
        assert_eq!(error(&device.register_with(body).await), (400, 400_004));
    }
    let large = json!({"payload": {"text": "x".repeat(96 * 1024)}});
    let answer = device.register_with(large).await;
    assert_eq!(error(&answer), (400, 400_004));
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn readings_decide_what_a_body_may_contain() {
    let other = Readings {
        body_registration_id_missing: Acceptance::Refused,
        body_registration_id_differs: Acceptance::Accepted,
        payload_not_object: PayloadNotObject::Dropped,
        ..Readings::default()
    };
    let simulator = reading(other).await;
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(error(&device.register_with(json!({})).await), (400, 400_004));
    let odd = json!({"registrationId": "other", "payload": "text"});
    assert_eq!(device.register_with(odd).await.status, 202);
}

#[tokio::test]
async fn a_registration_id_with_other_signs_is_bad() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev!").await;
    assert_eq!(error(&device.register().await), (400, 400_004));
}

#[tokio::test]
async fn a_request_outside_the_device_api_is_refused_and_in_the_ledger() {
    let simulator = device::start(device::config()).await;
    let mut device = Device::connect(&simulator, "dev").await;
    device.provision().await;
    let register = device.path("/register");
    let record = device.path("");
    for (method, path, expected) in [
        (Method::DELETE, record.as_str(), (405, 405_000)),
        (Method::GET, record.as_str(), (405, 405_000)),
        (Method::POST, register.as_str(), (405, 405_000)),
        (Method::PUT, "/enrollmentGroups/fleet?api-version=2021-10-01", (404, 404_000)),
        (Method::GET, "/", (404, 404_000)),
    ] {
        let answer = device.send(method, path, String::new()).await.unwrap();
        assert_eq!(error(&answer), expected, "{path}");
    }
    let others = simulator.ledger().split_off(2);
    assert!(others.iter().all(|e| (e.operation, e.outcome) == (OperationKind::Other, Outcome::Refused)));
    assert_eq!(others[0].method, "DELETE");
    assert_eq!(others[0].registration_id.as_deref(), Some("dev"));
    assert_eq!(simulator.totals().other, 5);
    assert_eq!(device.lookup().await.status, 200, "nothing was deleted");
}
