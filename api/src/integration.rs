//! `DpsIntegration`: one DPS instance and the key of one enrollment group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attestation::{Attestation, CredentialsStatus};
use super::issued::IssuedCertificate;
use super::payload::Payload;
use super::schema;
use super::shared::{DriftCheck, Registration, Reprovision, SecretSettings};
use super::state::{self, State};

/// The public cloud's endpoint; it serves every instance.
pub const DEFAULT_HOSTNAME: &str = "global.azure-devices-provisioning.net";

/// One Azure Device Provisioning Service and the key of one of its enrollment groups.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "dps-operator.io",
    version = "v1alpha1",
    kind = "DpsIntegration",
    plural = "dpsintegrations",
    shortname = "dpsi",
    category = "dps",
    namespaced,
    status = "DpsIntegrationStatus",
    derive = "PartialEq",
    doc = "One Azure Device Provisioning Service and the key of one of its enrollment groups.",
    selectable = ".status.state",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Devices", type_ = "integer", json_path = ".status.devices.total"),
    printcolumn(name = "Assigned", type_ = "integer", json_path = ".status.devices.assigned"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.devices.failed"),
    printcolumn(name = "Rotation", type_ = "string", json_path = ".status.keyRotation.progress"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Id-Scope", type_ = "string", json_path = ".spec.idScope", priority = 1),
    printcolumn(name = "Hostname", type_ = "string", json_path = ".spec.hostname", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.spec.idScope == oldSelf.spec.idScope || !has(oldSelf.status) || !has(oldSelf.status.acceptedIdScope) || self.spec.idScope == oldSelf.status.acceptedIdScope").message("idScope is fixed once DPS has accepted it; create another DpsIntegration for another scope").field_path(".spec.idScope"),
)]
pub struct DpsIntegrationSpec {
    /// The id scope of the DPS instance, as its overview page shows it: letters and digits. Fixed
    /// once DPS has accepted it.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9A-Za-z]+$"))]
    pub id_scope: String,
    /// Host or host:port of the device endpoint. A route, not an identity: changing it registers nothing.
    #[serde(default = "default_hostname")]
    #[schemars(
        length(min = 1, max = 259),
        regex(
            pattern = r"^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?(:[0-9]{1,5})?$"
        )
    )]
    pub hostname: String,
    /// How devices prove who they are. Exactly one member is set.
    pub attestation: Attestation,
    /// Has DPS issue a certificate to each device, with which it connects to its hub. Absent: a device connects with what
    /// it registers with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<IssuedCertificate>,
    /// Certificates that are trusted beside the public roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// If set, only registration ids that begin with one of these; "{namespace}" stands for the
    /// device's namespace and is followed by ".", "_" or ":", so that a does not get ids of a-b.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^$|^([a-z0-9]|[{]namespace[}][._:])([a-z0-9._:-]|[{]namespace[}][._:])*$') && (p.size() < 128 || p.matches('[a-z0-9]$')))").message("a prefix has what registration ids have: lower-case letters, digits, '-', '.', '_' and ':', a letter or digit first; {namespace}, the only placeholder, must be followed by '.', '_' or ':', which no namespace has: with '{namespace}-' namespace a would have the ids of namespace a-b")
    )]
    pub registration_id_prefixes: Vec<String>,
    /// Consent to devices of other namespaces. Absent: only devices of this namespace may reference it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// Lowers this integration's share of the rate; never raises the operator's limit for the id scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How work that concerns the whole fleet proceeds: key rotation, changed defaults, the
    /// integration's own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Settings that a device inherits where it sets none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_defaults: Option<DeviceDefaults>,
    /// True: no new DPS operation for any of its devices.
    #[serde(default)]
    pub suspend: bool,
}

fn default_hostname() -> String {
    DEFAULT_HOSTNAME.to_owned()
}

/// A key of a ConfigMap in this namespace, under data or binaryData, that holds certificates in PEM or
/// DER, at most 256 KiB.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// Name of the ConfigMap.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key within the ConfigMap.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

/// Consent to devices of other namespaces.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector is required with from: Selector and not allowed otherwise"),
    validation = Rule::new("self.from == 'Same' || (has(self.registrationIdPrefixes) && self.registrationIdPrefixes.size() > 0)").message("registrationIdPrefixes is required unless from is Same; \"\" allows every id")
)]
pub struct AllowedNamespaces {
    /// Same: only this namespace. All: every namespace. Selector: those whose labels match.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces; with Selector only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::namespace_selector")]
    pub selector: Option<LabelSelector>,
    /// What registration ids from other namespaces must begin with; "{namespace}" stands for the
    /// device's namespace and is followed by ".", "_" or ":", so that a does not get ids of a-b.
    /// "" allows every id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.matches('^$|^([a-z0-9]|[{]namespace[}][._:])([a-z0-9._:-]|[{]namespace[}][._:])*$') && (p.size() < 128 || p.matches('[a-z0-9]$')))").message("a prefix has what registration ids have: lower-case letters, digits, '-', '.', '_' and ':', a letter or digit first; {namespace}, the only placeholder, must be followed by '.', '_' or ':', which no namespace has: with '{namespace}-' namespace a would have the ids of namespace a-b")
    )]
    pub registration_id_prefixes: Vec<String>,
}

