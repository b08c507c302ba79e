//! Further formats: what they hold, and that nothing breaks out of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::certificate;
use crate::api::attestation::CredentialType;
use crate::api::shared::FormatType;
use crate::controller::device::formats::{Parts, keys, values};
use crate::dps::attestation::symmetric_key::DeviceKey;
use crate::dps::attestation::{CredentialId, CredentialKind, DeviceCredential, Proof};

const ALL: [FormatType; 6] = [
    FormatType::Env,
    FormatType::Dotenv,
    FormatType::IotEdgeConfigToml,
    FormatType::IotEdgeDpsConfigToml,
    FormatType::Mqtt,
    FormatType::ServiceBinding,
];

fn credential(key: &str) -> DeviceCredential {
    let issuer = CredentialId::parse(CredentialKind::GroupKey, "0000000000000001").unwrap();
    DeviceCredential { issuer, proof: Proof::SymmetricKey(DeviceKey::for_test(key)) }
}

fn parts() -> Parts<'static> {
    static CREDENTIAL: LazyLock<DeviceCredential> = LazyLock::new(|| credential("c2VjcmV0"));
    Parts {
        hub: "hub-a.azure-devices.net",
        device_id: "truck-1",
        registration_id: "truck-1",
        id_scope: "0ne1",
        dps_endpoint: "dps.example:8443",
        credential: &CREDENTIAL,
        connection_string: "HostName=hub-a.azure-devices.net;DeviceId=truck-1;SharedAccessKey=c2VjcmV0",
        gateway_hostname: None,
        certificate_directory: "/var/run/dps/",
        certificate_file: "tls.crt",
        private_key_file: "tls.key",
    }
}

/// The same of a device with a certificate.
fn x509() -> Parts<'static> {
    static CREDENTIAL: LazyLock<DeviceCredential> = LazyLock::new(|| certificate("truck-1"));
    let connection_string = "HostName=hub-a.azure-devices.net;DeviceId=truck-1;x509=true";
    Parts { credential: &CREDENTIAL, connection_string, ..parts() }
}

fn kind(parts: &Parts<'_>) -> CredentialType {
    match parts.credential.proof {
        Proof::SymmetricKey(_) => CredentialType::SymmetricKey,
        Proof::Certificate(_) => CredentialType::X509,
    }
}

