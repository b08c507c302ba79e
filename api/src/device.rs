//! `ProvisionedDevice`: one device, one registration.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attestation::{CredentialStatus, DeviceAttestation};
use super::issued::IssuedCertificateStatus;
use super::names;
use super::payload::Payload;
use super::schema;
use super::shared::{DriftCheck, Registration, Reprovision, SecretSettings};
use super::state::{self, State};

/// One device that is registered through DPS and followed to its hub.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "dps-operator.io",
    version = "v1alpha1",
    kind = "ProvisionedDevice",
    plural = "provisioneddevices",
    shortname = "pdev",
    category = "dps",
    namespaced,
    status = "ProvisionedDeviceStatus",
    derive = "PartialEq",
    doc = "One device that is registered through DPS and followed to its hub.",
    selectable = ".spec.integrationRef.name",
    selectable = ".status.assignedHub",
    selectable = ".status.registrationId",
    selectable = ".status.state",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Hub", type_ = "string", json_path = ".status.assignedHub"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Registration-Id", type_ = "string", json_path = ".status.registrationId", priority = 1),
    printcolumn(name = "Integration", type_ = "string", json_path = ".spec.integrationRef.name", priority = 1),
    printcolumn(name = "Integration-Namespace", type_ = "string", json_path = ".spec.integrationRef.namespace", priority = 1),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secret.name", priority = 1),
    printcolumn(name = "Key", type_ = "string", json_path = ".status.credential.slot", priority = 1),
    printcolumn(name = "Last-Reg", type_ = "date", json_path = ".status.lastRegistrationTime", priority = 1),
    // A date that lies ahead is no age, which is what kubectl makes of type "date".
    printcolumn(name = "Cert-Expires", type_ = "string", json_path = ".status['issuedCertificate','credential'].notAfter", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("(has(self.spec.registrationId) ? self.spec.registrationId : self.metadata.name) == (has(oldSelf.spec.registrationId) ? oldSelf.spec.registrationId : oldSelf.metadata.name)").message("the registration id is immutable; create another ProvisionedDevice for another id").field_path(".spec.registrationId"),
    validation = Rule::new("has(self.spec.registrationId) || self.metadata.name.size() <= 128").message("metadata.name is longer than the 128 characters of a registration id; set spec.registrationId").field_path(".spec.registrationId"),
    validation = Rule::new("(has(self.spec.secret) && has(self.spec.secret.name)) || self.metadata.name.size() <= 249").message("metadata.name with '-hub' is longer than the 253 characters of a Secret's name; set spec.secret.name").field_path(".spec.secret"),
)]
pub struct ProvisionedDeviceSpec {
    /// The integration that registers this device.
    pub integration_ref: IntegrationRef,
    /// The id that DPS knows the device by, metadata.name when absent. In an enrollment group it
    /// becomes the device id; an individual enrollment may name another one. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9]([a-z0-9._:-]{0,126}[a-z0-9])?$"))]
    pub registration_id: Option<String>,
    /// How this device proves who it is, if not as its integration says: with a key of an individual
    /// enrollment, or with a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation: Option<DeviceAttestation>,
    /// JSON object handed to DPS's custom allocation; at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::payload")]
    pub payload: Option<Payload>,
    /// How the first registration is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// When the device registers again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reprovision: Option<Reprovision>,
    /// How often DPS is asked where the device is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check: Option<DriftCheck>,
    /// The Secret that receives the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<DeviceSecret>,
    /// True: no new DPS operation for this device; its Secret is still repaired.
    #[serde(default)]
    pub suspend: bool,
}

/// Reference to an integration.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationRef {
    /// The kind referred to.
    #[serde(default)]
    pub kind: IntegrationKind,
    /// Name of the integration.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("no object can have this name: names have lower-case letters, digits, '-' and '.', a letter or digit first and last"))]
    pub name: String,
    /// Namespace of the integration, the device's own when absent. Another one needs that
    /// integration's consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("no namespace can have this name: names have lower-case letters, digits and '-', a letter or digit first and last"))]
    pub namespace: Option<String>,
}

/// Kinds that a device can refer to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IntegrationKind {
    #[default]
    DpsIntegration,
}

/// The generated Secret: its name and its settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSecret {
    /// Name of the Secret, metadata.name with "-hub" when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: Option<String>,
    #[serde(flatten)]
    pub settings: SecretSettings,
}

/// What the operator knows about a device.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionedDeviceStatus {
    /// The generation that the conditions describe; -1 until the operator has reconciled the object once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions in one word, for kubectl get --field-selector status.state=Failed.
    #[serde(default, deserialize_with = "state::lenient", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Ready, Registered, SecretReady; Reconciling or Stalled only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The id registered with DPS or, of a device without a hub, the one that would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// The id scope that the device was registered in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_scope: Option<String>,
    /// The enrollment group that admitted the device, if DPS named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment_group_id: Option<String>,
    /// Host name of the hub that the device is assigned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_hub: Option<String>,
    /// Host name of the hub that the device was assigned to before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_hub: Option<String>,
    /// The device's id in that hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The assignment as DPS reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentStatus>,
    /// Which key the device was registered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// The certificate that DPS has issued to the device; only if its integration has DPS do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_certificate: Option<IssuedCertificateStatus>,
    /// Hash of what was registered: id scope, registration id, effective payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_hash: Option<String>,
    /// The generated Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretStatus>,
    /// The Secret in the form that Service Binding expects; only with format ServiceBinding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<BindingStatus>,
    /// Hash of the payload that custom allocation returned; the payload itself is in the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned_payload_hash: Option<String>,
    /// When DPS last assigned the device at our request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_registration_time: Option<Time>,
    /// Failed attempts in a row, written at 1, 2, 4, 8 and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What DPS or the API server answered last when it was not success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// The device's reprovision token that was served last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reprovision_token: Option<String>,
    /// The integration's reprovision token that was served last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_integration_token: Option<String>,
    /// Echo of the annotation reconcile.fluxcd.io/requestedAt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// The assignment as DPS reports it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentStatus {
    /// DPS's status, for example assigned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// DPS's substatus, for example initialAssignment or deviceDataMigrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substatus: Option<String>,
    /// Version of the registration record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When the registration record was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// When the registration record last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_time: Option<String>,
}

/// The Secret that was written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// Name of the Secret.
    pub name: String,
    /// resourceVersion of the Secret after the operator's last write or check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Hash of the settings and the assignment that it was rendered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_hash: Option<String>,
}

/// The field that Service Binding reads.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// Name of the Secret.
    pub name: String,
}

/// The last answer that was not success.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// HTTP status of DPS's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// DPS's six-digit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// DPS's message, shortened and without anything that could be a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// DPS's tracking id: what Azure support asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_id: Option<String>,
    /// When the answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

impl ProvisionedDevice {
    /// `namespace/name` of the integration that the device refers to.
    pub fn integration_key(&self) -> String {
        let reference = &self.spec.integration_ref;
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("{}/{}", reference.namespace.as_deref().unwrap_or(own), reference.name)
    }

    /// The id that DPS knows the device by, as declared; not checked.
    pub fn registration_id(&self) -> &str {
        self.spec.registration_id.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// Name of the generated Secret.
    pub fn secret_name(&self) -> String {
        let own = self.spec.secret.as_ref().and_then(|secret| secret.name.as_deref());
        names::generated_secret(own, self.metadata.name.as_deref().unwrap_or_default())
    }
}
