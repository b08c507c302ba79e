//! What an answer of DPS means. Pure: bytes and headers in, an assignment or an error out.

use http::header::{DATE, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::attestation::CredentialKind;
use super::error::{Detail, DpsError, Invalid, clean};
use super::ids::{HubHostname, InvalidId, RegistrationId, is_device_id};
use super::retry_after;
use super::wire::{ErrorBody, Operation, RegistrationState};

const RETURNED_PAYLOAD_MAX: usize = 32 * 1024;
/// Seconds. A clock that is further off is reported, and the next token is made for DPS's time.
pub(super) const SKEW_NOTICED: i64 = 5 * 60;
/// Seconds. A `Date` that is further off is ignored: no server may have tokens signed for another day.
const SKEW_BELIEVED: i64 = 24 * 60 * 60;

/// A device's assignment as DPS reports it; hub and ids have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub hub: HubHostname,
    /// Equal to the registration id but for ASCII case, where the credential requires that.
    pub device_id: String,
    pub substatus: Option<String>,
    pub etag: Option<String>,
    pub created_time: Option<String>,
    pub last_updated_time: Option<String>,
    pub enrollment_group: Option<String>,
    /// What custom allocation returned, at most 32 KiB as JSON.
    pub payload: Option<Map<String, Value>>,
}

/// A whole answer within the limits.
pub(super) struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// When it was read.
    pub at: Timestamp,
}

/// What a terminal status means; `None` while the operation goes on. `unassigned` and unknown
/// statuses are polled until the deadline, as three of Microsoft's clients do.
pub(super) fn outcome(
    id: &RegistrationId,
    kind: CredentialKind,
    operation: Operation,
    hub_suffixes: &[String],
) -> Option<Result<Assignment, DpsError>> {
    let state = operation.registration_state.unwrap_or_default();
    let status = operation.status.as_deref().or(state.status.as_deref());
    match status {
        Some("assigned") => Some(assignment(id, kind, state, hub_suffixes)),
        Some("failed") => Some(Err(failed(state))),
        Some("disabled") => Some(Err(DpsError::Disabled(state_detail(&state)))),
        _ => None,
    }
}

fn assignment(
    id: &RegistrationId,
    kind: CredentialKind,
    state: RegistrationState,
    hub_suffixes: &[String],
) -> Result<Assignment, DpsError> {
    let invalid = |what| Err(DpsError::InvalidResponse(what));
    if state.registration_id.as_deref().is_some_and(|said| !said.eq_ignore_ascii_case(id.as_str())) {
        return invalid(Invalid::RegistrationId);
    }
    let (Some(hub), Some(device_id)) = (state.assigned_hub, state.device_id) else {
        return invalid(Invalid::NoHub);
    };
    let fits = !kind.device_id_is_registration_id() || device_id.eq_ignore_ascii_case(id.as_str());
    if !(fits && is_device_id(&device_id)) {
        return invalid(Invalid::DeviceId);
    }
    let hub = HubHostname::parse(&hub, hub_suffixes).map_err(|error| match error {
        InvalidId::HubSuffix => DpsError::InvalidResponse(Invalid::HubSuffix),
        _ => DpsError::InvalidResponse(Invalid::HubHostname),
    })?;
    let payload = match state.payload {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    };
    if payload.as_ref().is_some_and(|map| json_size(map) > RETURNED_PAYLOAD_MAX) {
        return invalid(Invalid::PayloadTooLarge);
    }
    let text = |value: Option<String>| value.map(|text| clean_token(&text));
    Ok(Assignment {
        hub,
        device_id,
        substatus: text(state.substatus),
        etag: text(state.etag),
        created_time: text(state.created_date_time_utc),
        last_updated_time: text(state.last_updated_date_time_utc),
        enrollment_group: text(state.symmetric_key.and_then(|key| key.enrollment_group_id)),
        payload,
    })
}

fn json_size(map: &Map<String, Value>) -> usize {
    serde_json::to_vec(map).map_or(usize::MAX, |bytes| bytes.len())
}

/// Printable ASCII, at most 128 characters: for ids, times and enums that DPS chooses.
fn clean_token(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(128).collect()
}

/// The answer's JSON, or the error that its status stands for.
pub(super) fn success<T: serde::de::DeserializeOwned>(answer: &HttpAnswer) -> Result<T, DpsError> {
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => {
            serde_json::from_slice(&answer.body).map_err(|_| DpsError::InvalidResponse(Invalid::NotJson))
        }
        status => Err(refusal(status, answer)),
    }
}

