//! Further shapes of the credentials in the Secret. Values are what DPS assigned and what was
//! checked on its way in; files are written by serialisers, never by concatenation.

use serde::Serialize;

use crate::api::attestation::CredentialType;
use crate::api::shared::FormatType;
use crate::dps::attestation::certificate::TlsFiles;
use crate::dps::attestation::{DeviceCredential, Proof};

/// Version of the hub's MQTT interface, as its documentation names it in user names.
const MQTT_API_VERSION: &str = "2021-04-12";
const MQTT_PORT: &str = "8883";

const CONNECTION_STRING: &str = "IOTHUB_DEVICE_CONNECTION_STRING";
const HOSTNAME: &str = "IOTHUB_HOSTNAME";
const DEVICE_ID: &str = "IOTHUB_DEVICE_ID";
const DEVICE_KEY: &str = "IOTHUB_DEVICE_KEY";

/// What every format is made of.
pub struct Parts<'a> {
    pub hub: &'a str,
    pub device_id: &'a str,
    pub registration_id: &'a str,
    pub id_scope: &'a str,
    /// `host` or `host:port` of the DPS instance.
    pub dps_endpoint: &'a str,
    pub credential: &'a DeviceCredential,
    pub connection_string: &'a str,
    pub gateway_hostname: Option<&'a str>,
    /// Where IoT Edge finds the files of the Secret.
    pub certificate_directory: &'a str,
    /// Their names there.
    pub certificate_file: &'a str,
    pub private_key_file: &'a str,
}

/// Data keys that a format writes for a credential of this kind.
pub fn keys(format: FormatType, kind: CredentialType) -> &'static [&'static str] {
    match (format, kind) {
        (FormatType::Env, CredentialType::SymmetricKey) => {
            &[CONNECTION_STRING, HOSTNAME, DEVICE_ID, DEVICE_KEY]
        }
        (FormatType::Env, CredentialType::X509) => &[CONNECTION_STRING, HOSTNAME, DEVICE_ID],
        (FormatType::Dotenv, _) => &["device.env"],
        (FormatType::IotEdgeConfigToml | FormatType::IotEdgeDpsConfigToml, _) => &["config.toml"],
        (FormatType::Mqtt, _) => &["mqttHost", "mqttPort", "mqttUsername", "mqttClientId"],
        (FormatType::ServiceBinding, CredentialType::SymmetricKey) => {
            &["type", "provider", "host", "username", "password"]
        }
        // Well-known entries of the Service Binding Specification for Kubernetes.
        (FormatType::ServiceBinding, CredentialType::X509) => {
            &["type", "provider", "host", "username", "certificates", "private-key"]
        }
    }
}

/// Data of a format, in the order of its keys.
pub fn values(format: FormatType, parts: &Parts<'_>) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    match format {
        FormatType::Env => owned(&environment(parts)),
        FormatType::Dotenv => vec![dotenv(parts)],
        FormatType::IotEdgeConfigToml => vec![toml_text(&EdgeManual::new(parts))],
        FormatType::IotEdgeDpsConfigToml => vec![toml_text(&EdgeDps::new(parts))],
        FormatType::Mqtt => owned(&[
            // Devices behind a gateway connect to it, and name their hub all the same.
            parts.gateway_hostname.unwrap_or(parts.hub),
            MQTT_PORT,
            &mqtt_username(parts),
            parts.device_id,
        ]),
        FormatType::ServiceBinding => service_binding(parts),
    }
}

fn service_binding(parts: &Parts<'_>) -> Vec<String> {
    let username = mqtt_username(parts);
    let mut values = vec!["azure-iothub", "azure", parts.hub, &username];
    match &parts.credential.proof {
        Proof::SymmetricKey(key) => values.push(key.reveal()),
        Proof::Certificate(certificate) => {
            let TlsFiles { certificates, key, authority: _ } = certificate.reveal();
            // PEM that was read is text.
            let text = |pem| str::from_utf8(pem).unwrap_or_default();
            values.extend([text(certificates), text(key)]);
        }
    }
    values.into_iter().map(str::to_owned).collect()
}

fn environment<'a>(parts: &Parts<'a>) -> Vec<&'a str> {
    let mut values = vec![parts.connection_string, parts.hub, parts.device_id];
    match &parts.credential.proof {
        Proof::SymmetricKey(key) => values.push(key.reveal()),
        Proof::Certificate(_) => {}
    }
    values
}

