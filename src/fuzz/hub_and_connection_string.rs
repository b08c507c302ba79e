//! Names of hubs and devices, and the connection string that they are put into.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::parts::{
    HUB_MAX, device, is_allowed_hub, is_gateway, is_plain_host, lines, registered, secret, suffixes, target,
};
use crate::dps::attestation::DeviceCredential;
use crate::dps::ids::{HubHostname, InvalidId, is_device_id};

/// Hub, device id and gateway on a line each; the rest makes the key.
pub fn hub_and_connection_string(data: &[u8]) {
    let Some(([hub, device_id, gateway], seed)) = lines::<3>(data) else { return };
    let Some(hub) = admitted(hub) else { return };
    let is_written = device_id.bytes().all(|b| b.is_ascii_graphic() && !b";\"\\".contains(&b));
    assert!(
        !is_device_id(device_id) || (is_written && (1..=128).contains(&device_id.len())),
        "{device_id:?}"
    );
    if !is_device_id(device_id) {
        return;
    }
    let gateway = Some(gateway).filter(|gateway| is_gateway(gateway));
    let target = target();
    let device = device(json!({"secret": {"gatewayHostname": gateway}}));
    let mut registered = registered(&device, &target, hub.as_str(), None);
    device_id.clone_into(&mut registered.device_id);
    let key = STANDARD.encode(Sha256::digest(seed));
    let credential = DeviceCredential::of_key(target.credentials.in_use(), &key);
    assert!(credential.is_some(), "32 bytes are no key");
    let secret = secret(&device, &registered, &target, credential.as_ref()).object();
    let text = secret.data.and_then(|mut data| data.remove("connectionString")).map(|text| text.0);
    let text = text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    assert!(text.len() <= 2 * HUB_MAX + 300, "{} bytes", text.len());
    let mut parts = vec![("HostName", hub.as_str()), ("DeviceId", device_id), ("SharedAccessKey", &key)];
    parts.extend(gateway.map(|gateway| ("GatewayHostName", gateway)));
    let read: Vec<_> = text.split(';').filter_map(|part| part.split_once('=')).collect();
    assert_eq!(read, parts, "{text}");
    assert_eq!(text.matches(';').count() + 1, parts.len(), "{text}");
}

/// The hub as the operator takes it, if it does.
fn admitted(text: &str) -> Option<HubHostname> {
    let found = HubHostname::parse(text, &suffixes());
    let lower = text.to_ascii_lowercase();
    match &found {
        Ok(hub) => {
            assert!(is_allowed_hub(hub.as_str()), "{hub} is under no allowed suffix");
            assert_eq!(hub.as_str(), lower, "another name");
        }
        Err(InvalidId::HubSuffix) => assert!(!is_allowed_hub(&lower), "{text} is under an allowed suffix"),
        Err(_) => assert!(!is_plain_host(text), "{text} is a host name"),
    }
    assert_eq!(HubHostname::is_plain(text), is_plain_host(text), "{text}");
    found.ok()
}
