//! The calls of the admin API and their bodies.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::certificate::{Certificate, Thumbprint};
use crate::config::{Certificates, Issuance, ReprovisionPolicy};
use crate::control::{Control, ControlError};
use crate::dps::{RegistrationState, Settings};
use crate::faults::{Fault, FaultError};
use crate::keys::SymmetricKey;
use crate::ledger::LedgerEntry;
use crate::route::query_parameter;
use crate::shared::{Handshake, Outage};

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("there is no {method} {path}; the README lists the calls")]
    NoSuchCall { method: Method, path: String },
    #[error("the body does not fit: {0}")]
    Body(#[from] serde_json::Error),
    #[error("since must be a number")]
    Since,
    #[error("there is no fault {0}")]
    NoFault(String),
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl ApiError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchCall { .. } | Self::NoFault(_) => StatusCode::NOT_FOUND,
            Self::Control(
                ControlError::NoIdScope(_)
                | ControlError::NoGroup(_)
                | ControlError::NoIndividualEnrollment(_)
                | ControlError::NoRegistration(_)
                | ControlError::NoCertificateAuthority(_),
            ) => StatusCode::NOT_FOUND,
            Self::Body(_) | Self::Since | Self::Fault(_) | Self::Control(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// An error as a body.
pub(super) fn problem(message: &str) -> Vec<u8> {
    json!({"error": message}).to_string().into_bytes()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    primary_key: SymmetricKey,
    secondary_key: SymmetricKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeviceName {
    device_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enabled {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hub {
    hub: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hubs {
    hubs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    requests: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OutageBody {
    outage: Outage,
}

/// Seconds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClockBody {
    ahead: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeviceKey {
    id_scope: String,
    registration_id: String,
    key: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct HandshakeBody {
    handshake: Handshake,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeviceCertificate {
    id_scope: String,
    registration_id: String,
    certificate: Certificate,
}

/// A certificate is uploaded, or one that is there is verified or not any more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorityBody {
    certificate: Option<Certificate>,
    verified: bool,
}

/// A registration record, and what the hub knows of the device's certificates.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    #[serde(flatten)]
    state: RegistrationState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hub_thumbprints: Vec<Thumbprint>,
}

#[derive(Serialize)]
struct Entries {
    entries: Vec<LedgerEntry>,
}

/// A request to the admin API.
pub(super) struct Call<'c> {
    pub control: &'c Control,
    pub method: &'c Method,
    pub path: &'c str,
    pub query: &'c str,
    pub body: &'c [u8],
}

type Answered = Result<Option<Vec<u8>>, ApiError>;

/// Carries out a call; returns the JSON body of the answer, if it has one.
pub(super) fn answer(call: &Call<'_>) -> Answered {
    let &Call { control, query, body, .. } = call;
    let segments: Vec<String> = call
        .path
        .split('/')
        .skip(1)
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["healthz"]) => reply(&json!({"status": "ok"})),
        ("GET", ["v1", "ledger"]) => ledger(control, query),
        ("DELETE", ["v1", "ledger"]) => {
            control.clear_ledger();
            Ok(None)
        }
        ("GET", ["v1", "ledger", "totals"]) => reply(&control.totals()),
        ("GET", ["v1", "faults"]) => reply(&control.faults()),
        ("POST", ["v1", "faults"]) => {
            let id = control.inject(read::<Fault>(body)?)?;
            reply(&json!({"id": id}))
        }
        ("DELETE", ["v1", "faults"]) => {
            control.clear_faults();
            Ok(None)
        }
        ("DELETE", ["v1", "faults", id]) => clear_fault(control, id),
        ("GET", ["v1", "settings"]) => reply(&control.settings()),
        ("PATCH", ["v1", "settings"]) => change_settings(control, body),
        ("GET", ["v1", "outage"]) => reply(&OutageBody { outage: control.outage() }),
        ("PUT", ["v1", "outage"]) => {
            control.set_outage(read::<OutageBody>(body)?.outage);
            Ok(None)
        }
        ("GET", ["v1", "handshake"]) => reply(&HandshakeBody { handshake: control.handshake() }),
        ("PUT", ["v1", "handshake"]) => {
            control.set_handshake(read::<HandshakeBody>(body)?.handshake);
            Ok(None)
        }
        ("GET", ["v1", "clock"]) => reply(&ClockBody { ahead: control.clock_ahead() }),
        ("PUT", ["v1", "clock"]) => {
            control.set_clock_ahead(read::<ClockBody>(body)?.ahead);
            Ok(None)
        }
        ("GET", ["v1", "issuing-root"]) => reply(&json!({"pem": control.issuing_root_pem()})),
        ("POST", ["v1", "check-device-key"]) => {
            let asked: DeviceKey = read(body)?;
            let accepted = control.accepts_device_key(&asked.id_scope, &asked.registration_id, &asked.key);
            reply(&json!({"accepted": accepted}))
        }
        ("POST", ["v1", "check-device-certificate"]) => {
            let DeviceCertificate { id_scope, registration_id, certificate } = read(body)?;
            let accepted = control.accepts_device_certificate(&id_scope, &registration_id, &certificate);
            reply(&json!({"accepted": accepted}))
        }
        (_, ["v1", "scopes", id_scope, rest @ ..]) => answer_in_scope(call, id_scope, rest),
        _ => Err(no_such_call(call)),
    }
}

/// Changes a device's individual enrollment.
fn change_device(call: &Call<'_>, id_scope: &str, device: &str, rest: &[&str]) -> Result<(), ApiError> {
    let &Call { control, body, .. } = call;
    match (call.method.as_str(), rest) {
        ("DELETE", []) => control.remove_device_enrollment(id_scope, device)?,
        ("PUT", ["keys"]) => {
            let Keys { primary_key, secondary_key } = read(body)?;
            control.replace_device_keys(id_scope, device, primary_key, secondary_key)?;
        }
        ("PUT", ["device-id"]) => {
            let DeviceName { device_id } = read(body)?;
            control.set_device_id(id_scope, device, device_id.as_deref())?;
        }
        ("PUT", ["certificates"]) => {
            control.set_device_certificates(id_scope, device, read::<Certificates>(body)?)?;
        }
        ("PUT" | "DELETE", ["issuance"]) => control.set_device_issuance(id_scope, device, policy(call)?)?,
        ("PUT", ["enabled"]) => {
            control.set_device_enabled(id_scope, device, read::<Enabled>(body)?.enabled)?;
        }
        _ => return Err(no_such_call(call)),
    }
    Ok(())
}

fn answer_in_scope(call: &Call<'_>, id_scope: &str, rest: &[&str]) -> Answered {
    let &Call { control, body, .. } = call;
    match (call.method.as_str(), rest) {
        ("PUT", ["hubs"]) => control.set_linked_hubs(id_scope, &read::<Hubs>(body)?.hubs)?,
        ("DELETE", ["quota-counters"]) => control.reset_quota_counters(id_scope)?,
        ("POST", ["quota-counters"]) => {
            let admitted = control.spend_quota(id_scope, read::<Requests>(body)?.requests)?;
            return reply(&json!({"admitted": admitted}));
        }
        ("PUT", ["groups", group, "keys"]) => {
            let Keys { primary_key, secondary_key } = read(body)?;
            control.replace_group_keys(id_scope, group, primary_key, secondary_key)?;
        }
        ("PUT", ["groups", group, "certificates"]) => {
            control.set_group_certificates(id_scope, group, read::<Certificates>(body)?)?;
        }
        (_, ["devices", device, rest @ ..]) => change_device(call, id_scope, device, rest)?,
        ("PUT", ["certificate-authorities", name]) => match read(body)? {
            AuthorityBody { certificate: Some(certificate), verified } => {
                control.upload_certificate_authority(id_scope, name, certificate, verified)?;
            }
            AuthorityBody { certificate: None, verified } => {
                control.set_certificate_authority_verified(id_scope, name, verified)?;
            }
        },
        ("PUT" | "DELETE", ["groups", group, "issuance"]) => {
            control.set_group_issuance(id_scope, group, policy(call)?)?;
        }
        ("PUT", ["groups", group, "enabled"]) => {
            control.set_group_enabled(id_scope, group, read::<Enabled>(body)?.enabled)?;
        }
        ("PUT", ["groups", group, "hub"]) => {
            control.set_static_hub(id_scope, group, &read::<Hub>(body)?.hub)?;
        }
        ("PUT", ["groups", group, "reprovision-policy"]) => {
            control.set_reprovision_policy(id_scope, group, read::<ReprovisionPolicy>(body)?)?;
        }
        ("DELETE", ["groups", group]) => control.delete_group(id_scope, group)?,
        ("GET", ["registrations", device]) => {
            let missing = || ControlError::NoRegistration((*device).to_owned());
            let state = control.registration(id_scope, device).ok_or_else(missing)?;
            let hub_thumbprints = control.hub_thumbprints(id_scope, device);
            return reply(&Registered { state, hub_thumbprints });
        }
        ("DELETE", ["registrations", device]) => control.delete_registration(id_scope, device)?,
        ("PUT", ["registrations", device, "hub"]) => {
            control.move_device(id_scope, device, &read::<Hub>(body)?.hub)?;
        }
        _ => return Err(no_such_call(call)),
    }
    Ok(None)
}

/// The certificate policy that a call sets, or none if it removes it.
fn policy(call: &Call<'_>) -> Result<Option<Issuance>, ApiError> {
    match *call.method {
        Method::DELETE => Ok(None),
        _ => read(call.body).map(Some),
    }
}

fn no_such_call(call: &Call<'_>) -> ApiError {
    ApiError::NoSuchCall { method: call.method.clone(), path: call.path.to_owned() }
}

fn ledger(control: &Control, query: &str) -> Answered {
    let since = match query_parameter(query, "since") {
        None => 0,
        Some(text) => text.parse().map_err(|_| ApiError::Since)?,
    };
    reply(&Entries { entries: control.ledger_since(since) })
}

fn clear_fault(control: &Control, id: &str) -> Answered {
    match id.parse().is_ok_and(|id| control.clear_fault(id)) {
        true => Ok(None),
        false => Err(ApiError::NoFault(id.to_owned())),
    }
}

/// Fields that are not in the body keep their value; `null` is a value.
fn change_settings(control: &Control, body: &[u8]) -> Answered {
    let mut settings = serde_json::to_value(control.settings())?;
    overlay(&mut settings, read(body)?);
    let settings: Settings = serde_json::from_value(settings)?;
    control.set_settings(settings);
    reply(&settings)
}

fn overlay(onto: &mut Value, change: Map<String, Value>) {
    for (name, value) in change {
        match (onto.get_mut(&name), value) {
            (Some(inner @ Value::Object(_)), Value::Object(value)) => overlay(inner, value),
            (_, value) => onto[name] = value,
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    Ok(serde_json::from_slice(body)?)
}

fn reply(body: &impl Serialize) -> Answered {
    Ok(Some(serde_json::to_vec(body)?))
}
