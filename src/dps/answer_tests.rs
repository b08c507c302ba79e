//! Tables: what each answer of DPS means, by the call, the HTTP status, the code and the state.

use http::header::{DATE, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Assignment, HttpAnswer, Reader};
use crate::clock::Now;
use crate::dps::attestation::{CredentialId, CredentialKind};
use crate::dps::call::Call;
use crate::dps::clock_offset::{ClockOffset, Off, TokenClock};
use crate::dps::error::{DpsError, Invalid};
use crate::dps::ids::RegistrationId;
use crate::dps::refusal::{MadeWith, success};
use crate::dps::scrub::Shown;
use crate::dps::wire::{Operation, RegistrationState};

const REGISTER: Call = Call::Register { payload: false, csr: false };
const WITH_PAYLOAD: Call = Call::Register { payload: true, csr: false };
const CALLS: [Call; 4] = [REGISTER, WITH_PAYLOAD, Call::Poll, Call::Lookup];

fn suffixes() -> Vec<String> {
    vec![".azure-devices.net".to_owned()]
}

fn issuer() -> CredentialId {
    CredentialId::parse(CredentialKind::GroupKey, "00000000000000aa").unwrap()
}

fn answer(status: u16, body: &[u8]) -> HttpAnswer {
    HttpAnswer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.to_vec(),
        at: Now { wall: Timestamp::UNIX_EPOCH, mono: Instant::now() },
    }
}

/// What an answer means, as the client reads it. `None`: the operation goes on.
fn read(call: Call, answer: &HttpAnswer) -> Option<Result<Assignment, DpsError>> {
    let clock = ClockOffset::default();
    let token = clock.basis(issuer(), answer.at.wall.as_second(), answer.at.mono);
    let id = RegistrationId::parse("truck-1").unwrap();
    let suffixes = suffixes();
    let reader = Reader {
        id: &id,
        kind: CredentialKind::GroupKey,
        hub_suffixes: &suffixes,
        request: None,
        status: answer.status,
    };
    match call {
        Call::Lookup => match success::<RegistrationState>(call, answer, MadeWith::Token(&token, &clock)) {
            Ok(state) => Some(reader.lookup(state)),
            Err(error) => Some(Err(error)),
        },
        Call::Register { .. } | Call::Poll => {
            match success::<Operation>(call, answer, MadeWith::Token(&token, &clock)) {
                Ok(operation) => reader.operation(operation),
                Err(error) => Some(Err(error)),
            }
        }
    }
}

/// In a word.
fn word(meaning: Option<&Result<Assignment, DpsError>>) -> &'static str {
    match meaning {
        None => "goes on",
        Some(Ok(_)) => "assigned",
        Some(Err(error)) => match error {
            DpsError::Unreachable(_) => "unreachable",
            DpsError::Throttled { .. } => "throttled",
            DpsError::Server { .. } => "server",
            DpsError::Conflict(_) => "conflict",
            DpsError::Forgotten(_) => "forgotten",
            DpsError::Deadline => "deadline",
            DpsError::ClockOff => "clock",
            DpsError::Unauthorized(_) => "unauthorized",
            DpsError::NotFound(_) => "not found",
            DpsError::NotAssigned(_) => "not assigned",
            DpsError::Rejected { .. } => "rejected",
            DpsError::Disabled(_) => "disabled",
            DpsError::AllocationFailed(_) => "allocation failed",
            DpsError::AllocationInterrupted(_) => "interrupted",
            DpsError::InvalidResponse(_) => "invalid",
        },
    }
}

fn error_body(code: Option<i64>) -> Vec<u8> {
    let body = json!({"errorCode": code, "trackingId": "t-1", "message": "Said so"});
    body.to_string().into_bytes()
}

