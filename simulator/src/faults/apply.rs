//! Applies a fault to an answer of DPS.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fault::{FaultAction, HugeOf, SlowFrom};
use crate::dps::{RegistrationStatus, error_body};
use crate::ids::Ids;
use crate::route::OperationKind;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML_PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
    <body><h1>Welcome to the guest network</h1></body></html>";

/// An answer as it is to be sent, and how.
pub(crate) struct FaultyAnswer {
    pub response: Response<Bytes>,
    pub delivery: Delivery,
    /// The DPS error code that the fault sets, if it does.
    pub error_code: Option<u32>,
}

/// How the bytes of an answer are sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Delivery {
    Whole,
    Late(Duration),
    /// Only the first half of the body arrives, then the connection ends.
    Truncated,
    Slow {
        bytes_per_second: NonZeroU32,
        from: SlowFrom,
    },
    /// So many bytes instead of the body.
    Fill {
        bytes: u64,
        of: Filler,
    },
    /// White space without an end instead of the body.
    Endless,
    Reset,
}

/// What an answer of any size consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filler {
    pub begin: &'static [u8],
    /// What follows, again and again.
    pub pattern: &'static [u8],
}

impl Filler {
    const SPACE: Self = Self { begin: b"", pattern: b" " };
    const NESTING: Self = Self { begin: b"", pattern: b"[" };
    /// One block of fixed Huffman codes: a blank, then "the last byte 258 times more", which takes 13 bits.
    const GZIP: Self = Self {
        begin: b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x53",
        pattern: b"\x18\x05\xa3\x60\x14\x8c\x82\x51\x30\x0a\x46\xc1\x28",
    };
}

/// What a faulty answer depends on besides the fault.
pub(crate) struct Context<'a> {
    pub kind: OperationKind,
    pub now: Timestamp,
    pub ids: &'a Ids,
    /// The `Retry-After` of a 202 in seconds, if it has one.
    pub retry_after: Option<u64>,
}

/// Applies a fault. There is a true answer if DPS has carried the request out.
pub(crate) fn apply(action: &FaultAction, answer: Option<Response<Bytes>>, at: &Context<'_>) -> FaultyAnswer {
    let kind = at.kind;
    let mut response = replacement(action, at.now, at.ids).or(answer).unwrap_or_default();
    match action {
        FaultAction::ContentType { value } => {
            response.headers_mut().remove(CONTENT_TYPE);
            set(response.headers_mut(), CONTENT_TYPE, value.as_deref());
        }
        FaultAction::Rewrite { operation, registration_state } => {
            edit(&mut response, |body| {
                merge(body, operation);
                if let Some(state) = registration_state_in(body, kind) {
                    merge(state, registration_state);
                }
            });
        }
        FaultAction::Assigning => keep_assigning(&mut response, kind, at.retry_after),
        FaultAction::Outcome { status, error_code, error_message } => {
            set_outcome(&mut response, kind, *status, *error_code, error_message.as_deref());
        }
        _ => {}
    }
    let error_code = match action {
        FaultAction::Status { error_code, .. } | FaultAction::Outcome { error_code, .. } => *error_code,
        _ => None,
    };
    FaultyAnswer { response, delivery: delivery(action), error_code }
}