/// One variable a line, unquoted: docker takes everything behind the first `=` as it is, and to
/// systemd none of the characters that occur here means anything.
fn dotenv(parts: &Parts<'_>) -> String {
    let names = [CONNECTION_STRING, HOSTNAME, DEVICE_ID, DEVICE_KEY];
    names.iter().zip(environment(parts)).map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// `<hub>/<device>/?api-version=<version>`: "Communicate with an IoT hub using the MQTT protocol".
fn mqtt_username(parts: &Parts<'_>) -> String {
    format!("{}/{}/?api-version={MQTT_API_VERSION}", parts.hub, parts.device_id)
}

fn toml_text(file: &impl Serialize) -> String {
    // Structs of texts always serialise.
    toml::to_string(file).unwrap_or_default()
}

/// `config.toml` of IoT Edge with manual provisioning. Names as in the template that IoT Edge
/// installs (contrib/config/linux/template.toml in Azure/iotedge).
#[derive(Serialize)]
struct EdgeManual<'a> {
    /// IoT Edge takes its parent from here and not from the connection string.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_hostname: Option<&'a str>,
    provisioning: Manual<'a>,
}

#[derive(Serialize)]
struct Manual<'a> {
    source: &'static str,
    #[serde(flatten)]
    identity: ManualIdentity<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ManualIdentity<'a> {
    Key { connection_string: &'a str },
    Certificate { iothub_hostname: &'a str, device_id: &'a str, authentication: X509Method },
}

#[derive(Serialize)]
struct X509Method {
    method: &'static str,
    identity_cert: String,
    identity_pk: String,
}

impl X509Method {
    /// The files of the Secret, where IoT Edge finds them.
    fn new(parts: &Parts<'_>) -> Self {
        let directory = parts.certificate_directory.trim_end_matches('/');
        let uri = |name: &str| format!("file://{directory}/{name}");
        Self {
            method: "x509",
            identity_cert: uri(parts.certificate_file),
            identity_pk: uri(parts.private_key_file),
        }
    }
}

impl<'a> EdgeManual<'a> {
    fn new(parts: &Parts<'a>) -> Self {
        let identity = match &parts.credential.proof {
            Proof::SymmetricKey(_) => ManualIdentity::Key { connection_string: parts.connection_string },
            Proof::Certificate(_) => ManualIdentity::Certificate {
                iothub_hostname: parts.hub,
                device_id: parts.device_id,
                authentication: X509Method::new(parts),
            },
        };
        Self { parent_hostname: parts.gateway_hostname, provisioning: Manual { source: "manual", identity } }
    }
}

/// `config.toml` of IoT Edge that registers with DPS itself.
#[derive(Serialize)]
struct EdgeDps<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_hostname: Option<&'a str>,
    provisioning: Dps<'a>,
}

#[derive(Serialize)]
struct Dps<'a> {
    source: &'static str,
    global_endpoint: String,
    id_scope: &'a str,
    attestation: DpsAttestation<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DpsAttestation<'a> {
    Key {
        method: &'static str,
        registration_id: &'a str,
        symmetric_key: KeyValue<'a>,
    },
    Certificate {
        registration_id: &'a str,
        #[serde(flatten)]
        x509: X509Method,
    },
}

#[derive(Serialize)]
struct KeyValue<'a> {
    value: &'a str,
}

impl<'a> DpsAttestation<'a> {
    fn new(parts: &Parts<'a>) -> Self {
        match &parts.credential.proof {
            Proof::SymmetricKey(key) => Self::Key {
                method: "symmetric_key",
                registration_id: parts.registration_id,
                symmetric_key: KeyValue { value: key.reveal() },
            },
            Proof::Certificate(_) => {
                Self::Certificate { registration_id: parts.registration_id, x509: X509Method::new(parts) }
            }
        }
    }
}

impl<'a> EdgeDps<'a> {
    fn new(parts: &Parts<'a>) -> Self {
        Self {
            parent_hostname: parts.gateway_hostname,
            provisioning: Dps {
                source: "dps",
                global_endpoint: format!("https://{}", parts.dps_endpoint),
                id_scope: parts.id_scope,
                attestation: DpsAttestation::new(parts),
            },
        }
    }
}
