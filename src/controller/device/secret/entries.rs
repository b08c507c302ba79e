//! What a generated Secret holds, by the kind of credential.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Material;
use crate::controller::device::facts::Registered;
use crate::controller::device::formats::{self, Parts};
use crate::controller::device::settings::Settings;
use crate::dps::attestation::Proof;

/// Data of the Secret: the standard keys, then those of the formats.
pub(super) fn entries(
    settings: &Settings<'_>,
    registered: &Registered,
    material: &Material<'_>,
) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let Proof::SymmetricKey(key) = &material.credential.proof;
    let gateway =
        settings.gateway_hostname.map(|host| format!(";GatewayHostName={host}")).unwrap_or_default();
    // Hub, device id and key are validated: none can contain the ';' that separates the parts.
    let connection_string = Zeroizing::new(format!(
        "HostName={};DeviceId={};SharedAccessKey={}{gateway}",
        registered.hub,
        registered.device_id,
        key.reveal()
    ));
    let returned = registered.returned_payload.as_ref().and_then(|payload| payload.json.as_deref());
    let keys = &settings.keys;
    let standard = [
        (keys.connection_string, Some(connection_string.as_str())),
        (keys.iot_hub_hostname, Some(registered.hub.as_str())),
        (keys.device_id, Some(registered.device_id.as_str())),
        (keys.shared_access_key, Some(key.reveal())),
        (keys.registration_id, Some(registered.registration_id.as_str())),
        (keys.id_scope, Some(registered.scope.as_str())),
        (keys.returned_payload, returned),
    ];
    let endpoint = material.target.instance.endpoint.to_string();
    let parts = Parts {
        hub: &registered.hub,
        device_id: &registered.device_id,
        registration_id: &registered.registration_id,
        id_scope: &registered.scope,
        dps_endpoint: &endpoint,
        credential: material.credential,
        connection_string: &connection_string,
        gateway_hostname: settings.gateway_hostname,
    };
    let formatted = settings
        .formats
        .iter()
        .flat_map(|format| formats::keys(*format).iter().zip(formats::values(*format, &parts)));
    let formatted = formatted.map(|(name, value)| ((*name).to_owned(), Zeroizing::new(value.into_bytes())));
    standard
        .into_iter()
        .filter_map(|(name, value)| Some((name?.to_owned(), Zeroizing::new(value?.as_bytes().to_vec()))))
        .chain(formatted)
        .collect()
}
