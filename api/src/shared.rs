//! Parts that both kinds have: how a device wants to be registered and its Secret to be written.
//! They appear in a device's spec and in an integration's `deviceDefaults`, so nothing here has a
//! schema default: absent means "inherit".

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How the first registration is made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Register (the built-in) always registers a device that never was. LookupFirst adopts an
    /// existing registration as it is and registers only when DPS has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_create: Option<OnCreate>,
}

/// What to do with a device that was never registered by this object.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum OnCreate {
    Register,
    LookupFirst,
}

/// When a registered device registers again.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.policy == 'Periodic') == has(self.interval)").message("interval is required with policy Periodic and not allowed otherwise"))]
pub struct Reprovision {
    /// OnChange (the built-in): when what was registered no longer matches. Periodic: also at every
    /// interval. Never: once, then only on request.
    pub policy: ReprovisionPolicy,
    /// Time between two registrations; required with Periodic and not allowed otherwise; at least 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::reprovision_interval")]
    pub interval: Option<Duration>,
}

/// The closed set of reprovision policies.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum ReprovisionPolicy {
    OnChange,
    Periodic,
    Never,
}

/// How often DPS is asked where the device is now.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftCheck {
    /// Time between two lookups; 0s turns them off, else at least 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::drift_check_interval")]
    pub interval: Option<Duration>,
}

/// What happens to the generated Secret when its device is deleted.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum DeletionPolicy {
    Delete,
    Retain,
}

/// One further shape in which the credentials are written into the Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Format {
    /// Which format.
    #[serde(rename = "type")]
    pub kind: FormatType,
}

/// The closed set of formats.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FormatType {
    Env,
    Dotenv,
    IotEdgeConfigToml,
    IotEdgeDpsConfigToml,
    Mqtt,
    ServiceBinding,
}

/// Other names for the standard keys of the Secret; an empty name leaves the key out.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[[has(self.connectionString) ? self.connectionString : 'connectionString', has(self.iotHubHostname) ? self.iotHubHostname : 'iotHubHostname', has(self.deviceId) ? self.deviceId : 'deviceId', has(self.sharedAccessKey) ? self.sharedAccessKey : 'sharedAccessKey', has(self.registrationId) ? self.registrationId : 'registrationId', has(self.idScope) ? self.idScope : 'idScope', has(self.returnedPayload) ? self.returnedPayload : 'returnedPayload'].filter(k, k != '')].all(l, l.all(k, l.indexOf(k) == l.lastIndexOf(k)))").message("two keys of the Secret would have the same name"),
    validation = Rule::new("[has(self.certificate), has(self.privateKey), has(self.caCertificate)].filter(x, x).size() == 0 || [[has(self.connectionString) ? self.connectionString : 'connectionString', has(self.iotHubHostname) ? self.iotHubHostname : 'iotHubHostname', has(self.deviceId) ? self.deviceId : 'deviceId', has(self.sharedAccessKey) ? self.sharedAccessKey : 'sharedAccessKey', has(self.registrationId) ? self.registrationId : 'registrationId', has(self.idScope) ? self.idScope : 'idScope', has(self.returnedPayload) ? self.returnedPayload : 'returnedPayload', has(self.certificate) ? self.certificate : '', has(self.privateKey) ? self.privateKey : '', has(self.caCertificate) ? self.caCertificate : ''].filter(k, k != '')].all(l, l.all(k, l.indexOf(k) == l.lastIndexOf(k)))").message("two keys of the Secret would have the same name")
)]
pub struct SecretKeys {
    /// Replaces connectionString.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub connection_string: Option<String>,
    /// Replaces iotHubHostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub iot_hub_hostname: Option<String>,
    /// Replaces deviceId.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub device_id: Option<String>,
    /// Replaces sharedAccessKey.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub shared_access_key: Option<String>,
    /// Replaces registrationId.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub registration_id: Option<String>,
    /// Replaces idScope.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub id_scope: Option<String>,
    /// Replaces returnedPayload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub returned_payload: Option<String>,
    /// Replaces tls.crt: the certificate that the device was registered with, of devices that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub certificate: Option<String>,
    /// Replaces tls.key: the certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub private_key: Option<String>,
    /// Replaces ca.crt: the CA's certificate, where the source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)?$"))]
    pub ca_certificate: Option<String>,
}

/// Settings of the generated Secret, apart from its name.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSettings {
    /// Delete (the built-in): the Secret goes with its device. Retain: it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Labels for the Secret; a device's win over inherited ones, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations for the Secret; a device's win over inherited ones, key by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Shapes added to the standard keys; at most one of the two IoT Edge files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["type".into()]),
        validation = Rule::new("self.filter(f, f.type in ['IotEdgeConfigToml','IotEdgeDpsConfigToml']).size() <= 1").message("IotEdgeConfigToml and IotEdgeDpsConfigToml both write config.toml: choose one")
    )]
    pub formats: Option<Vec<Format>>,
    /// Renames standard keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<SecretKeys>,
    /// Host name of the IoT Edge gateway that the device connects through; added to the connection
    /// string, and to IoT Edge's configuration as parent_hostname. Empty: none, also if one is inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(
            pattern = r"^([A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*)?$"
        )
    )]
    pub gateway_hostname: Option<String>,
    /// Where IoT Edge finds the files of the Secret: the IoT Edge formats of devices with certificates name them
    /// there. /var/run/dps if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[A-Za-z0-9._/-]*$"))]
    pub certificate_directory: Option<String>,
}
