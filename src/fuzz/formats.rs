//! What stands in a Secret, read by those who read such files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::parts::{DPS_HOST, SCOPE, device, is_gateway, lines, registered, secret, suffixes, target};
use crate::api::device::ProvisionedDevice;
use crate::controller::device::settings::RETURNED_PAYLOAD;
use crate::dps::attestation::DeviceCredential;
use crate::dps::ids::{HubHostname, RegistrationId};

const VARIABLES: [&str; 4] =
    ["IOTHUB_DEVICE_CONNECTION_STRING", "IOTHUB_HOSTNAME", "IOTHUB_DEVICE_ID", "IOTHUB_DEVICE_KEY"];

/// What is put into the formats.
struct Put<'a> {
    hub: HubHostname,
    id: &'a str,
    gateway: Option<&'a str>,
    key: String,
    payload: Option<Value>,
}

/// Registration id, hub and gateway on a line each; behind them the payload that custom allocation
/// returned. What admission or DPS's answer would not bring here is passed over.
pub fn formats(data: &[u8]) {
    let Some(([id, hub, gateway], payload)) = lines::<3>(data) else { return };
    let (Ok(_), Ok(hub)) = (RegistrationId::parse(id), HubHostname::parse(hub, &suffixes())) else { return };
    let put = Put {
        hub,
        id,
        gateway: Some(gateway).filter(|gateway| is_gateway(gateway)),
        key: STANDARD.encode(Sha256::digest(data)),
        payload: serde_json::from_slice::<Map<String, Value>>(payload).ok().map(Value::Object),
    };
    let mixed = put.written(&["Env", "Dotenv", "IotEdgeConfigToml", "Mqtt", "ServiceBinding"]);
    put.are_standard_keys(&mixed);
    put.is_environment(&mixed);
    put.is_for_mqtt_and_bindings(&mixed);
    put.is_edge(&mixed, &json!({"source": "manual", "connection_string": put.connection_string()}));
    assert_eq!(mixed.len(), 6 + usize::from(put.payload.is_some()) + 4 + 1 + 1 + 4 + 5);
    let dps = put.written(&["IotEdgeDpsConfigToml"]);
    put.are_standard_keys(&dps);
    put.is_edge(
        &dps,
        &json!({
            "source": "dps",
            "global_endpoint": format!("https://{DPS_HOST}"),
            "id_scope": SCOPE,
            "attestation": {
                "method": "symmetric_key", "registration_id": id, "symmetric_key": {"value": put.key},
            },
        }),
    );
}

type Data = BTreeMap<String, String>;

impl Put<'_> {
    /// Data of the Secret with these formats.
    fn written(&self, formats: &[&str]) -> Data {
        let formats: Vec<Value> = formats.iter().map(|format| json!({"type": format})).collect();
        let device: ProvisionedDevice = device(json!({
            "registrationId": self.id,
            "secret": {"formats": formats, "gatewayHostname": self.gateway},
        }));
        let target = target();
        let registered = registered(&device, &target, self.hub.as_str(), self.payload.as_ref());
        let credential = DeviceCredential::of_key(target.credentials.in_use(), &self.key);
        let secret = secret(&device, &registered, &target, credential.as_ref()).object();
        let texts = secret.data.into_iter().flatten().map(|(key, value)| (key, String::from_utf8(value.0)));
        texts.filter_map(|(key, text)| Some((key, text.ok()?))).collect()
    }

    fn connection_string(&self) -> String {
        let Self { hub, id, key, .. } = self;
        let gateway = self.gateway.map(|gateway| format!(";GatewayHostName={gateway}")).unwrap_or_default();
        format!("HostName={hub};DeviceId={id};SharedAccessKey={key}{gateway}")
    }

    fn are_standard_keys(&self, data: &Data) {
        let connection_string = self.connection_string();
        for (key, value) in [
            ("connectionString", connection_string.as_str()),
            ("iotHubHostname", self.hub.as_str()),
            ("deviceId", self.id),
            ("sharedAccessKey", &self.key),
            ("registrationId", self.id),
            ("idScope", SCOPE),
        ] {
            assert_eq!(text(data, key), value, "{key}");
        }
        let returned = data.get(RETURNED_PAYLOAD).map(|text| serde_json::from_str::<Value>(text).ok());
        assert_eq!(returned, self.payload.clone().map(Some), "the returned payload");
    }

    fn is_environment(&self, data: &Data) {
        let connection_string = self.connection_string();
        let values = [&connection_string, self.hub.as_str(), self.id, &self.key];
        let file = text(data, "device.env");
        assert!(file.ends_with('\n') && !file.contains(['\r', '\0', '"', '\'', '\\', '$', '#', '`', ' ']));
        let lines: Vec<_> = file.lines().map(|line| line.split_once('=')).collect();
        let pairs = VARIABLES.into_iter().zip(values);
        assert_eq!(lines, pairs.clone().map(Some).collect::<Vec<_>>(), "one variable a line");
        for (variable, value) in pairs {
            assert_eq!(text(data, variable), value, "{variable}");
        }
    }

    fn is_for_mqtt_and_bindings(&self, data: &Data) {
        let hub = self.hub.as_str();
        let user = format!("{hub}/{}/?api-version=2021-04-12", self.id);
        for (key, value) in [
            ("mqttHost", self.gateway.unwrap_or(hub)),
            ("mqttPort", "8883"),
            ("mqttUsername", &user),
            ("mqttClientId", self.id),
            ("type", "azure-iothub"),
            ("provider", "azure"),
            ("host", hub),
            ("username", &user),
            ("password", &self.key),
        ] {
            assert_eq!(text(data, key), value, "{key}");
        }
    }

    /// IoT Edge's file says this of provisioning, names the parent if there is one, and says no more.
    fn is_edge(&self, data: &Data, provisioning: &Value) {
        let mut whole = json!({"provisioning": provisioning});
        if let Some(gateway) = self.gateway {
            whole["parent_hostname"] = json!(gateway);
        }
        let read = toml::from_str::<Value>(text(data, "config.toml")).ok();
        assert_eq!(read, Some(whole), "config.toml");
    }
}

fn text<'a>(data: &'a Data, key: &str) -> &'a str {
    data.get(key).map(String::as_str).unwrap_or_default()
}
