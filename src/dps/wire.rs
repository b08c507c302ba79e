//! Bodies as they travel. Names and shapes: `specification/deviceprovisioningservices/data-plane`
//! in Azure/azure-rest-api-specs. Every field of an answer is optional there; unknown ones are ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ids::OperationId;

/// Generally available, used by Microsoft's C client and by IoT Edge.
pub(super) const API_VERSION: &str = "2021-06-01";
/// The first generally available one with which DPS issues certificates, as its specification has it. Used where a
/// certificate is asked for, and nowhere else.
pub(super) const ISSUANCE_API_VERSION: &str = "2026-11-01";

/// Body of register and of the registration status lookup.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceRegistration<'a> {
    pub registration_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a Map<String, Value>>,
    /// Base64 of a DER PKCS#10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csr: Option<&'a str>,
}

/// Answer to register and to polls.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub operation_id: Option<String>,
    pub status: Option<String>,
    pub registration_state: Option<RegistrationState>,
}

impl Operation {
    /// Takes the id by which it can be asked for.
    pub fn id(&mut self) -> Option<OperationId> {
        OperationId::parse(&self.operation_id.take()?)
    }
}

/// Where a registration stands; the bare answer to a lookup.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistrationState {
    pub registration_id: Option<String>,
    pub created_date_time_utc: Option<String>,
    pub last_updated_date_time_utc: Option<String>,
    pub assigned_hub: Option<String>,
    pub device_id: Option<String>,
    pub status: Option<String>,
    pub substatus: Option<String>,
    pub error_code: Option<i32>,
    pub error_message: Option<String>,
    pub etag: Option<String>,
    pub payload: Option<Value>,
    pub symmetric_key: Option<SymmetricKeyResult>,
    /// Base64 of the DER of each, the device's first. Of registrations with a `csr`.
    pub issued_certificate_chain: Option<Vec<String>>,
}

/// Which enrollment group admitted the device.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SymmetricKeyResult {
    pub enrollment_group_id: Option<String>,
}

/// Body of an answer that is not success.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    pub error_code: Option<i32>,
    pub tracking_id: Option<String>,
    pub message: Option<String>,
}
