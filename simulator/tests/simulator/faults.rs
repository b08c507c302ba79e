//! Faults, as a client sees them.

use std::error::Error as _;
use std::io;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dps_simulator::{
    Fault, FaultAction, FaultError, HugeOf, OperationKind, Outage, Outcome, RegistrationStatus, Running,
    SlowFrom,
};
use http::Method;
use serde_json::{Value, json};

use crate::device::{self, Answer, Device, HUB_A, SCOPE, error};

async fn with(fault: Fault) -> (Running, Device) {
    let simulator = device::start(device::config()).await;
    simulator.inject(fault).unwrap();
    let device = Device::connect(&simulator, "dev").await;
    (simulator, device)
}

async fn try_register(device: &mut Device) -> Result<Answer, hyper::Error> {
    let path = device.path("/register");
    device.send(Method::PUT, &path, "{}".to_owned()).await
}

#[tokio::test]
async fn an_error_status_is_answered_in_place_of_dps() {
    let (simulator, mut device) = with(Fault::global(FaultAction::throttled("garbage")).times(1)).await;
    let answer = device.register().await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "garbage");
    assert_eq!(answer.json()["errorCode"], 429_001);

    let entry = &simulator.ledger()[0];
    assert_eq!((entry.status, entry.outcome), (Some(429), Outcome::Faulted));
    assert_eq!((entry.fault, entry.error_code), (Some(1), Some(429_001)));
    assert_eq!(simulator.registration(SCOPE, "dev"), None);
    assert_eq!(simulator.faults()[0].hit, 1);
    assert_eq!(device.register().await.status, 202, "the fault is used up");
}

#[tokio::test]
async fn an_error_status_can_come_after_dps_has_done_its_work() {
    let (simulator, mut device) =
        with(Fault::global(FaultAction::status(503)).times(1).after_processing()).await;
    let answer = device.register().await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.is_empty());
    assert!(simulator.registration(SCOPE, "dev").is_some());
    assert_eq!(simulator.ledger()[0].outcome, Outcome::Started);
}

#[tokio::test]
async fn a_fault_is_for_one_device_and_one_kind_of_call() {
    let fault = Fault::device("dev", FaultAction::status(500)).on(OperationKind::Poll);
    let (simulator, mut device) = with(fault).await;
    let operation = device.register().await.operation_id();
    assert_eq!(device.poll(&operation).await.status, 500);
    Device::connect(&simulator, "other").await.provision().await;
    simulator.clear_faults();
    assert_eq!(device.poll(&operation).await.status, 200);
}

#[tokio::test]
async fn a_late_answer_is_late() {
    let time = Duration::from_millis(60);
    let (_simulator, mut device) = with(Fault::global(FaultAction::Delay { time })).await;
    let start = Instant::now();
    assert_eq!(device.register().await.status, 202);
    assert!(start.elapsed() >= time);
}

#[tokio::test]
async fn a_request_that_is_held_is_in_the_ledger_and_abandoned_when_the_client_goes() {
    let hold = FaultAction::Delay { time: Duration::from_secs(3600) };
    let (simulator, mut device) = with(Fault::global(hold)).await;
    let client = tokio::spawn(async move { device.register().await });
    let held = device::seen(simulator.control(), |entry| entry.operation == OperationKind::Register).await;
    assert_eq!((held.outcome, held.status), (Outcome::Pending, None));
    client.abort();
    device::seen(simulator.control(), |entry| entry.outcome == Outcome::Abandoned).await;
    assert_eq!(simulator.registration(SCOPE, "dev"), None);
}

#[tokio::test]
async fn an_answer_that_is_held_back_has_been_processed() {
    let hold = FaultAction::Delay { time: Duration::from_secs(3600) };
    let (simulator, mut device) = with(Fault::global(hold).after_processing()).await;
    tokio::spawn(async move { device.register().await });
    device::seen(simulator.control(), |entry| entry.outcome == Outcome::Started).await;
    assert!(simulator.registration(SCOPE, "dev").is_some());
}

