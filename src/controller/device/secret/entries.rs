//! What a generated Secret holds, by the kind of credential.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Material;
use crate::controller::device::facts::Registered;
use crate::controller::device::formats::{self, Parts};
use crate::controller::device::settings::{CERTIFICATE, KeyNames, PRIVATE_KEY, Settings};
use crate::dps::attestation::Proof;
use crate::dps::attestation::certificate::TlsFiles;
use crate::fleet::credential;

/// Data of the Secret: the standard keys, then those of the formats.
pub(super) fn entries(
    settings: &Settings<'_>,
    registered: &Registered,
    material: &Material<'_>,
) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let proof = &material.credential.proof;
    let secret = match proof {
        Proof::SymmetricKey(key) => Zeroizing::new(format!("SharedAccessKey={}", key.reveal())),
        Proof::Certificate(_) => Zeroizing::new("x509=true".to_owned()),
    };
    let gateway =
        settings.gateway_hostname.map(|host| format!(";GatewayHostName={host}")).unwrap_or_default();
    // Hub, device id and key are validated: none can contain the ';' that separates the parts.
    let connection_string = Zeroizing::new(format!(
        "HostName={};DeviceId={};{}{gateway}",
        registered.hub, registered.device_id, *secret
    ));
    let returned = registered.returned_payload.as_ref().and_then(|payload| payload.json.as_deref());
    let keys = &settings.keys;
    let common = [
        (keys.connection_string, Some(connection_string.as_bytes())),
        (keys.iot_hub_hostname, Some(registered.hub.as_bytes())),
        (keys.device_id, Some(registered.device_id.as_bytes())),
        (keys.registration_id, Some(registered.registration_id.as_bytes())),
        (keys.id_scope, Some(registered.scope.as_bytes())),
        (keys.returned_payload, returned.map(str::as_bytes)),
    ];
    let standard = common.into_iter().chain(of_proof(keys, proof));
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
        certificate_directory: settings.certificate_directory,
        certificate_file: keys.certificate.unwrap_or(CERTIFICATE),
        private_key_file: keys.private_key.unwrap_or(PRIVATE_KEY),
    };
    let kind = credential::show(material.credential.issuer).kind;
    let formatted = settings
        .formats
        .iter()
        .flat_map(|format| formats::keys(*format, kind).iter().zip(formats::values(*format, &parts)));
    let formatted = formatted.map(|(name, value)| ((*name).to_owned(), Zeroizing::new(value.into_bytes())));
    standard
        .filter_map(|(name, value)| Some((name?.to_owned(), Zeroizing::new(value?.to_vec()))))
        .chain(formatted)
        .collect()
}

/// What only a credential of this kind has.
fn of_proof<'a>(keys: &KeyNames<'a>, proof: &'a Proof) -> [(Option<&'a str>, Option<&'a [u8]>); 3] {
    match proof {
        Proof::SymmetricKey(key) => {
            [(keys.shared_access_key, Some(key.reveal().as_bytes())), (None, None), (None, None)]
        }
        Proof::Certificate(certificate) => {
            let TlsFiles { certificates, key, authority } = certificate.reveal();
            [
                (keys.certificate, Some(certificates)),
                (keys.private_key, Some(key)),
                (keys.ca_certificate, authority.as_deref()),
            ]
        }
    }
}