fn refusal(status: StatusCode, answer: &HttpAnswer) -> DpsError {
    let detail = error_detail(answer);
    let retry_after = retry_after::parse(&answer.headers, answer.at);
    match status.as_u16() {
        401 => DpsError::Unauthorized(detail),
        404 => DpsError::NotFound(detail),
        409 | 412 => DpsError::Conflict(detail),
        429 => DpsError::Throttled { retry_after, detail },
        400..=499 => DpsError::Rejected(detail),
        500..=599 => DpsError::Server { retry_after, detail },
        300..=399 => DpsError::InvalidResponse(Invalid::Redirect),
        _ => DpsError::InvalidResponse(Invalid::UnexpectedStatus),
    }
}

fn error_detail(answer: &HttpAnswer) -> Detail {
    let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
    let header = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let code = body.error_code.or_else(|| header("x-ms-error-code").and_then(|text| text.parse().ok()));
    let tracking = body.tracking_id.filter(|id| !id.is_empty());
    Detail {
        http_status: Some(answer.status.as_u16()),
        code,
        message: body.message.as_deref().map(clean).filter(|message| !message.is_empty()),
        tracking_id: tracking.as_deref().or_else(|| header("x-ms-request-id")).map(clean_token),
        clock_skew: clock_skew(answer),
    }
}

fn state_detail(state: &RegistrationState) -> Detail {
    Detail {
        http_status: Some(200),
        code: state.error_code,
        message: state.error_message.as_deref().map(clean).filter(|message| !message.is_empty()),
        ..Detail::default()
    }
}

/// A registration that ended as `failed`; the codes are those seen in public, most of them from
/// the allocation.
fn failed(state: RegistrationState) -> DpsError {
    let detail = state_detail(&state);
    match state.error_code {
        Some(code) if (401_000..402_000).contains(&code) => DpsError::Unauthorized(detail),
        Some(code) if (404_000..405_000).contains(&code) => DpsError::NotFound(detail),
        Some(code) if (409_000..410_000).contains(&code) => DpsError::Conflict(detail),
        Some(code) if code >= 500_000 => DpsError::Server { retry_after: None, detail },
        // A service-side transport failure is reported without a code of its own.
        None | Some(0) => DpsError::Server { retry_after: None, detail },
        Some(_) => DpsError::AllocationFailed(detail),
    }
}