fn data(format: FormatType, parts: &Parts<'_>) -> BTreeMap<&'static str, String> {
    keys(format, kind(parts)).iter().copied().zip(values(format, parts)).collect()
}

#[test]
fn every_format_has_a_value_for_each_of_its_keys() {
    for (format, parts) in ALL.into_iter().flat_map(|format| [(format, parts()), (format, x509())]) {
        assert_eq!(keys(format, kind(&parts)).len(), values(format, &parts).len(), "{format:?}");
    }
}

#[test]
fn environment_and_dotenv_hold_the_same() {
    for parts in [parts(), x509()] {
        let env = data(FormatType::Env, &parts);
        let file = &data(FormatType::Dotenv, &parts)["device.env"];
        let read: BTreeMap<_, _> = file.lines().map(|line| line.split_once('=').unwrap()).collect();
        assert_eq!(read, env.iter().map(|(key, value)| (*key, value.as_str())).collect());
        assert_eq!(env["IOTHUB_DEVICE_CONNECTION_STRING"], parts.connection_string);
    }
}

#[test]
fn a_certificate_is_named_by_its_files_and_is_no_password() {
    let parts = x509();
    let manual: toml::Table = data(FormatType::IotEdgeConfigToml, &parts)["config.toml"].parse().unwrap();
    let files = toml::toml! {
        method = "x509"
        identity_cert = "file:///var/run/dps/tls.crt"
        identity_pk = "file:///var/run/dps/tls.key"
    };
    let provisioning = manual["provisioning"].as_table().unwrap();
    assert_eq!(provisioning["source"].as_str(), Some("manual"));
    assert_eq!(provisioning["iothub_hostname"].as_str(), Some(parts.hub));
    assert_eq!(provisioning["device_id"].as_str(), Some("truck-1"));
    assert_eq!(provisioning["authentication"].as_table(), Some(&files));
    assert!(!provisioning.contains_key("connection_string"));

    let dps: toml::Table = data(FormatType::IotEdgeDpsConfigToml, &parts)["config.toml"].parse().unwrap();
    let mut attestation = files;
    attestation.insert("registration_id".to_owned(), "truck-1".into());
    assert_eq!(dps["provisioning"]["attestation"].as_table(), Some(&attestation));

    let binding = data(FormatType::ServiceBinding, &parts);
    let names: Vec<&str> = binding.keys().copied().collect();
    assert_eq!(names, ["certificates", "host", "private-key", "provider", "type", "username"]);
    assert!(binding["certificates"].starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(binding["private-key"].starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn mqtt_names_the_hub_also_behind_a_gateway() {
    let direct = data(FormatType::Mqtt, &parts());
    let username = "hub-a.azure-devices.net/truck-1/?api-version=2021-04-12";
    assert_eq!(
        (direct["mqttHost"].as_str(), direct["mqttPort"].as_str()),
        ("hub-a.azure-devices.net", "8883")
    );
    assert_eq!((direct["mqttUsername"].as_str(), direct["mqttClientId"].as_str()), (username, "truck-1"));
    let behind = data(FormatType::Mqtt, &Parts { gateway_hostname: Some("gw.local"), ..parts() });
    assert_eq!((behind["mqttHost"].as_str(), behind["mqttUsername"].as_str()), ("gw.local", username));
}

#[test]
fn iot_edge_files_have_the_fields_of_its_template() {
    let manual: toml::Table = data(FormatType::IotEdgeConfigToml, &parts())["config.toml"].parse().unwrap();
    assert_eq!(manual["provisioning"]["source"].as_str(), Some("manual"));
    assert_eq!(manual["provisioning"]["connection_string"].as_str(), Some(parts().connection_string));
    let dps: toml::Table = data(FormatType::IotEdgeDpsConfigToml, &parts())["config.toml"].parse().unwrap();
    let provisioning = &dps["provisioning"];
    assert_eq!(provisioning["source"].as_str(), Some("dps"));
    assert_eq!(provisioning["global_endpoint"].as_str(), Some("https://dps.example:8443"));
    assert_eq!(provisioning["id_scope"].as_str(), Some("0ne1"));
    let attestation = &provisioning["attestation"];
    assert_eq!(attestation["method"].as_str(), Some("symmetric_key"));
    assert_eq!(attestation["registration_id"].as_str(), Some("truck-1"));
    assert_eq!(attestation["symmetric_key"]["value"].as_str(), Some("c2VjcmV0"));
}

#[test]
fn an_iot_edge_device_behind_a_gateway_names_it_as_its_parent() {
    let behind = Parts { gateway_hostname: Some("gw.local"), ..parts() };
    for format in [FormatType::IotEdgeConfigToml, FormatType::IotEdgeDpsConfigToml] {
        let config: toml::Table = data(format, &behind)["config.toml"].parse().unwrap();
        assert_eq!(config["parent_hostname"].as_str(), Some("gw.local"));
        let alone: toml::Table = data(format, &parts())["config.toml"].parse().unwrap();
        assert_eq!(alone.keys().collect::<Vec<_>>(), ["provisioning"]);
    }
}

#[test]
fn a_service_binding_names_type_and_provider() {
    let binding = data(FormatType::ServiceBinding, &parts());
    assert_eq!((binding["type"].as_str(), binding["provider"].as_str()), ("azure-iothub", "azure"));
    assert_eq!(
        (binding["host"].as_str(), binding["password"].as_str()),
        ("hub-a.azure-devices.net", "c2VjcmV0")
    );
}

proptest! {
    /// The types let nothing of the kind through; the files would hold even if they did.
    #[test]
    fn hostile_text_stays_inside_its_value(hostile in "[ -~\\n\\r\\t\"'\\\\;=#$é漢]{0,60}") {
        let parts = Parts {
            hub: &hostile, device_id: &hostile, registration_id: &hostile, connection_string: &hostile, ..parts()
        };
        let manual: toml::Table = data(FormatType::IotEdgeConfigToml, &parts)["config.toml"].parse().unwrap();
        prop_assert_eq!(manual["provisioning"]["connection_string"].as_str(), Some(hostile.as_str()));
        prop_assert_eq!(manual["provisioning"].as_table().unwrap().len(), 2);
        let dps: toml::Table = data(FormatType::IotEdgeDpsConfigToml, &parts)["config.toml"].parse().unwrap();
        prop_assert_eq!(dps["provisioning"]["attestation"]["registration_id"].as_str(), Some(hostile.as_str()));
        prop_assert_eq!(dps["provisioning"].as_table().unwrap().len(), 4);
    }

    /// What can really occur, read as docker and systemd read it.
    #[test]
    fn values_that_can_occur_mean_nothing_to_readers_of_environment_files(
        id in "[a-z0-9]([a-z0-9._:-]{0,30}[a-z0-9])?", key in "[A-Za-z0-9+/]{43}=",
    ) {
        let connection_string = format!("HostName=hub-a.azure-devices.net;DeviceId={id};SharedAccessKey={key}");
        let credential = credential(&key);
        let parts =
            Parts { device_id: &id, credential: &credential, connection_string: &connection_string, ..parts() };
        let file = &data(FormatType::Dotenv, &parts)["device.env"];
        prop_assert_eq!(file.lines().count(), 4);
        prop_assert!(!file.contains(['"', '\'', '\\', '$', '#', '`', ' ']));
        prop_assert_eq!(file.lines().next().unwrap().split_once('=').unwrap().1, connection_string);
    }
}