/// What each HTTP status that is not success means for register, poll and lookup. The code in the
/// body never changes it: it is DPS's word, and the status is what DPS did.
#[test]
fn an_http_status_means_what_it_can_mean_for_the_call() {
    let table: [(&[u16], [&str; 3]); 13] = [
        (&[401], ["unauthorized", "unauthorized", "unauthorized"]),
        (&[404], ["not found", "forgotten", "not assigned"]),
        (&[400], ["rejected", "forgotten", "rejected"]),
        (&[410], ["rejected", "forgotten", "rejected"]),
        (&[409, 412], ["conflict", "conflict", "conflict"]),
        (&[429], ["throttled", "throttled", "throttled"]),
        (&[402, 403, 405, 406, 411], ["rejected", "rejected", "rejected"]),
        (&[413, 414, 415, 417, 422, 431, 451], ["rejected", "rejected", "rejected"]),
        (&[408, 425], ["server", "server", "server"]),
        (&[500, 501, 502, 503, 504, 505, 511, 599], ["server", "server", "server"]),
        (&[407], ["invalid", "invalid", "invalid"]),
        (&[300, 301, 302, 303, 304, 307, 308], ["invalid", "invalid", "invalid"]),
        (&[101, 201, 203, 204, 206], ["invalid", "invalid", "invalid"]),
    ];
    let codes = [None, Some(0), Some(-1), Some(400_004), Some(401_001), Some(401_002), Some(404_201)];
    let codes = codes.into_iter().chain([Some(409_203), Some(412_000), Some(429_001), Some(500_000)]);
    for (statuses, [register, poll, lookup]) in table {
        for status in statuses {
            for code in codes.clone() {
                let answer = answer(*status, &error_body(code));
                let meaning = CALLS.map(|call| word(read(call, &answer).as_ref()));
                assert_eq!(meaning, [register, register, poll, lookup], "{status} {code:?}");
            }
        }
    }
}

#[test]
fn a_refusal_keeps_what_dps_said_whatever_the_status() {
    for status in [400, 401, 403, 404, 409, 412, 415, 429, 500, 503] {
        for call in CALLS {
            let Some(Err(error)) = read(call, &answer(status, &error_body(Some(404_201)))) else {
                panic!("{status}")
            };
            let detail = error.detail().unwrap();
            assert_eq!(
                (detail.http_status, detail.code, detail.message.is_some()),
                (Some(status), Some(404_201), true)
            );
        }
    }
}

/// A terminal state in an answer of 200 or 202, by the code that stands in it: DPS accepted the device,
/// so that nothing here is a word about its credential.
#[test]
fn what_failed_means_is_said_by_its_code() {
    let table: [(&str, &[i64]); 4] = [
        ("allocation failed", &[400_004, 400_207, 400_208, 400_209, 401_000, 401_001, 401_002, 401_999]),
        ("allocation failed", &[403_004, 404_001, 404_199, 404_300, 402_000, 413_000, 1, -1]),
        ("not found", &[404_201, 404_202]),
        ("conflict", &[409_203, 412_000]),
    ];
    let transient: (&str, &[i64]) = ("interrupted", &[0, 408_000, 429_001, 500_000, 503_999]);
    for (expected, codes) in table.into_iter().chain([transient]) {
        for (code, status, call) in codes.iter().flat_map(|code| {
            [
                (*code, 200, Call::Poll),
                (*code, 202, Call::Poll),
                (*code, 200, REGISTER),
                (*code, 202, REGISTER),
            ]
        }) {
            let state = json!({"status": "failed", "errorCode": code, "errorMessage": "Said so"});
            let body = json!({"operationId": "1", "status": "failed", "registrationState": state});
            let meaning = read(call, &answer(status, body.to_string().as_bytes()));
            assert_eq!(word(meaning.as_ref()), expected, "{status} {code}");
            let Some(Err(error)) = meaning else { panic!("{code}") };
            assert_eq!(error.detail().unwrap().http_status, Some(status));
            // A lookup shows how an earlier registration ended: it is none.
            let record = read(Call::Lookup, &answer(200, state.to_string().as_bytes()));
            assert_eq!(word(record.as_ref()), "not assigned", "{code}");
        }
    }
    let uncoded = json!({"operationId": "1", "status": "failed"}).to_string();
    assert_eq!(word(read(Call::Poll, &answer(200, uncoded.as_bytes())).as_ref()), "interrupted");
}