/// Seconds that the answer's `Date` is ahead of our clock, when that is more than five minutes.
pub(super) fn clock_skew(answer: &HttpAnswer) -> Option<i64> {
    let date: Timestamp = retry_after::date(answer.headers.get(DATE)?.to_str().ok()?)?;
    let off = date.as_second() - answer.at.as_second();
    (off.abs() > SKEW_NOTICED && off.abs() <= SKEW_BELIEVED).then_some(off)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn id() -> RegistrationId {
        RegistrationId::parse("truck-1").unwrap()
    }

    fn suffixes() -> Vec<String> {
        vec![".azure-devices.net".to_owned()]
    }

    fn answer(status: u16, body: &str) -> HttpAnswer {
        HttpAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn polled(body: serde_json::Value) -> Option<Result<Assignment, DpsError>> {
        outcome(
            &id(),
            CredentialKind::GroupKey,
            success(&answer(200, &body.to_string())).unwrap(),
            &suffixes(),
        )
    }

    fn assigned(change: serde_json::Value) -> Option<Result<Assignment, DpsError>> {
        let mut state = json!({
            "registrationId": "truck-1", "assignedHub": "contoso-eu.azure-devices.net", "deviceId": "truck-1",
            "status": "assigned", "substatus": "initialAssignment", "etag": "abc",
            "createdDateTimeUtc": "2026-01-01T00:00:00.1234567Z", "symmetricKey": {"enrollmentGroupId": "fleet"},
        });
        for (key, value) in change.as_object().unwrap() {
            state[key] = value.clone();
        }
        polled(json!({"operationId": "4.x.y", "status": "assigned", "registrationState": state}))
    }

    #[test]
    fn the_documented_answer_is_an_assignment() {
        let assignment = assigned(json!({"payload": {"a": 1}})).unwrap().unwrap();
        assert_eq!(assignment.hub.as_str(), "contoso-eu.azure-devices.net");
        assert_eq!(assignment.enrollment_group.as_deref(), Some("fleet"));
        assert_eq!(assignment.created_time.as_deref(), Some("2026-01-01T00:00:00.1234567Z"));
        assert_eq!(assignment.payload.unwrap()["a"], 1);
        assert_eq!(assigned(json!({"payload": null})).unwrap().unwrap().payload, None);
    }

    #[test]
    fn an_answer_about_another_device_or_with_a_hostile_hub_is_refused() {
        let cases = [
            (json!({"registrationId": "truck-2"}), Invalid::RegistrationId),
            (json!({"deviceId": "truck-2"}), Invalid::DeviceId),
            (json!({"deviceId": null}), Invalid::NoHub),
            (json!({"assignedHub": null}), Invalid::NoHub),
            (json!({"assignedHub": "evil.example"}), Invalid::HubSuffix),
            (json!({"assignedHub": "a;DeviceId=b.azure-devices.net"}), Invalid::HubHostname),
            (json!({"assignedHub": "a\n.azure-devices.net"}), Invalid::HubHostname),
            (json!({"payload": {"x": "y".repeat(40_000)}}), Invalid::PayloadTooLarge),
        ];
        for (change, why) in cases {
            assert_eq!(assigned(change.clone()), Some(Err(DpsError::InvalidResponse(why))), "{change}");
        }
        assert!(assigned(json!({"deviceId": "Truck-1", "registrationId": "TRUCK-1"})).unwrap().is_ok());
    }

    #[test]
    fn an_operation_goes_on_until_a_terminal_status() {
        for status in [json!("assigning"), json!("unassigned"), json!("somethingNew"), json!(null)] {
            assert_eq!(polled(json!({"operationId": "1", "status": status})), None, "{status}");
        }
    }

    #[test]
    fn terminal_failures_are_classified_by_their_code() {
        let failed = |code: i32| {
            polled(
                json!({"status": "failed", "registrationState": {"errorCode": code, "errorMessage": "no hub"}}),
            )
        };
        assert!(
            matches!(failed(400_208), Some(Err(DpsError::AllocationFailed(d))) if d.code == Some(400_208))
        );
        assert!(matches!(failed(404_201), Some(Err(DpsError::NotFound(_)))));
        assert!(matches!(failed(401_002), Some(Err(DpsError::Unauthorized(_)))));
        assert!(matches!(failed(0), Some(Err(DpsError::Server { .. }))));
        assert!(matches!(polled(json!({"status": "disabled"})), Some(Err(DpsError::Disabled(_)))));
    }

    #[test]
    fn http_errors_are_classified_by_their_status() {
        let body = r#"{"errorCode":401002,"trackingId":"t-1","message":"Unauthorized"}"#;
        let error = |status| success::<Operation>(&answer(status, body)).unwrap_err();
        assert!(matches!(error(401), DpsError::Unauthorized(d)
            if d.code == Some(401_002) && d.tracking_id.as_deref() == Some("t-1") && d.http_status == Some(401)));
        assert!(matches!(error(400), DpsError::Rejected(_)));
        assert!(matches!(error(404), DpsError::NotFound(_)));
        assert!(matches!(error(409), DpsError::Conflict(_)));
        assert!(matches!(error(412), DpsError::Conflict(_)));
        assert!(matches!(error(429), DpsError::Throttled { .. }));
        assert!(matches!(error(503), DpsError::Server { .. }));
        assert_eq!(error(307), DpsError::InvalidResponse(Invalid::Redirect));
    }

    #[test]
    fn a_body_that_is_not_what_dps_sends_is_no_assignment() {
        for body in ["", "<html>", "[]", "{\"status\":1}", "nul", "{\"status\":\"assigned\"", "\u{0}"] {
            let read = success::<Operation>(&answer(200, body));
            assert_eq!(read.unwrap_err(), DpsError::InvalidResponse(Invalid::NotJson), "{body:?}");
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_noticed() {
        let mut answer = answer(401, "");
        answer.headers.insert(DATE, HeaderValue::from_static("Thu, 01 Jan 1970 00:10:00 GMT"));
        assert_eq!(clock_skew(&answer), Some(600));
        answer.at = Timestamp::from_second(590).unwrap();
        assert_eq!(clock_skew(&answer), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_us_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let answer = HttpAnswer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body, at: Timestamp::UNIX_EPOCH };
            if let Ok(operation) = success::<Operation>(&answer) {
                let _ = outcome(&id(), CredentialKind::GroupKey, operation, &suffixes());
            }
        }
    }
}
