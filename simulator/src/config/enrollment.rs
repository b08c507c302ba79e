//! Id scopes and the enrollments in them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::duration;
use crate::certificate::Certificate;
use crate::keys::{KeyError, SymmetricKey};

/// One DPS instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdScope {
    pub id_scope: String,
    /// The host names of the linked hubs.
    #[serde(default)]
    pub hubs: Vec<String>,
    #[serde(default)]
    pub enrollment_groups: Vec<EnrollmentGroup>,
    /// Enrollments of one device each; they have precedence over groups.
    #[serde(default)]
    pub individual_enrollments: Vec<IndividualEnrollment>,
    /// Uploaded CA certificates: a device's chain has to reach a verified one.
    #[serde(default)]
    pub certificate_authorities: Vec<CertificateAuthority>,
}

/// A CA certificate that was uploaded to DPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertificateAuthority {
    pub name: String,
    pub certificate: Certificate,
    /// Whether its owner has proven to have its key.
    #[serde(default = "yes")]
    pub verified: bool,
}

/// The certificates of an enrollment: of the device itself, or of the CA or intermediate CA that a group
/// is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Certificates {
    pub primary: Certificate,
    #[serde(default)]
    pub secondary: Option<Certificate>,
}

/// An enrollment group, of symmetric keys or of certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnrollmentGroup {
    pub id: String,
    #[serde(default)]
    pub primary_key: Option<SymmetricKey>,
    #[serde(default)]
    pub secondary_key: Option<SymmetricKey>,
    /// In place of the keys.
    #[serde(default)]
    pub x509: Option<Certificates>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub allocation_policy: AllocationPolicy,
    /// The hub of the `static` policy.
    #[serde(default)]
    pub hub: Option<String>,
    /// The webhook of the `custom` policy.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    #[serde(default)]
    pub reprovision_policy: ReprovisionPolicy,
    /// By default no certificates are issued.
    #[serde(default)]
    pub issuance: Option<Issuance>,
}

impl EnrollmentGroup {
    /// An enabled group with the `hashed` policy; the keys are base64.
    pub fn new(id: &str, primary_key: &str, secondary_key: &str) -> Result<Self, KeyError> {
        Ok(Self {
            primary_key: Some(SymmetricKey::from_base64(primary_key)?),
            secondary_key: Some(SymmetricKey::from_base64(secondary_key)?),
            ..Self::plain(id)
        })
    }

    /// An enabled group with the `hashed` policy for devices with certificates of this CA.
    pub fn x509(id: &str, ca: Certificate) -> Self {
        Self { x509: Some(Certificates { primary: ca, secondary: None }), ..Self::plain(id) }
    }

    fn plain(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            primary_key: None,
            secondary_key: None,
            x509: None,
            enabled: true,
            allocation_policy: AllocationPolicy::Hashed,
            hub: None,
            webhook: None,
            reprovision_policy: ReprovisionPolicy::default(),
            issuance: None,
        }
    }
}

/// The enrollment of one device, which signs with the enrollment's own keys or has a certificate of its own.
///
/// A disabled one needs neither: it then disables a device of an enrollment group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IndividualEnrollment {
    pub registration_id: String,
    /// The device id at the hub; by default the registration id.
    #[serde(default)]
    pub device_id: Option<String>,
    #[serde(default)]
    pub primary_key: Option<SymmetricKey>,
    #[serde(default)]
    pub secondary_key: Option<SymmetricKey>,
    /// In place of the keys.
    #[serde(default)]
    pub x509: Option<Certificates>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub allocation_policy: AllocationPolicy,
    #[serde(default)]
    pub hub: Option<String>,
    #[serde(default)]
    pub webhook: Option<Webhook>,
    #[serde(default)]
    pub reprovision_policy: ReprovisionPolicy,
    /// By default no certificates are issued.
    #[serde(default)]
    pub issuance: Option<Issuance>,
}

/// How an enrollment chooses a hub. `geoLatency` is not simulated, since there are no distances on one
/// machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllocationPolicy {
    /// Evenly among the linked hubs, by the registration id.
    #[default]
    Hashed,
    /// Always the same hub.
    Static,
    /// A webhook decides.
    Custom,
}

/// What happens when a device registers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ReprovisionPolicy {
    /// Whether a hub is chosen again; otherwise the device stays on its hub.
    pub update_hub_assignment: bool,
    /// Whether the device's data moves to the new hub; otherwise it is reset.
    pub migrate_device_data: bool,
}

impl Default for ReprovisionPolicy {
    fn default() -> Self {
        Self { update_hub_assignment: true, migrate_device_data: true }
    }
}

/// The certificate policy of an enrollment: DPS issues certificates to its devices, which ask for them as
/// they register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Issuance {
    /// How long a certificate is valid. DPS has 7 to 90 days; here it is any time but 0.
    #[serde(deserialize_with = "duration::required::deserialize")]
    pub validity: Duration,
}

/// A custom-allocation webhook, simulated by a table over one field of the device's payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Webhook {
    /// The payload field that decides.
    pub field: String,
    #[serde(default)]
    pub rules: Vec<WebhookRule>,
    /// The answer if no rule fits; without it the webhook fails, and so does the registration.
    #[serde(default)]
    pub otherwise: Option<WebhookAnswer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WebhookRule {
    /// The value that the field must have.
    pub value: Value,
    pub hub: String,
    /// Returned to the device.
    #[serde(default)]
    pub payload: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WebhookAnswer {
    pub hub: String,
    /// Returned to the device.
    #[serde(default)]
    pub payload: Option<Map<String, Value>>,
}

fn yes() -> bool {
    true
}
