//! How devices prove who they are to DPS: what users declare, of all devices of an integration or of one,
//! and what may be shown of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How devices prove who they are to DPS. A struct of optional members, so that an older operator
/// can still read an object that uses a newer one.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.symmetricKey), has(self.perDevice)].filter(x, x).size() == 1").message("set exactly one kind of attestation: symmetricKey or perDevice"))]
pub struct Attestation {
    /// The keys of a symmetric-key enrollment group; each device's key is derived from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// Nothing is shared: every device has an individual enrollment, and spec.attestation of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_device: Option<PerDevice>,
}

/// Every device says itself how it proves who it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PerDevice {}

/// How one device proves who it is, whatever its integration says of the others.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.symmetricKey)].filter(x, x).size() == 1").message("set exactly one kind of attestation: symmetricKey"))]
pub struct DeviceAttestation {
    /// The keys of the device's individual enrollment, in Secrets of the device's namespace. They are used
    /// as they are, nothing is derived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
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

/// Which key a device was registered with.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The kind of attestation.
    #[serde(rename = "type")]
    pub kind: CredentialType,
    /// The slot that the key was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<KeySlot>,
    /// Fingerprint of the group's key, or of the device's own; absent until DPS has accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The Secret that the device's own key was read from; absent for a key derived from a group's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// resourceVersion of that Secret when its key was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_resource_version: Option<String>,
}

/// Kinds of credentials.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CredentialType {
    SymmetricKey,
}
