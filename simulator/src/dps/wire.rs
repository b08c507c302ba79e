//! The JSON of the device API: request bodies and answers.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::certificate::{CertificateShown, Thumbprint};
use crate::config::{Acceptance, PayloadNotObject, Readings, X509ResultReading};
use crate::ids::Ids;

/// The size of the largest body that DPS accepts.
pub(crate) const MAX_BODY: usize = 96 * 1024;

/// The `status` of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistrationStatus {
    Unassigned,
    Assigning,
    Assigned,
    Failed,
    Disabled,
}

/// The `substatus` of an assigned registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Substatus {
    InitialAssignment,
    DeviceDataMigrated,
    DeviceDataReset,
    ReprovisionedToInitialAssignment,
}

/// `registrationState`, in the order in which DPS sends it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationState {
    pub registration_id: String,
    pub created_date_time_utc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    pub status: RegistrationStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<Substatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    pub last_updated_date_time_utc: String,
    pub etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKeyResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509: Option<X509Result>,
    /// What was issued to the device: its certificate, then those above it up to the root, DER in base64. Only
    /// the answer to the operation has it, not the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_certificate_chain: Option<Vec<String>>,
}

impl RegistrationState {
    /// The state of a registration that failed without being stored.
    pub(super) fn failed(id: &str, refusal: &Refusal, now: Timestamp, ids: &Ids) -> Self {
        Self {
            registration_id: id.to_owned(),
            created_date_time_utc: timestamp(now),
            assigned_hub: None,
            device_id: None,
            status: RegistrationStatus::Failed,
            substatus: None,
            error_code: Some(refusal.code()),
            error_message: Some(refusal.message().to_owned()),
            last_updated_date_time_utc: timestamp(now),
            etag: ids.etag(),
            payload: None,
            symmetric_key: None,
            x509: None,
            issued_certificate_chain: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKeyResult {
    pub enrollment_group_id: String,
}

/// `x509` of a registration that was made with a certificate; empty in the answers that Microsoft shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct X509Result {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_info: Option<CertificateInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment_group_id: Option<String>,
}

/// A certificate as the description of the API shows it; SHA-1 is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    pub subject_name: String,
    pub sha256_thumbprint: Thumbprint,
    pub issuer_name: String,
    pub not_before_utc: String,
    pub not_after_utc: String,
    pub serial_number: String,
    pub version: u32,
}

impl X509Result {
    pub(super) fn of(
        shown: &CertificateShown,
        group: Option<&Arc<str>>,
        reading: X509ResultReading,
    ) -> Option<Self> {
        match reading {
            X509ResultReading::Absent => None,
            X509ResultReading::Empty => Some(Self::default()),
            X509ResultReading::Full => Some(Self {
                certificate_info: Some(CertificateInfo {
                    subject_name: shown.subject.clone(),
                    sha256_thumbprint: shown.thumbprint.clone(),
                    issuer_name: shown.issuer.clone(),
                    not_before_utc: timestamp(shown.not_before),
                    not_after_utc: timestamp(shown.not_after),
                    serial_number: shown.serial_number.clone(),
                    version: 3,
                }),
                enrollment_group_id: group.map(|group| group.to_string()),
            }),
        }
    }
}

/// The answer to register and poll.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation<'a> {
    pub operation_id: &'a str,
    pub status: RegistrationStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<&'a RegistrationState>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error_code: u32,
    tracking_id: String,
    message: &'a str,
    timestamp_utc: String,
}

/// The body of an error answer; the code may be one that DPS does not have.
pub(crate) fn error_body(code: u32, message: &str, now: Timestamp, ids: &Ids) -> Vec<u8> {
    json(&ErrorBody { error_code: code, tracking_id: ids.guid(), message, timestamp_utc: timestamp(now) })
}

/// A timestamp as DPS writes it: UTC with seven fractional digits.
pub(super) fn timestamp(at: Timestamp) -> String {
    format!("{at:.7}")
}

/// The content of the body of register and lookup.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RequestContent {
    pub payload: Option<Map<String, Value>>,
    /// The signing request, not looked at yet.
    pub csr: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    registration_id: Option<String>,
    payload: Option<Value>,
    csr: Option<Value>,
}

/// Whether a body has a signing request, be it as it may otherwise.
pub(crate) fn has_csr(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        csr: Option<IgnoredAny>,
    }
    serde_json::from_slice(body).is_ok_and(|asked: Asked| asked.csr.is_some())
}

/// Reads and checks a request body.
pub(super) fn read_body(
    body: &[u8],
    registration_id: &str,
    readings: &Readings,
) -> Result<RequestContent, Refusal> {
    const NOT_JSON: Refusal = Refusal::BadRequest("The request body is not a JSON object.");
    // A struct could also be read from a JSON array.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(NOT_JSON);
    }
    let body: RequestBody = serde_json::from_slice(body).map_err(|_| NOT_JSON)?;
    let named = match &body.registration_id {
        Some(id) if id.eq_ignore_ascii_case(registration_id) => Acceptance::Accepted,
        Some(_) => readings.body_registration_id_differs,
        None => readings.body_registration_id_missing,
    };
    if named == Acceptance::Refused {
        return Err(Refusal::BadRequest("The registrationId in the body is not the one in the path."));
    }
    let payload = match body.payload {
        None | Some(Value::Null) => None,
        Some(Value::Object(payload)) => Some(payload),
        Some(_) if readings.payload_not_object == PayloadNotObject::Dropped => None,
        Some(_) => return Err(Refusal::BadRequest("The payload must be a JSON object.")),
    };
    Ok(RequestContent { payload, csr: body.csr })
}

/// Serialises a body; that cannot fail, since all keys are strings.
pub(super) fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<RequestContent, Refusal> {
        read_body(body.as_bytes(), "dev", &Readings::default())
    }

    #[test]
    fn a_timestamp_has_seven_fractional_digits() {
        let at: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        assert_eq!(timestamp(at), "2026-01-02T03:04:05.6000000Z");
    }

    #[test]
    fn a_body_names_the_registration_in_any_case_or_not_at_all() {
        assert!(read(r#"{"registrationId":"DEV"}"#).is_ok());
        assert!(read(" {} ").is_ok());
        assert!(read(r#"{"registrationId":"other"}"#).is_err());
        assert!(read(r#"{"registrationId":7}"#).is_err());
    }

    #[test]
    fn a_body_must_be_an_object() {
        for body in ["", "[]", r#"["dev",null]"#, "\"dev\"", "{", "{}{}"] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_payload_must_be_an_object_or_is_dropped_by_the_other_reading() {
        assert!(read(r#"{"payload":"text"}"#).is_err());
        assert_eq!(read(r#"{"payload":null}"#), Ok(RequestContent::default()));
        assert!(read(r#"{"payload":{"a":1}}"#).unwrap().payload.is_some());
        let lenient = Readings { payload_not_object: PayloadNotObject::Dropped, ..Readings::default() };
        let dropped = read_body(br#"{"payload":[1]}"#, "dev", &lenient).unwrap();
        assert_eq!(dropped.payload, None);
    }
}
