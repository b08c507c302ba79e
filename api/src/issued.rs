//! Certificates that DPS itself issues to devices: what users declare, and what a status says of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A certificate that DPS issues to each device in the course of its registration, for a key that the operator makes for
/// it. The device connects to its hub with that, and not with what it proves to DPS who it is. The enrollment has to name a
/// certificate policy of an Azure Device Registry namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificate {
    /// Dps: the DPS instance.
    pub issued_by: CertificateIssuer,
    /// The devices' keys; each certificate has a new one.
    #[serde(default)]
    pub key_algorithm: IssuedKeyAlgorithm,
}

/// Who issues certificates.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CertificateIssuer {
    Dps,
}

/// Algorithms of the keys that are made for devices.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IssuedKeyAlgorithm {
    #[default]
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
}

impl IssuedKeyAlgorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP384 => "ECDSA-P384",
            Self::EcdsaP256 => "ECDSA-P256",
        }
    }
}

/// The certificate that DPS has issued to a device.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificateStatus {
    /// The first 16 hex digits of its SHA-256.
    pub fingerprint: String,
    /// From when on it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// When it expires. It is replaced after two thirds of its life.
    pub not_after: Time,
    /// The CA that has issued it, as status.certificates.issuers of the integration names it by its fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}
