//! How devices prove who they are to DPS: what users declare, of all devices of an integration or of one,
//! and what may be shown of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cert_manager::CertManager;

/// How devices prove who they are to DPS. A struct of optional members, so that an older operator
/// can still read an object that uses a newer one.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.symmetricKey), has(self.x509), has(self.perDevice)].filter(x, x).size() == 1").message("set exactly one kind of attestation: symmetricKey, x509 or perDevice"))]
pub struct Attestation {
    /// The keys of a symmetric-key enrollment group; each device's key is derived from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// Every device has an X.509 certificate, in a Secret of its namespace. DPS finds the enrollment by it: a
    /// group of one of its CAs, or an individual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509: Option<X509>,
    /// Nothing is shared: every device has an individual enrollment, and spec.attestation of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_device: Option<PerDevice>,
}

/// Every device says itself how it proves who it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PerDevice {}

/// Where the certificates of devices are.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct X509 {
    /// Name of the Secret of type kubernetes.io/tls with a device's certificate, in the device's namespace;
    /// {name} stands for the device's metadata.name.
    #[serde(default = "certificate_secret")]
    #[schemars(length(max = 132), regex(pattern = r"^[a-z0-9.-]{0,63}\{name\}[a-z0-9.-]{0,63}$"))]
    pub secret_name: String,
    /// Has cert-manager issue them. Without it, others see to it that those Secrets are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
}

/// How one device proves who it is, whatever its integration says of the others.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.symmetricKey), has(self.x509)].filter(x, x).size() == 1").message("set exactly one kind of attestation: symmetricKey or x509"))]
pub struct DeviceAttestation {
    /// The keys of the device's individual enrollment, in Secrets of the device's namespace. They are used
    /// as they are, nothing is derived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<Box<SymmetricKey>>,
    /// The device's X.509 certificate. Whether a group or an individual enrollment admits it, DPS finds out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509: Option<DeviceX509>,
}

/// Where the certificate of one device is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceX509 {
    /// The Secret of type kubernetes.io/tls in this namespace. Without it the integration's
    /// attestation.x509.secretName says which one, else it is <metadata.name>-tls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CertificateRef>,
}

/// A Secret of type kubernetes.io/tls in this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// What a device proves its identity with by itself, and where that is.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnCredential {
    /// Keys of an individual enrollment.
    Keys(SymmetricKey),
    /// A certificate, in the Secret of this name.
    Certificate(String),
}

impl OwnCredential {
    /// Of a device of this name, by its own word, else by its integration's. `template`: how that names the
    /// Secrets of its devices' certificates, if it does. `None` for a kind that this version does not know, too.
    pub fn of(own: Option<&DeviceAttestation>, template: Option<&str>, name: &str) -> Option<Self> {
        let expanded = |template: &str| Self::Certificate(template.replace(DEVICE_NAME, name));
        match own {
            None => template.map(expanded),
            Some(DeviceAttestation { symmetric_key: Some(keys), x509: None }) => {
                Some(Self::Keys((**keys).clone()))
            }
            Some(DeviceAttestation { symmetric_key: None, x509: Some(DeviceX509 { secret_ref }) }) => {
                let named = secret_ref.as_ref().map(|secret| Self::Certificate(secret.name.clone()));
                Some(named.unwrap_or_else(|| expanded(template.unwrap_or(CERTIFICATE_SECRET))))
            }
            Some(_) => None,
        }
    }

    /// Name of the Secret with what is to be used.
    pub fn secret(&self) -> &str {
        match self {
            Self::Keys(keys) => keys.active_secret(),
            Self::Certificate(secret) => secret,
        }
    }

    /// The slot of a key.
    pub fn slot(&self) -> Option<KeySlot> {
        match self {
            Self::Keys(keys) => Some(keys.active),
            Self::Certificate(_) => None,
        }
    }

    pub fn kind(&self) -> CredentialType {
        match self {
            Self::Keys(_) => CredentialType::SymmetricKey,
            Self::Certificate(_) => CredentialType::X509,
        }
    }
}

/// Stands for a device's name in a template.
const DEVICE_NAME: &str = "{name}";
/// The Secret of a certificate, where nothing else is said: as cert-manager's documentation names them.
const CERTIFICATE_SECRET: &str = "{name}-tls";

fn certificate_secret() -> String {
    CERTIFICATE_SECRET.to_owned()
}

/// Where the two keys of an enrollment are.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// The primary key, base64 as the portal shows it.
    pub primary_key_ref: PrimaryKeyRef,
    /// The secondary key. Needed only while keys are rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_key_ref: Option<SecondaryKeyRef>,
    /// Which of the two keys is to be used for registrations.
    #[serde(default)]
    pub active: KeySlot,
}

impl SymmetricKey {
    /// Names of the Secrets that it refers to, and the key in each.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        let Self { primary_key_ref, secondary_key_ref, active: _ } = self;
        let secondary = secondary_key_ref.as_ref().map(|key| (key.name.as_str(), key.key.as_str()));
        [Some((primary_key_ref.name.as_str(), primary_key_ref.key.as_str())), secondary].into_iter().flatten()
    }

    /// Name of the Secret with the key that is to be used.
    pub fn active_secret(&self) -> &str {
        match (self.active, &self.secondary_key_ref) {
            (KeySlot::Secondary, Some(secondary)) => &secondary.name,
            (KeySlot::Secondary, None) | (KeySlot::Primary, _) => &self.primary_key_ref.name,
        }
    }
}

/// One of the two keys of an enrollment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum KeySlot {
    #[default]
    Primary,
    Secondary,
}

/// A key of a Secret in this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrimaryKeyRef {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key within the Secret.
    #[serde(default = "primary_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// A key of a Secret in this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecondaryKeyRef {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key within the Secret.
    #[serde(default = "secondary_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"))]
    pub key: String,
}

fn primary_key() -> String {
    "primaryKey".to_owned()
}

fn secondary_key() -> String {
    "secondaryKey".to_owned()
}

/// Fingerprints of the keys that DPS has accepted, and the slot that it accepted last.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// The primary key, once DPS has accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<KeyStatus>,
    /// The secondary key, once DPS has accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary: Option<KeyStatus>,
    /// Keys that DPS has not accepted yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<UnprovenKeys>,
    /// The slot whose key new registrations are made with: the one that was asked for, or the other
    /// one while DPS refuses that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<KeySlot>,
    /// The slot whose key DPS accepted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working: Option<KeySlot>,
}

/// By what keys are known again that DPS has not accepted: nothing of a key is in it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnprovenKeys {
    /// resourceVersion of the Secret that the primary key was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_version: Option<String>,
    /// resourceVersion of the Secret that the secondary key was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_version: Option<String>,
}

/// What may be said about a key that DPS has accepted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// First 16 hex digits of SHA-256("dps-operator/v1" 0x00 key).
    pub fingerprint: String,
}

/// Which key or certificate a device was registered with.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The kind of attestation.
    #[serde(rename = "type")]
    pub kind: CredentialType,
    /// The slot that the key was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<KeySlot>,
    /// Fingerprint of the group's key, or of the device's own; absent until DPS has accepted it. Of a certificate
    /// the first 16 hex digits of its SHA-256: how the thumbprint begins that the hub has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// From when on the certificate is valid that the device was registered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// When that certificate expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// The CA that has issued it, as status.certificates.issuers of the integration names it by its fingerprint; absent
    /// of a certificate that no CA has issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The Secret that the device's own key or certificate was read from; absent for a key derived from a group's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// resourceVersion of that Secret when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,
}

/// Kinds of credentials.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CredentialType {
    SymmetricKey,
    X509,
}