fn state(change: &Value) -> Value {
    let mut state = json!({
        "registrationId": "truck-1", "assignedHub": "contoso-eu.azure-devices.net", "deviceId": "truck-1",
        "status": "assigned", "substatus": "initialAssignment", "etag": "abc",
        "createdDateTimeUtc": "2026-01-01T00:00:00.1234567Z", "symmetricKey": {"enrollmentGroupId": "fleet"},
    });
    for (key, value) in change.as_object().unwrap() {
        state[key] = value.clone();
    }
    state
}

/// The operation's status beside the state's: the first says whether it goes on, and an assignment
/// needs both.
#[test]
fn both_statuses_have_to_agree_upon_an_assignment() {
    let table = [
        (json!("assigned"), json!("assigned"), "assigned"),
        (json!("assigned"), Value::Null, "assigned"),
        (Value::Null, json!("assigned"), "assigned"),
        (json!("assigned"), json!("failed"), "allocation failed"),
        (json!("assigned"), json!("disabled"), "disabled"),
        (json!("assigned"), json!("assigning"), "goes on"),
        (json!("assigned"), json!("unassigned"), "goes on"),
        (json!("assigned"), json!("somethingNew"), "goes on"),
        (json!("failed"), json!("assigned"), "allocation failed"),
        (json!("failed"), json!("failed"), "allocation failed"),
        (json!("failed"), Value::Null, "allocation failed"),
        (json!("failed"), json!("assigning"), "allocation failed"),
        (Value::Null, json!("failed"), "allocation failed"),
        (json!("disabled"), json!("assigned"), "disabled"),
        (json!("disabled"), Value::Null, "disabled"),
        (Value::Null, json!("disabled"), "disabled"),
        (json!("failed"), json!("disabled"), "disabled"),
        // What stands in the state is that of an earlier registration.
        (json!("assigning"), json!("failed"), "goes on"),
        (json!("assigning"), json!("assigned"), "goes on"),
        (json!("assigning"), json!("disabled"), "goes on"),
        (json!("assigning"), Value::Null, "goes on"),
        (json!("unassigned"), json!("assigned"), "goes on"),
        (json!("somethingNew"), json!("assigned"), "goes on"),
        (Value::Null, Value::Null, "goes on"),
    ];
    for (operation, inner, expected) in table {
        for (call, status) in [(REGISTER, 200), (REGISTER, 202), (Call::Poll, 200), (Call::Poll, 202)] {
            let code =
                json!({"status": inner, "errorCode": (expected == "allocation failed").then_some(400_207)});
            let body = json!({"operationId": "1", "status": operation, "registrationState": state(&code)});
            let meaning = read(call, &answer(status, body.to_string().as_bytes()));
            assert_eq!(word(meaning.as_ref()), expected, "{call:?} {operation} {inner}");
        }
    }
    // A code says the same as the status that is missing.
    let coded = state(&json!({"status": null, "errorCode": 400_207}));
    let body = json!({"operationId": "1", "status": "assigned", "registrationState": coded}).to_string();
    assert_eq!(word(read(Call::Poll, &answer(200, body.as_bytes())).as_ref()), "allocation failed");
}

#[test]
fn a_lookup_shows_where_a_registration_stands() {
    for (status, expected) in [
        (json!("assigned"), "assigned"),
        (json!("unassigned"), "not assigned"),
        (json!("failed"), "not assigned"),
        (json!("disabled"), "disabled"),
        (json!("assigning"), "conflict"),
        (json!("somethingNew"), "invalid"),
        (Value::Null, "invalid"),
    ] {
        let body = state(&json!({"status": status})).to_string();
        assert_eq!(word(read(Call::Lookup, &answer(200, body.as_bytes())).as_ref()), expected, "{status}");
    }
}

fn assigned(change: Value) -> Result<Assignment, DpsError> {
    let body = json!({"operationId": "4.x.y", "status": "assigned", "registrationState": state(&change)});
    read(Call::Poll, &answer(200, body.to_string().as_bytes())).unwrap()
}

