//! What DPS says of a registration. Pure: an answer's body in, an assignment or an error out.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::attestation::CredentialKind;
use super::attestation::certificate::DeviceCertificate;
use super::error::{Detail, DpsError, Invalid};
use super::ids::{HubHostname, InvalidId, RegistrationId, is_device_id};
use super::issuance::CertificateRequest;
use super::scrub::Shown;
use super::wire::{Operation, RegistrationState};
use crate::clock::Now;

const RETURNED_PAYLOAD_MAX: usize = 32 * 1024;

/// A device's assignment as DPS reports it; hub and ids have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub hub: HubHostname,
    /// Equal to the registration id but for ASCII case, where the credential requires that.
    pub device_id: String,
    pub substatus: Option<Shown>,
    pub etag: Option<Shown>,
    pub created_time: Option<Shown>,
    pub last_updated_time: Option<Shown>,
    pub enrollment_group: Option<Shown>,
    /// What custom allocation returned, at most 32 KiB as JSON.
    pub payload: Option<Map<String, Value>>,
    /// The certificate that DPS has issued in this registration, if it was asked for one.
    pub issued: Option<Arc<DeviceCertificate>>,
}

/// A whole answer within the limits.
pub(super) struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// When it was read.
    pub at: Now,
}

/// For whom an answer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub id: &'a RegistrationId,
    pub kind: CredentialKind,
    pub hub_suffixes: &'a [String],
    /// The certificate that it was asked for.
    pub request: Option<&'a CertificateRequest>,
    /// HTTP status of the answer.
    pub status: StatusCode,
}

/// Statuses that end an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Assigned,
    Failed,
    Disabled,
}

/// How an operation has ended; `None` while it goes on. `unassigned` and unknown statuses are polled
/// until the deadline, as three of Microsoft's clients do.
///
/// Its status stands there twice. The operation's own says whether it goes on: the other may still be
/// that of an earlier registration. Once it has ended, trouble counts wherever it stands, and an
/// assignment only if both say so.
fn end(operation: Option<&str>, state: &RegistrationState) -> Option<End> {
    let unsaid = || state.error_code.filter(|code| *code != 0).map(|_| "failed");
    let state = state.status.as_deref().or_else(unsaid);
    match (operation.or(state)?, state.or(operation)?) {
        ("assigned" | "failed" | "disabled", "disabled") | ("disabled", _) => Some(End::Disabled),
        ("assigned" | "failed", "failed") | ("failed", _) => Some(End::Failed),
        ("assigned", "assigned") => Some(End::Assigned),
        _ => None,
    }
}

impl Reader<'_> {
    /// What an answer to register or to a poll means; `None` while the operation goes on.
    pub(super) fn operation(self, operation: Operation) -> Option<Result<Assignment, DpsError>> {
        let state = operation.registration_state.unwrap_or_default();
        let end = end(operation.status.as_deref(), &state)?;
        Some(self.is_ours(&state).and_then(|()| match end {
            End::Assigned => self.assignment(state),
            End::Failed => Err(failed(self.detail(&state))),
            End::Disabled => Err(DpsError::Disabled(self.detail(&state))),
        }))
    }

    /// What an answer to a lookup means: DPS shows how the last registration ended. One that failed is
    /// none; a new one shows whether it still would.
    pub(super) fn lookup(self, state: RegistrationState) -> Result<Assignment, DpsError> {
        self.is_ours(&state)?;
        let detail = self.detail(&state);
        match state.status.as_deref() {
            Some("assigned") => self.assignment(state),
            Some("failed" | "unassigned") => Err(DpsError::NotAssigned(detail)),
            Some("disabled") => Err(DpsError::Disabled(detail)),
            // Another client registers it at this moment.
            Some("assigning") => Err(DpsError::Conflict(detail)),
            _ => Err(DpsError::InvalidResponse(Invalid::RegistrationStatus)),
        }
    }

    fn is_ours(self, state: &RegistrationState) -> Result<(), DpsError> {
        let said = state.registration_id.as_deref();
        if said.is_none_or(|said| said.eq_ignore_ascii_case(self.id.as_str())) {
            Ok(())
        } else {
            Err(DpsError::InvalidResponse(Invalid::RegistrationId))
        }
    }

    fn detail(self, state: &RegistrationState) -> Detail {
        Detail {
            http_status: Some(self.status.as_u16()),
            code: state.error_code,
            message: state.error_message.as_deref().and_then(Shown::message),
            ..Detail::default()
        }
    }

    fn assignment(self, state: RegistrationState) -> Result<Assignment, DpsError> {
        let Self { id, kind, hub_suffixes, .. } = self;
        let invalid = |what| Err(DpsError::InvalidResponse(what));
        let (Some(hub), Some(device_id)) = (state.assigned_hub, state.device_id) else {
            return invalid(Invalid::NoHub);
        };
        let fits = !kind.device_id_is_registration_id() || device_id.eq_ignore_ascii_case(id.as_str());
        if !(fits && is_device_id(&device_id)) {
            return invalid(Invalid::DeviceId);
        }
        let hub = HubHostname::parse(&hub, hub_suffixes).map_err(|error| match error {
            InvalidId::HubSuffix => DpsError::InvalidResponse(Invalid::HubSuffix(hub.into())),
            _ => DpsError::InvalidResponse(Invalid::HubHostname),
        })?;
        let payload = match state.payload {
            Some(Value::Object(map)) => Some(map),
            _ => None,
        };
        if payload.as_ref().is_some_and(|map| json_size(map) > RETURNED_PAYLOAD_MAX) {
            return invalid(Invalid::PayloadTooLarge);
        }
        let issued = self.issued(state.issued_certificate_chain.as_deref())?;
        let group = state.symmetric_key.and_then(|key| key.enrollment_group_id);
        Ok(Assignment {
            hub,
            device_id,
            substatus: state.substatus.as_deref().and_then(Shown::name),
            etag: state.etag.as_deref().and_then(Shown::etag),
            created_time: state.created_date_time_utc.as_deref().and_then(Shown::time),
            last_updated_time: state.last_updated_date_time_utc.as_deref().and_then(Shown::time),
            enrollment_group: group.as_deref().and_then(Shown::name),
            payload,
            issued,
        })
    }

    fn issued(self, chain: Option<&[String]>) -> Result<Option<Arc<DeviceCertificate>>, DpsError> {
        let Some(request) = self.request else { return Ok(None) };
        let chain = chain.filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(DpsError::InvalidResponse(Invalid::NoIssuedCertificate))?;
        let issued = request.issued(chain);
        issued.map(Some).map_err(|_| DpsError::InvalidResponse(Invalid::IssuedCertificate))
    }
}

fn json_size(map: &Map<String, Value>) -> usize {
    serde_json::to_vec(map).map_or(usize::MAX, |bytes| bytes.len())
}

/// An operation that ended as `failed`. DPS accepted the device before: what follows comes from the
/// allocation and from the hubs, but for the codes that DPS uses of its own enrollments.
fn failed(detail: Detail) -> DpsError {
    match detail.code {
        // A failure inside the service is reported without a code, or with one of a server.
        None | Some(0 | 408_000..=408_999 | 429_000..=429_999 | 500_000..=599_999) => {
            DpsError::AllocationInterrupted(detail)
        }
        Some(404_200..=404_299) => DpsError::NotFound(detail),
        Some(409_000..=409_999 | 412_000..=412_999) => DpsError::Conflict(detail),
        // 401xxx is said of a hub that does not accept DPS (its link is stale), not of the device.
        Some(_) => DpsError::AllocationFailed(detail),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