/// The answer of the actions that replace the one of DPS.
fn replacement(action: &FaultAction, now: Timestamp, ids: &Ids) -> Option<Response<Bytes>> {
    Some(match action {
        FaultAction::Status { status, retry_after, error_code } => {
            let mut response = bare(*status, Bytes::new());
            set(response.headers_mut(), RETRY_AFTER, retry_after.as_deref());
            if let Some(code) = error_code {
                *response.body_mut() = error_body(*code, "Injected fault.", now, ids).into();
                response.headers_mut().insert(CONTENT_TYPE, JSON);
            }
            response
        }
        FaultAction::Redirect { status, location } => {
            let mut response = bare(*status, Bytes::new());
            set(response.headers_mut(), LOCATION, Some(location));
            response
        }
        FaultAction::Answer { status, headers, body } => {
            let mut response = bare(*status, body.bytes().unwrap_or_default().into());
            for (name, value) in headers {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    set(response.headers_mut(), name, Some(value));
                }
            }
            response
        }
        FaultAction::Malformed => ok(JSON, r#"{"operationId":"5.0","status":"assi"#),
        FaultAction::Html => ok(HeaderValue::from_static("text/html"), HTML_PAGE),
        FaultAction::Huge { bytes, of: HugeOf::Header } => {
            let filler = "a".repeat(usize::try_from(*bytes).unwrap_or(usize::MAX));
            let mut response = ok(JSON, "");
            set(response.headers_mut(), HeaderName::from_static("x-filler"), Some(&filler));
            response
        }
        FaultAction::Huge { of: HugeOf::Gzip, .. } => {
            let mut response = ok(JSON, "");
            set(response.headers_mut(), CONTENT_ENCODING, Some("gzip"));
            response
        }
        FaultAction::Huge { .. } | FaultAction::Endless => ok(JSON, ""),
        _ => return None,
    })
}

fn delivery(action: &FaultAction) -> Delivery {
    match action {
        FaultAction::Huge { bytes, of: HugeOf::Space } => Delivery::Fill { bytes: *bytes, of: Filler::SPACE },
        FaultAction::Huge { bytes, of: HugeOf::Nesting } => {
            Delivery::Fill { bytes: *bytes, of: Filler::NESTING }
        }
        FaultAction::Huge { bytes, of: HugeOf::Gzip } => Delivery::Fill { bytes: *bytes, of: Filler::GZIP },
        FaultAction::Endless => Delivery::Endless,
        FaultAction::Reset => Delivery::Reset,
        FaultAction::Delay { time } => Delivery::Late(*time),
        FaultAction::Truncated => Delivery::Truncated,
        FaultAction::Slow { bytes_per_second, from } => {
            Delivery::Slow { bytes_per_second: *bytes_per_second, from: *from }
        }
        _ => Delivery::Whole,
    }
}