#[test]
fn the_documented_answer_is_an_assignment() {
    let assignment = assigned(json!({"payload": {"a": 1}})).unwrap();
    assert_eq!(assignment.hub.as_str(), "contoso-eu.azure-devices.net");
    assert_eq!(assignment.enrollment_group.as_ref().map(Shown::as_str), Some("fleet"));
    assert_eq!(assignment.created_time.as_ref().map(Shown::as_str), Some("2026-01-01T00:00:00.1234567Z"));
    assert_eq!(assignment.payload.unwrap()["a"], 1);
    assert_eq!(assigned(json!({"payload": null})).unwrap().payload, None);
}

#[test]
fn an_answer_about_another_device_or_with_a_hostile_hub_is_refused() {
    let cases = [
        (json!({"registrationId": "truck-2"}), Invalid::RegistrationId),
        (json!({"registrationId": "truck-2", "status": "failed"}), Invalid::RegistrationId),
        (json!({"registrationId": "truck-2", "status": "disabled"}), Invalid::RegistrationId),
        (json!({"deviceId": "truck-2"}), Invalid::DeviceId),
        (json!({"deviceId": null}), Invalid::NoHub),
        (json!({"assignedHub": null}), Invalid::NoHub),
        (json!({"assignedHub": "evil.example"}), Invalid::HubSuffix("evil.example".into())),
        (json!({"assignedHub": "a;DeviceId=b.azure-devices.net"}), Invalid::HubHostname),
        (json!({"assignedHub": "a\n.azure-devices.net"}), Invalid::HubHostname),
        (json!({"payload": {"x": "y".repeat(40_000)}}), Invalid::PayloadTooLarge),
    ];
    for (change, why) in cases {
        assert_eq!(assigned(change.clone()), Err(DpsError::InvalidResponse(why.clone())), "{change}");
        let record = state(&change).to_string();
        let looked_up = read(Call::Lookup, &answer(200, record.as_bytes()));
        assert_eq!(looked_up, Some(Err(DpsError::InvalidResponse(why))), "{change}");
    }
    assert!(assigned(json!({"deviceId": "Truck-1", "registrationId": "TRUCK-1"})).is_ok());
}

#[test]
fn a_body_that_is_not_what_dps_sends_is_no_assignment() {
    for body in ["", "<html>", "[]", "{\"status\":1}", "nul", "{\"status\":\"assigned\"", "\u{0}"] {
        for call in CALLS {
            let meaning = read(call, &answer(200, body.as_bytes()));
            assert_eq!(meaning, Some(Err(DpsError::InvalidResponse(Invalid::NotJson))), "{call:?} {body:?}");
        }
    }
}

#[test]
fn a_refused_token_says_which_credential_and_clock_it_was_made_with() {
    for (date, expected) in [
        ("Thu, 01 Jan 1970 00:04:00 GMT", Some(TokenClock::Right)),
        ("Thu, 01 Jan 1970 00:10:00 GMT", None),
        ("Sat, 03 Jan 1970 00:00:00 GMT", Some(TokenClock::Unbelievable(Off::Behind))),
        ("whenever", Some(TokenClock::Right)),
    ] {
        let mut answer = answer(401, &error_body(Some(401_002)));
        answer.headers.insert(DATE, HeaderValue::from_static(date));
        for call in CALLS {
            match read(call, &answer).unwrap().unwrap_err() {
                DpsError::Unauthorized(refusal) => {
                    assert_eq!((refusal.issuer, Some(refusal.clock)), (issuer(), expected), "{date}");
                }
                error => assert_eq!((error, expected), (DpsError::ClockOff, None), "{date}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn no_answer_makes_us_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        for call in CALLS {
            let _ = read(call, &answer(status, &body));
        }
    }

    /// 401 and nothing else is a word about the credential.
    #[test]
    fn only_an_http_401_is_unauthorized(
        status in 100_u16..600, code in any::<i32>(), inner in "assigned|failed|disabled|assigning|unassigned",
    ) {
        let state = state(&json!({"status": inner, "errorCode": code}));
        let mut body = state.clone();
        body["operationId"] = json!("1");
        body["registrationState"] = state;
        for call in CALLS {
            let meaning = read(call, &answer(status, body.to_string().as_bytes()));
            prop_assert_eq!(word(meaning.as_ref()) == "unauthorized", status == 401);
        }
    }
}
