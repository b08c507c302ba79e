//! What DPS, or what answers in its place, sends back.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use super::parts::{HUB_MAX, ID, SCOPE, is_allowed_hub, suffixes, target, valid};
use crate::controller::device::registered::{Made, Registered};
use crate::controller::failure;
use crate::dps::answer::Assignment;
use crate::dps::call::Call;
use crate::dps::error::DpsError;
use crate::dps::fuzz::{Answer, read};
use crate::dps::ids::RegistrationId;
use crate::fleet::hash::Hash;

/// Success more often than it would be by chance: most of what can go wrong stands in it.
const STATUSES: [u16; 24] = [
    200, 202, 200, 202, 200, 202, 204, 301, 400, 401, 403, 404, 407, 408, 409, 410, 412, 413, 425, 429, 500,
    503, 504, 999,
];
/// Longest text of the other side that is shown, in characters, and longest message made of one, in bytes.
const SHOWN_MAX: usize = 256;
const MESSAGE_MAX: usize = 2048;
const PAYLOAD_MAX: usize = 32 * 1024;
/// Characters of a secret in a row that are never shown.
const PIECE: usize = 12;

/// A name in an input, what stands in its place when the input is read, and the secret part of that.
struct Planted {
    name: &'static str,
    text: String,
    secret: String,
}

/// Secrets in the forms that an echo may have. A fuzzer could not come upon one by chance.
static PLANTED: LazyLock<[Planted; 4]> = LazyLock::new(|| {
    let key = Sha512::digest(b"an artificial group key");
    let signature = STANDARD.encode(Sha256::digest(b"an artificial signature"));
    let escaped = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!(
        "SharedAccessSignature sr={SCOPE}%2Fregistrations%2F{ID}&sig={}&se=1900000000&skn=registration",
        escaped(&signature)
    );
    let planted = |name, text: String, secret: &str| Planted { name, text, secret: squeezed(secret) };
    let key = STANDARD.encode(key);
    [
        planted("@key@", key.clone(), &key),
        planted("@url@", escaped(&key), &escaped(&key)),
        planted("@hex@", hex.clone(), &hex),
        planted("@sas@", token, &escaped(&signature)),
    ]
});

/// Cuts and blanks in a secret hide nothing of it.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '…').collect()
}

/// The first byte chooses call and HTTP status. Up to an empty line stand headers, behind it the body.
pub fn dps_answer(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let call = match choice % 4 {
        0 => Call::Register { payload: false, csr: false },
        1 => Call::Register { payload: true, csr: false },
        2 => Call::Poll,
        _ => Call::Lookup,
    };
    let status = valid(StatusCode::from_u16(STATUSES[usize::from(choice / 4) % STATUSES.len()]));
    let text = with_secrets(text);
    let (head, body) = match text.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&text[..end], &text[end + 2..]),
        None => (&[][..], &text[..]),
    };
    let id = valid(RegistrationId::parse(ID));
    let answer = Answer { status, headers: headers(head), body: body.to_vec() };
    match read(call, answer, &id, &suffixes()) {
        None => assert!(status.is_success(), "an operation goes on with {status}"),
        Some(Ok(assignment)) => {
            assert!(status.is_success(), "a device is assigned with {status}");
            is_as_said(call, body, &assignment);
            is_harmless(assignment);
        }
        Some(Err(error)) => is_shown_safely(&error),
    }
}

fn with_secrets(text: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        let planted = PLANTED.iter().find(|planted| rest.starts_with(planted.name.as_bytes()));
        if let Some(Planted { name, text, secret: _ }) = planted {
            whole.extend_from_slice(text.as_bytes());
            rest = &rest[name.len()..];
        } else {
            whole.push(*first);
            rest = others;
        }
    }
    whole
}

fn headers(head: &[u8]) -> HeaderMap {
    let named = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    });
    named.collect()
}

/// An assignment is the one that the body names, of the device that was asked for.
fn is_as_said(call: Call, body: &[u8], assignment: &Assignment) {
    // JSON arrays can stand for objects; those are not read a second time.
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return };
    let (operation, state) = match call {
        Call::Lookup => (None, answer),
        Call::Register { .. } | Call::Poll => match answer.get("registrationState") {
            Some(Value::Object(state)) => (answer.get("status").cloned(), state.clone()),
            _ => return,
        },
    };
    let text = |name: &str| state.get(name).and_then(Value::as_str);
    let registration = text("registrationId");
    assert!(registration.is_none_or(|said| said.eq_ignore_ascii_case(ID)), "of another registration");
    assert_eq!(text("deviceId"), Some(assignment.device_id.as_str()), "another device id");
    let hub = text("assignedHub").map(str::to_ascii_lowercase);
    assert_eq!(hub.as_deref(), Some(assignment.hub.as_str()), "another hub");
    let said: Vec<&str> =
        [operation.as_ref().and_then(Value::as_str), text("status")].into_iter().flatten().collect();
    assert!(!said.is_empty() && said.iter().all(|status| *status == "assigned"), "its status is {said:?}");
}

fn is_harmless(assignment: Assignment) {
    let hub = assignment.hub.as_str();
    assert!(is_allowed_hub(hub) && hub.len() <= HUB_MAX, "{hub} is under no allowed suffix");
    assert!(assignment.device_id.eq_ignore_ascii_case(ID), "{} is another device id", assignment.device_id);
    let payload = assignment.payload.as_ref().map(|payload| valid(serde_json::to_string(payload)).len());
    assert!(payload.is_none_or(|size| size <= PAYLOAD_MAX), "a payload of {payload:?} bytes");
    let made = Made {
        scope: SCOPE,
        registration_id: ID,
        credential: target().credentials.in_use(),
        slot: None,
        key_secret: None,
        certificate: None,
        hash: Hash::of("registered", []),
    };
    // As status and Secret take it over.
    let Registered { hub, device_id, assignment, enrollment_group, .. } = Registered::new(assignment, made);
    let texts =
        [assignment.substatus, assignment.etag, assignment.created_time, assignment.last_updated_time];
    for text in texts.into_iter().chain([enrollment_group]).flatten() {
        may_be_shown(&text, SHOWN_MAX);
    }
    may_be_shown(&hub, HUB_MAX);
    may_be_shown(&device_id, ID.len());
}

pub(super) fn is_shown_safely(error: &DpsError) {
    let said = failure::last_error(error, Timestamp::UNIX_EPOCH);
    for text in [&said.message, &said.tracking_id].into_iter().flatten() {
        may_be_shown(text, SHOWN_MAX);
    }
    for text in [failure::message(error), failure::said_by_dps(error), error.to_string()] {
        may_be_shown(&text, MESSAGE_MAX);
    }
    assert!(error.retry_after().is_none_or(|wait| wait.as_secs() <= 3600), "a wait of more than an hour");
}

/// A text is short, printable, and holds no piece of a secret.
fn may_be_shown(text: &str, most: usize) {
    assert!(text.chars().count() <= most, "{} characters are shown", text.chars().count());
    assert!(text.chars().all(|c| c == '…' || c == ' ' || c.is_ascii_graphic()), "{text:?} is not printable");
    let squeezed = squeezed(text);
    let characters: Vec<(usize, char)> = squeezed.char_indices().collect();
    for piece in characters.windows(PIECE) {
        let (from, to) = (piece[0].0, piece[PIECE - 1].0 + piece[PIECE - 1].1.len_utf8());
        let piece = &squeezed[from..to];
        assert!(!PLANTED.iter().any(|planted| planted.secret.contains(piece)), "{text:?} shows {piece:?}");
    }
}