#[tokio::test]
async fn bodies_can_be_wrong_in_many_ways() {
    let (_simulator, mut device) = with(Fault::global(FaultAction::Malformed)).await;
    let answer = device.register().await;
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());

    let (_simulator, mut device) = with(Fault::global(FaultAction::Html)).await;
    let answer = device.register().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/html"));

    let plain = FaultAction::ContentType { value: Some("text/plain".to_owned()) };
    let (_simulator, mut device) = with(Fault::global(plain)).await;
    let answer = device.register().await;
    assert_eq!((answer.header("content-type"), answer.status.as_u16()), ("text/plain", 202));
    assert_eq!(answer.json()["status"], "assigning");

    let none = FaultAction::ContentType { value: None };
    let (_simulator, mut device) = with(Fault::global(none)).await;
    assert!(!device.register().await.headers.contains_key("content-type"));

    let (_simulator, mut device) = with(Fault::global(FaultAction::json("[NaN]"))).await;
    assert_eq!(device.register().await.body, "[NaN]");
}

#[tokio::test]
async fn a_truncated_answer_breaks_off_in_its_body() {
    let (simulator, mut device) = with(Fault::global(FaultAction::Truncated)).await;
    assert!(try_register(&mut device).await.is_err());
    assert_eq!(simulator.ledger()[0].status, Some(202));
}

#[tokio::test]
async fn a_reset_leaves_no_answer_and_no_registration() {
    let (simulator, mut device) = with(Fault::global(FaultAction::Reset).times(1)).await;
    let cut = try_register(&mut device).await.unwrap_err();
    let cause = cut.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionReset), "{cut:?}");
    let entry = &simulator.ledger()[0];
    assert_eq!((entry.status, entry.outcome), (None, Outcome::Faulted));
    assert_eq!(simulator.registration(SCOPE, "dev"), None);
}

