//! What cert-manager is asked for: as users declare it for all devices of an integration, and the Certificate that
//! comes of it for one (cert-manager.io/v1).

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the Certificate that a Secret was issued for, as cert-manager writes it onto the Secret.
pub const CERTIFICATE_NAME: &str = "cert-manager.io/certificate-name";

/// Has cert-manager issue the certificates of devices: each device has a Certificate of its own in its namespace, which
/// the operator creates, keeps as it is declared here and leaves to the garbage collector when the device is deleted.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.duration) || duration(self.duration) >= duration('1h')").message("duration must be at least 1h, as cert-manager wants it").field_path(".duration"),
    validation = Rule::new("!has(self.renewBefore) || (duration(self.renewBefore) >= duration('5m') && duration(self.renewBefore) < duration(has(self.duration) ? self.duration : '2160h'))").message("renewBefore must be at least 5m and less than duration, which is 2160h unless it is set").field_path(".renewBefore")
)]
pub struct CertManager {
    /// What issues the certificates.
    pub issuer_ref: IssuerRef,
    /// How long a certificate is valid, such as 2160h; at least 1h. cert-manager's default is 90 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = r"^([0-9]{1,6}[hms]){1,3}$"))]
    pub duration: Option<String>,
    /// How long before it expires it is renewed; at least 5m. cert-manager's default is a third of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = r"^([0-9]{1,6}[hms]){1,3}$"))]
    pub renew_before: Option<String>,
    /// The devices' keys; each certificate has a new one.
    #[serde(default)]
    pub private_key: CertificateKey,
}

/// An issuer of cert-manager, or of one of its external issuers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name. An Issuer is looked for in the namespace of each device.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Issuer, ClusterIssuer, or the kind of an external issuer.
    #[serde(default = "issuer")]
    #[schemars(length(max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// The API group of that kind.
    #[serde(default = "cert_manager")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".to_owned()
}

fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}

/// Keys of devices: kinds that DPS is known to take.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.size) || (self.algorithm == 'ECDSA' ? self.size in [256, 384] : self.algorithm == 'RSA' && self.size in [2048, 3072, 4096])").message("size is 256 or 384 for ECDSA, 2048, 3072 or 4096 for RSA, and left out for Ed25519").field_path(".size"))]
pub struct CertificateKey {
    /// ECDSA, RSA or Ed25519.
    #[serde(default)]
    pub algorithm: KeyAlgorithm,
    /// 256 (the default) or 384 bits for ECDSA, 2048 (the default), 3072 or 4096 for RSA; none for Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
}

/// Algorithms of keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum KeyAlgorithm {
    #[default]
    #[serde(rename = "ECDSA")]
    Ecdsa,
    #[serde(rename = "RSA")]
    Rsa,
    Ed25519,
}

impl CertificateKey {
    /// Bits, also where they are not said; an Ed25519 key has one length only.
    pub fn bits(&self) -> Option<i32> {
        match self.algorithm {
            KeyAlgorithm::Ecdsa => Some(self.size.unwrap_or(256)),
            KeyAlgorithm::Rsa => Some(self.size.unwrap_or(2048)),
            KeyAlgorithm::Ed25519 => None,
        }
    }
}

/// What the operator writes into a Certificate, and reads back; other fields are none of its own.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "Certificate",
    plural = "certificates",
    namespaced,
    schema = "disabled"
)]
pub struct CertificateSpec {
    pub secret_name: String,
    pub common_name: String,
    pub usages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    pub private_key: Option<CertificateKeySpec>,
    pub issuer_ref: Option<IssuerRef>,
}

/// The key of a Certificate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateKeySpec {
    pub algorithm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    pub rotation_policy: Option<String>,
}