/// Which namespaces may reference an integration.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum NamespacesFrom {
    #[default]
    Same,
    All,
    Selector,
}

/// This integration's share of the rate.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Registrations and lookups a minute.
    #[schemars(range(min = 1, max = 100_000))]
    pub registrations_per_minute: i32,
}

/// How fleet-wide work proceeds.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// True holds fleet-wide work; new and changed devices go on.
    #[serde(default)]
    pub paused: bool,
    /// Slows fleet-wide work down to this many devices a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_per_minute: Option<i32>,
}

/// Settings that a device inherits where it sets none of its own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceDefaults {
    /// JSON object handed to DPS's custom allocation; a device's own replaces it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::payload")]
    pub payload: Option<Payload>,
    /// How first registrations are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// When devices register again; a device's own replaces it whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reprovision: Option<Reprovision>,
    /// How often DPS is asked where a device is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check: Option<DriftCheck>,
    /// Settings of generated Secrets. Labels and annotations apply only to devices of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSettings>,
}

/// What the operator knows about an integration and its devices.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DpsIntegrationStatus {
    /// The generation that the conditions describe; -1 until the operator has reconciled the object once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions in one word, for kubectl get --field-selector status.state=Failed.
    #[serde(default, deserialize_with = "state::lenient", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Ready always; Reconciling or Stalled only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Set when DPS first accepts the key for this id scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_id_scope: Option<String>,
    /// Which keys are in use; those that DPS has accepted, by fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,
    /// How many devices are in which state. Suspended, ready, failed and pending partition total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceCounts>,
    /// Devices by hub: the 50 largest hubs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["hostname".into()]))]
    pub hubs: Vec<HubCount>,
    /// Devices on further hubs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_hubs: Option<i32>,
    /// Failing devices by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub failures: Vec<FailureCount>,
    /// Progress of a key rotation, or of devices' move to the certificates of another CA; only while one is rolled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_rotation: Option<KeyRotationStatus>,
    /// How the certificates of its devices stand; only if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// Until when DPS has asked us to wait; only while it throttles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<Time>,
    /// When that was said, by the same clock: the wait is as long as from here to `throttledUntil`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_since: Option<Time>,
    /// The integration's reprovision token that was rolled out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reprovision_token: Option<String>,
    /// Echo of the annotation reconcile.fluxcd.io/requestedAt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// Devices by state.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceCounts {
    /// All devices that reference this integration.
    pub total: i32,
    /// Those with Ready=True.
    pub ready: i32,
    /// Those still to be served or retried.
    pub pending: i32,
    /// Those with Stalled=True: a person must change something.
    pub failed: i32,
    /// Those with suspend: true in their own spec.
    pub suspended: i32,
    /// Those that have a hub.
    pub assigned: i32,
}

/// Devices on one hub.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HubCount {
    /// Host name of the hub.
    pub hostname: String,
    /// Devices assigned to it.
    pub devices: i32,
}

/// Devices failing for one reason.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureCount {
    /// A reason of a device's Ready condition.
    pub reason: String,
    /// Devices with it.
    pub devices: i32,
}

/// Certificates of devices, in numbers.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// When the first of those expires that devices are registered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_not_after: Option<Time>,
    /// Devices with a newer one in its Secret that DPS has not accepted yet.
    pub unregistered: i32,
    /// Devices whose certificate is past five sixths of its life, with no newer one.
    pub overdue: i32,
    /// Devices whose certificate has expired: their hubs refuse them.
    pub expired: i32,
    /// The CAs that have issued them: at most 8, those with most devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["fingerprint".into()]))]
    pub issuers: Vec<IssuerStatus>,
    /// Devices with a certificate of another CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_issuers: Option<i32>,
}

/// A CA that has issued certificates of devices.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// As credential.issuer and issuedCertificate.issuer of devices name it: 16 hex digits that come of its subject and key.
    pub fingerprint: String,
    /// Its subject, as the certificates that it has issued name it.
    pub subject: String,
    /// Devices that connect to their hub with a certificate of it: their own, or one that DPS has issued.
    pub devices: i32,
    /// True once DPS has accepted one of them, or issued one.
    pub accepted: bool,
}

/// Progress of a key rotation, or of a change of CAs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotationStatus {
    /// Devices that it concerns.
    pub total: i32,
    /// Those still to be registered with the new key, or certificate.
    pub pending: i32,
    /// Those left out: suspended, or with policy Never.
    pub excluded: i32,
    /// True when DPS refused the new key, or certificates of the new CA, for every canary.
    pub blocked: bool,
    /// How far it is, for people: 64/127, and "paused" or "blocked" if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When the rotation began.
    pub started_at: Time,
}