#[tokio::test]
async fn a_lost_answer_leaves_a_registration() {
    let fault = Fault::global(FaultAction::Reset).on(OperationKind::Register).times(1).after_processing();
    let (simulator, mut device) = with(fault).await;
    assert!(try_register(&mut device).await.is_err());
    let entry = &simulator.ledger()[0];
    assert_eq!((entry.status, entry.outcome), (None, Outcome::Started));
    assert_eq!(simulator.registration(SCOPE, "dev").unwrap().assigned_hub.as_deref(), Some(HUB_A));
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_for_every_byte() {
    for from in [SlowFrom::Body, SlowFrom::Head] {
        let rate = NonZeroU32::new(2_000).unwrap();
        let slow = FaultAction::Slow { bytes_per_second: rate, from };
        let (_simulator, mut device) = with(Fault::global(slow)).await;
        let start = Instant::now();
        let answer = device.register().await;
        assert_eq!(answer.json()["status"], "assigning");
        let least = Duration::from_secs(answer.body.len() as u64) / rate.get();
        assert!(start.elapsed() >= least, "{:?} for {} bytes", start.elapsed(), answer.body.len());
    }
}

#[tokio::test]
async fn an_answer_can_be_huge() {
    for (of, first) in [(HugeOf::Space, b' '), (HugeOf::Nesting, b'[')] {
        let (_simulator, mut device) = with(Fault::global(FaultAction::Huge { bytes: 1_000_001, of })).await;
        let answer = device.register().await;
        assert_eq!((answer.body.len(), answer.body[0]), (1_000_001, first));
        assert_eq!(answer.header("content-length"), "1000001");
    }
    let header = FaultAction::Huge { bytes: 20_000, of: HugeOf::Header };
    let (_simulator, mut device) = with(Fault::global(header)).await;
    assert_eq!(device.register().await.header("x-filler").len(), 20_000);
}

/// What the bytes stand for was looked up once with zlib: 13,011 of them are 2,063,743 blanks.
#[tokio::test]
async fn a_gzip_bomb_begins_as_gzip_and_goes_on_with_copies_of_a_blank() {
    let bomb = FaultAction::Huge { bytes: 200_000, of: HugeOf::Gzip };
    let (_simulator, mut device) = with(Fault::global(bomb)).await;
    let answer = device.register().await;
    assert_eq!((answer.body.len(), answer.header("content-encoding")), (200_000, "gzip"));
    let (begin, rest) = answer.body.split_at(11);
    assert_eq!(begin, b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x53");
    let copies = b"\x18\x05\xa3\x60\x14\x8c\x82\x51\x30\x0a\x46\xc1\x28";
    assert!(rest.chunks(copies.len()).all(|chunk| copies.starts_with(chunk)));
}

#[tokio::test]
async fn an_endless_answer_is_as_long_as_the_client_reads() {
    let (_simulator, mut device) = with(Fault::global(FaultAction::Endless)).await;
    assert!(device.read_at_least(5_000_000).await);
}

#[tokio::test]
async fn a_redirect_has_any_location() {
    let location = "http://169.254.169.254/latest".to_owned();
    let (_simulator, mut device) =
        with(Fault::global(FaultAction::Redirect { status: 307, location: location.clone() })).await;
    let answer = device.register().await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (307, location.as_str()));
}

#[tokio::test]
async fn an_answer_can_name_another_device_or_a_hostile_hub() {
    let hostile = FaultAction::rewrite_state("assignedHub", json!("evil.example;DeviceId=x"));
    let (simulator, mut device) = with(Fault::global(hostile).times(2)).await;
    let state = device.provision().await;
    assert_eq!(state["assignedHub"], "evil.example;DeviceId=x");
    assert_eq!(state["deviceId"], "dev");

    simulator.clear_faults();
    simulator.inject(Fault::global(FaultAction::rewrite_state("registrationId", json!("other")))).unwrap();
    assert_eq!(device.lookup().await.json()["registrationId"], "other");
}

#[tokio::test]
async fn an_operation_can_stay_assigning_until_the_fault_is_cleared() {
    let (simulator, mut device) = with(Fault::global(FaultAction::Assigning)).await;
    let operation = device.register().await.operation_id();
    let polled = device.poll(&operation).await;
    assert_eq!((polled.status.as_u16(), &polled.json()["status"]), (202, &json!("assigning")));
    assert_eq!(device.lookup().await.json()["status"], "assigning");
    simulator.clear_faults();
    assert_eq!(device.poll(&operation).await.json()["status"], "assigned");
}

#[tokio::test]
async fn a_registration_can_fail_or_be_disabled_by_a_fault() {
    let failed = FaultAction::Outcome {
        status: RegistrationStatus::Failed,
        error_code: Some(400_209),
        error_message: Some("IotHubUnauthorizedAccess".to_owned()),
    };
    let (simulator, mut device) = with(Fault::global(failed)).await;
    let state = device.provision().await;
    assert_eq!((&state["status"], &state["errorCode"]), (&json!("failed"), &json!(400_209)));
    assert_eq!(simulator.ledger()[1].error_code, Some(400_209));

    let outcome = |status| FaultAction::Outcome { status, error_code: None, error_message: None };
    let (_simulator, mut device) = with(Fault::global(outcome(RegistrationStatus::Disabled))).await;
    let answer = device.register().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("disabled")));

    let (_simulator, mut device) = with(Fault::global(outcome(RegistrationStatus::Unassigned))).await;
    assert_eq!(device.provision().await["status"], "unassigned");
}

#[tokio::test]
async fn a_wrong_key_is_refused_under_a_fault_that_changes_answers() {
    let (_simulator, mut device) = with(Fault::global(FaultAction::Assigning)).await;
    device.authorization = None;
    assert_eq!(error(&device.register().await), (401, 401_000));
}

#[tokio::test]
async fn an_outage_resets_connections_or_leaves_them_silent() {
    let simulator = device::start(device::config()).await;
    let mut before = Device::connect(&simulator, "dev").await;
    simulator.set_outage(Outage::Reset);
    assert!(Device::try_connect(&simulator, "dev").await.is_err());
    assert!(try_register(&mut before).await.is_err());

    simulator.set_outage(Outage::Silent);
    let patience = Duration::from_millis(200);
    let handshake = Device::try_connect(&simulator, "dev");
    assert!(tokio::time::timeout(patience, handshake).await.is_err(), "nobody says a word");
    simulator.set_outage(Outage::None);
    Device::connect(&simulator, "dev").await.provision().await;
}

#[tokio::test]
async fn an_invalid_fault_is_refused() {
    let simulator = device::start(device::config()).await;
    let refused = |action| simulator.inject(Fault::global(action)).unwrap_err();
    assert_eq!(refused(FaultAction::status(99)), FaultError::Status(99));
    assert_eq!(refused(FaultAction::throttled("a\nb")), FaultError::Header("a\nb".to_owned()));
    assert!(simulator.faults().is_empty());
}