fn bare(status: u16, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn ok(content_type: HeaderValue, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

fn keep_assigning(response: &mut Response<Bytes>, kind: OperationKind, retry_after: Option<u64>) {
    if response.status() != StatusCode::OK {
        return;
    }
    edit(response, |body| {
        body.insert("status".to_owned(), json!(RegistrationStatus::Assigning));
        match kind {
            OperationKind::Lookup => {
                for field in ["assignedHub", "deviceId", "substatus"] {
                    body.remove(field);
                }
            }
            _ => drop(body.remove("registrationState")),
        }
    });
    if kind != OperationKind::Lookup {
        *response.status_mut() = StatusCode::ACCEPTED;
        let headers = response.headers_mut();
        headers.extend(retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
    }
}

fn set_outcome(
    response: &mut Response<Bytes>,
    kind: OperationKind,
    status: RegistrationStatus,
    code: Option<u32>,
    message: Option<&str>,
) {
    if !response.status().is_success() {
        return;
    }
    edit(response, |body| {
        body.insert("status".to_owned(), json!(status));
        if kind != OperationKind::Lookup {
            body.entry("registrationState").or_insert_with(|| json!({}));
        }
        if let Some(state) = registration_state_in(body, kind) {
            for field in ["assignedHub", "deviceId", "substatus", "payload", "issuedCertificateChain"] {
                state.remove(field);
            }
            state.insert("status".to_owned(), json!(status));
            state.extend(code.map(|code| ("errorCode".to_owned(), json!(code))));
            state.extend(message.map(|text| ("errorMessage".to_owned(), json!(text))));
        }
    });
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(RETRY_AFTER);
    response.headers_mut().remove(LOCATION);
}

/// Changes the body if it is a JSON object.
fn edit(response: &mut Response<Bytes>, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Ok(Value::Object(mut body)) = serde_json::from_slice(response.body()) {
        change(&mut body);
        *response.body_mut() = Value::Object(body).to_string().into();
    }
}

fn registration_state_in(
    body: &mut Map<String, Value>,
    kind: OperationKind,
) -> Option<&mut Map<String, Value>> {
    match kind {
        OperationKind::Lookup => Some(body),
        _ => body.get_mut("registrationState")?.as_object_mut(),
    }
}

fn merge(into: &mut Map<String, Value>, fields: &Map<String, Value>) {
    for (name, value) in fields {
        match value {
            Value::Null => drop(into.remove(name)),
            value => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned() -> Response<Bytes> {
        let body = r#"{"operationId":"4.a.b","status":"assigned","registrationState":
            {"registrationId":"dev","assignedHub":"hub.example","deviceId":"dev","status":"assigned"}}"#;
        ok(JSON, body)
    }

    fn applied(action: FaultAction, answer: Option<Response<Bytes>>) -> (StatusCode, Value, FaultyAnswer) {
        let at = Context {
            kind: OperationKind::Poll,
            now: Timestamp::UNIX_EPOCH,
            ids: &Ids::new(),
            retry_after: Some(7),
        };
        let faulty = apply(&action, answer, &at);
        let body = serde_json::from_slice(faulty.response.body()).unwrap_or(Value::Null);
        (faulty.response.status(), body, faulty)
    }

    #[test]
    fn a_rewrite_replaces_and_removes_fields() {
        let action = FaultAction::Rewrite {
            operation: Map::from_iter([("status".to_owned(), json!("unheard-of"))]),
            registration_state: Map::from_iter([
                ("assignedHub".to_owned(), json!("evil.example")),
                ("deviceId".to_owned(), Value::Null),
            ]),
        };
        let (status, body, _) = applied(action, Some(assigned()));
        assert_eq!(status, 200);
        assert_eq!(body["status"], "unheard-of");
        assert_eq!(body["registrationState"]["assignedHub"], "evil.example");
        assert_eq!(body["registrationState"].get("deviceId"), None);
    }

    #[test]
    fn assigning_for_ever_hides_what_was_assigned() {
        let (status, body, faulty) = applied(FaultAction::Assigning, Some(assigned()));
        assert_eq!(status, 202);
        assert_eq!(faulty.response.headers()[RETRY_AFTER], "7");
        assert_eq!(body, json!({"operationId": "4.a.b", "status": "assigning"}));
    }

    #[test]
    fn an_outcome_takes_the_hub_away_and_brings_its_error() {
        let action = FaultAction::Outcome {
            status: RegistrationStatus::Failed,
            error_code: Some(400_207),
            error_message: Some("Custom allocation failed with status code: 400".to_owned()),
        };
        let (status, body, faulty) = applied(action, Some(assigned()));
        assert_eq!(status, 200);
        assert_eq!(body["status"], "failed");
        assert_eq!(body["registrationState"]["errorCode"], 400_207);
        assert_eq!(body["registrationState"].get("assignedHub"), None);
        assert_eq!(faulty.error_code, Some(400_207));
    }

    #[test]
    fn an_error_status_has_a_body_only_with_a_code() {
        let (status, body, with) = applied(FaultAction::throttled("soon"), None);
        assert_eq!(status, 429);
        assert_eq!(with.response.headers()[RETRY_AFTER], "soon");
        assert_eq!(body["errorCode"], 429_001);
        let (_, _, without) = applied(FaultAction::status(503), None);
        assert!(without.response.body().is_empty());
    }

    #[test]
    fn a_refusal_is_not_turned_into_a_success() {
        let refused = || Some(bare(401, Bytes::new()));
        let (status, ..) = applied(FaultAction::Assigning, refused());
        assert_eq!(status, 401);
    }
}
