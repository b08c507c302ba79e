//! Further shapes of the credentials in the Secret. Values are what DPS assigned and what was
//! checked on its way in; files are written by serialisers, never by concatenation.

use serde::Serialize;

use crate::api::shared::FormatType;
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
}

impl<'a> Parts<'a> {
    fn key(&self) -> &'a str {
        match &self.credential.proof {
            Proof::SymmetricKey(key) => key.reveal(),
        }
    }
}

/// Data keys that a format writes.
pub fn keys(format: FormatType) -> &'static [&'static str] {
    match format {
        FormatType::Env => &[CONNECTION_STRING, HOSTNAME, DEVICE_ID, DEVICE_KEY],
        FormatType::Dotenv => &["device.env"],
        FormatType::IotEdgeConfigToml | FormatType::IotEdgeDpsConfigToml => &["config.toml"],
        FormatType::Mqtt => &["mqttHost", "mqttPort", "mqttUsername", "mqttClientId"],
        FormatType::ServiceBinding => &["type", "provider", "host", "username", "password"],
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
        FormatType::ServiceBinding => {
            owned(&["azure-iothub", "azure", parts.hub, &mqtt_username(parts), parts.key()])
        }
    }
}

fn environment<'a>(parts: &Parts<'a>) -> [&'a str; 4] {
    [parts.connection_string, parts.hub, parts.device_id, parts.key()]
}

/// One variable a line, unquoted: docker takes everything behind the first `=` as it is, and to
/// systemd none of the characters that occur here means anything.
fn dotenv(parts: &Parts<'_>) -> String {
    let names = keys(FormatType::Env).iter();
    names.zip(environment(parts)).map(|(name, value)| format!("{name}={value}\n")).collect()
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
    connection_string: &'a str,
}

impl<'a> EdgeManual<'a> {
    fn new(parts: &Parts<'a>) -> Self {
        Self {
            parent_hostname: parts.gateway_hostname,
            provisioning: Manual { source: "manual", connection_string: parts.connection_string },
        }
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
struct DpsAttestation<'a> {
    method: &'static str,
    registration_id: &'a str,
    symmetric_key: KeyValue<'a>,
}

#[derive(Serialize)]
struct KeyValue<'a> {
    value: &'a str,
}

impl<'a> DpsAttestation<'a> {
    fn new(parts: &Parts<'a>) -> Self {
        match &parts.credential.proof {
            Proof::SymmetricKey(key) => Self {
                method: "symmetric_key",
                registration_id: parts.registration_id,
                symmetric_key: KeyValue { value: key.reveal() },
            },
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
