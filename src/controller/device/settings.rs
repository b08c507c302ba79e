//! What a device asks for in effect, checked: its own word, then its integration's defaults, then
//! the operator's own. Everything that admission cannot see is refused here, with a message that
//! says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::formats;
use crate::api::attestation::{CredentialType, DeviceAttestation};
use crate::api::device::{ProvisionedDevice, ProvisionedDeviceSpec};
use crate::api::integration::DeviceDefaults;
use crate::api::names::{REPROVISION_REQUESTED_AT, TOKEN_MAX};
use crate::api::payload::PayloadError;
use crate::api::shared::{DeletionPolicy, FormatType, OnCreate, SecretKeys, SecretSettings};
use crate::dps::ids::{InvalidId, RegistrationId};
use crate::fleet::inherit::{OwnSchedule, Policy};

/// Where IoT Edge finds certificates if nothing else is said.
const CERTIFICATE_DIRECTORY: &str = "/var/run/dps";

/// Standard keys of a certificate and its private key, as a Secret of type kubernetes.io/tls has them.
pub const CERTIFICATE: &str = "tls.crt";
pub const PRIVATE_KEY: &str = "tls.key";
pub const CA_CERTIFICATE: &str = "ca.crt";

/// Standard key of the payload that custom allocation returned.
pub const RETURNED_PAYLOAD: &str = "returnedPayload";

/// A device's settings, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings<'a> {
    pub registration_id: RegistrationId,
    pub payload: Option<&'a Map<String, Value>>,
    /// An existing registration is adopted as it is.
    pub looks_first: bool,
    pub policy: Policy,
    /// The device's own token that asks for one more registration.
    pub token: Option<&'a str>,
    pub secret_name: String,
    pub retain: bool,
    pub labels: BTreeMap<&'a str, &'a str>,
    pub annotations: BTreeMap<&'a str, &'a str>,
    pub keys: KeyNames<'a>,
    pub formats: BTreeSet<FormatType>,
    pub gateway_hostname: Option<&'a str>,
    /// Where IoT Edge finds the files of the Secret.
    pub certificate_directory: &'a str,
}

/// Names of the standard keys in the Secret; `None` leaves one out.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyNames<'a> {
    pub connection_string: Option<&'a str>,
    pub iot_hub_hostname: Option<&'a str>,
    pub device_id: Option<&'a str>,
    pub shared_access_key: Option<&'a str>,
    pub registration_id: Option<&'a str>,
    pub id_scope: Option<&'a str>,
    pub returned_payload: Option<&'a str>,
    /// Of devices with certificates.
    pub certificate: Option<&'a str>,
    pub private_key: Option<&'a str>,
    pub ca_certificate: Option<&'a str>,
}

impl<'a> KeyNames<'a> {
    fn new(own: Option<&'a SecretKeys>, inherited: Option<&'a SecretKeys>) -> Self {
        let name = |field: fn(&SecretKeys) -> Option<&String>, standard: &'static str| {
            let chosen = own.and_then(field).or_else(|| inherited.and_then(field));
            Some(chosen.map_or(standard, String::as_str)).filter(|name| !name.is_empty())
        };
        Self {
            connection_string: name(|k| k.connection_string.as_ref(), "connectionString"),
            iot_hub_hostname: name(|k| k.iot_hub_hostname.as_ref(), "iotHubHostname"),
            device_id: name(|k| k.device_id.as_ref(), "deviceId"),
            shared_access_key: name(|k| k.shared_access_key.as_ref(), "sharedAccessKey"),
            registration_id: name(|k| k.registration_id.as_ref(), "registrationId"),
            id_scope: name(|k| k.id_scope.as_ref(), "idScope"),
            returned_payload: name(|k| k.returned_payload.as_ref(), RETURNED_PAYLOAD),
            certificate: name(|k| k.certificate.as_ref(), CERTIFICATE),
            private_key: name(|k| k.private_key.as_ref(), PRIVATE_KEY),
            ca_certificate: name(|k| k.ca_certificate.as_ref(), CA_CERTIFICATE),
        }
    }

    /// Those that the Secret of a device with a credential of this kind has.
    fn of_kind(&self, kind: CredentialType) -> impl Iterator<Item = &'a str> {
        let own = match kind {
            CredentialType::SymmetricKey => [self.shared_access_key, None, None],
            CredentialType::X509 => [self.certificate, self.private_key, self.ca_certificate],
        };
        let common = [
            self.connection_string,
            self.iot_hub_hostname,
            self.device_id,
            self.registration_id,
            self.id_scope,
            self.returned_payload,
        ];
        own.into_iter().chain(common).flatten()
    }
}

/// Where a device's payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadSource {
    Own,
    Inherited,
}

impl fmt::Display for PayloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "spec.payload",
            Self::Inherited => "The integration's deviceDefaults.payload",
        })
    }
}

/// What is wrong with a device's settings, and what to do about it: the message of condition
/// `InvalidConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    #[error(
        "The registration id is taken from metadata.name and is not valid: {0}. Set spec.registrationId."
    )]
    RegistrationId(InvalidId),
    #[error("{0} {1}.")]
    Payload(PayloadSource, PayloadError),
    #[error("Annotation {REPROVISION_REQUESTED_AT} is longer than 256 characters.")]
    LongToken,
    #[error(
        "Secret {0:?} is the one that is written for this device, and the one that its key or certificate should be read from; set another spec.secret.name."
    )]
    SecretIsSource(String),
    #[error("secret.formats: IotEdgeConfigToml and IotEdgeDpsConfigToml both write config.toml; choose one.")]
    TwoConfigFiles,
    #[error("secret.keys: two keys of the Secret would be named {0:?}.")]
    SameKey(String),
    #[error(
        "The Secret would have no keys: secret.keys leaves all of them out. Keep one, or add one of secret.formats."
    )]
    NoKeys,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// The first thing that is wrong.
    pub fn of(
        device: &'a ProvisionedDevice,
        defaults: Option<&'a DeviceDefaults>,
    ) -> Result<Self, InvalidSettings> {
        // Every field: one that is left out here has no effect.
        let ProvisionedDeviceSpec {
            integration_ref,
            registration_id: _,
            attestation,
            payload: _,
            registration,
            reprovision,
            drift_check: _,
            secret: own_secret,
            suspend: _,
        } = &device.spec;
        let registration_id =
            RegistrationId::parse(device.registration_id()).map_err(InvalidSettings::RegistrationId)?;
        let own = own_secret.as_ref().map(|secret| &secret.settings);
        let inherited = defaults.and_then(|defaults| defaults.secret.as_ref());
        let inherits = defaults.and_then(|defaults| defaults.reprovision.as_ref());
        let schedule = OwnSchedule::of(reprovision.as_ref(), None).or(OwnSchedule::of(inherits, None));
        let on_create = registration.as_ref().and_then(|registration| registration.on_create);
        let on_create = on_create.or_else(|| defaults?.registration.as_ref()?.on_create);
        let shares_namespace =
            integration_ref.namespace.is_none() || integration_ref.namespace == device.metadata.namespace;
        let merged = Merged::new(own, inherited, shares_namespace);
        let settings = Self {
            registration_id,
            payload: payload(device, defaults)?,
            looks_first: schedule.policy == Policy::Never || on_create == Some(OnCreate::LookupFirst),
            policy: schedule.policy,
            token: token(device)?,
            secret_name: device.secret_name(),
            retain: merged.deletion_policy == Some(DeletionPolicy::Retain),
            labels: merged.labels,
            annotations: merged.annotations,
            keys: merged.keys,
            formats: merged.formats,
            gateway_hostname: merged.gateway_hostname.filter(|gateway| !gateway.is_empty()),
            certificate_directory: merged.certificate_directory.unwrap_or(CERTIFICATE_DIRECTORY),
        };
        let kind = kind(attestation.as_ref());
        settings.check_keys(kind)?;
        for name in sources(attestation.as_ref()) {
            settings.check_source(name)?;
        }
        Ok(settings)
    }

    /// The first label or annotation that begins with none of these; none if any will do.
    pub fn metadata_not_allowed(&self, prefixes: &[String]) -> Option<&'a str> {
        let allowed = |key: &&str| prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        let mut keys = self.labels.keys().chain(self.annotations.keys());
        keys.find(|key| !prefixes.is_empty() && !allowed(key)).copied()
    }

    /// What is written would be read as the credential the next time.
    ///
    /// # Errors
    /// When the Secret of this name is the device's own.
    pub fn check_source(&self, name: &str) -> Result<(), InvalidSettings> {
        if name == self.secret_name { Err(InvalidSettings::SecretIsSource(name.to_owned())) } else { Ok(()) }
    }

    /// Admission sees each object by itself, not what the two come to together.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_keys(&self, kind: CredentialType) -> Result<(), InvalidSettings> {
        let both = [FormatType::IotEdgeConfigToml, FormatType::IotEdgeDpsConfigToml];
        if both.iter().all(|format| self.formats.contains(format)) {
            return Err(InvalidSettings::TwoConfigFiles);
        }
        let mut seen = BTreeSet::new();
        let names = self
            .keys
            .of_kind(kind)
            .chain(self.formats.iter().flat_map(|format| formats::keys(*format, kind)).copied());
        for name in names {
            if !seen.insert(name) {
                return Err(InvalidSettings::SameKey(name.to_owned()));
            }
        }
        // Most devices have no returned payload, so its key alone makes no Secret.
        seen.retain(|name| Some(*name) != self.keys.returned_payload);
        if seen.is_empty() {
            return Err(InvalidSettings::NoKeys);
        }
        Ok(())
    }
}

type Entries = BTreeMap<String, String>;

/// Settings of the Secret in effect: the device's own, and those that it inherits.
struct Merged<'a> {
    deletion_policy: Option<DeletionPolicy>,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
    keys: KeyNames<'a>,
    formats: BTreeSet<FormatType>,
    gateway_hostname: Option<&'a str>,
    certificate_directory: Option<&'a str>,
}

static NO_SETTINGS: SecretSettings = SecretSettings {
    deletion_policy: None,
    labels: None,
    annotations: None,
    formats: None,
    keys: None,
    gateway_hostname: None,
    certificate_directory: None,
};

impl<'a> Merged<'a> {
    /// Labels and annotations are inherited only in the integration's own namespace.
    fn new(
        own: Option<&'a SecretSettings>,
        inherited: Option<&'a SecretSettings>,
        shares_namespace: bool,
    ) -> Self {
        let SecretSettings {
            deletion_policy,
            labels,
            annotations,
            formats,
            keys,
            gateway_hostname,
            certificate_directory,
        } = own.unwrap_or(&NO_SETTINGS);
        let inherited = inherited.unwrap_or(&NO_SETTINGS);
        let map = |own: &'a Option<Entries>, inherited: &'a Option<Entries>| {
            let inherited = inherited.iter().filter(|_| shares_namespace);
            let entries = inherited.chain(own).flatten();
            entries.map(|(key, value)| (key.as_str(), value.as_str())).collect()
        };
        let formats = formats.as_ref().or(inherited.formats.as_ref());
        Self {
            deletion_policy: deletion_policy.or(inherited.deletion_policy),
            labels: map(labels, &inherited.labels),
            annotations: map(annotations, &inherited.annotations),
            keys: KeyNames::new(keys.as_ref(), inherited.keys.as_ref()),
            formats: formats.into_iter().flatten().map(|format| format.kind).collect(),
            gateway_hostname: gateway_hostname.as_deref().or(inherited.gateway_hostname.as_deref()),
            certificate_directory: certificate_directory
                .as_deref()
                .or(inherited.certificate_directory.as_deref()),
        }
    }
}

fn payload<'a>(
    device: &'a ProvisionedDevice,
    defaults: Option<&'a DeviceDefaults>,
) -> Result<Option<&'a Map<String, Value>>, InvalidSettings> {
    let own = device.spec.payload.as_ref().map(|payload| (PayloadSource::Own, payload));
    let inherited = || Some((PayloadSource::Inherited, defaults?.payload.as_ref()?));
    let Some((source, payload)) = own.or_else(inherited) else { return Ok(None) };
    payload.checked().map(Some).map_err(|error| InvalidSettings::Payload(source, error))
}

/// Secrets that the device itself names for what it proves its identity with.
fn sources(attestation: Option<&DeviceAttestation>) -> impl Iterator<Item = &str> {
    let keys = attestation.and_then(|attestation| attestation.symmetric_key.as_ref());
    let x509 = attestation.and_then(|attestation| attestation.x509.as_ref()?.secret_ref.as_ref());
    let keys = keys.into_iter().flat_map(|keys| keys.references()).map(|(name, _)| name);
    keys.chain(x509.map(|secret| secret.name.as_str()))
}

/// The kind of credential as far as the device itself says. What its integration says is looked at where that is
/// known.
fn kind(attestation: Option<&DeviceAttestation>) -> CredentialType {
    match attestation.and_then(|attestation| attestation.x509.as_ref()) {
        Some(_) => CredentialType::X509,
        None => CredentialType::SymmetricKey,
    }
}

fn token(device: &ProvisionedDevice) -> Result<Option<&str>, InvalidSettings> {
    let token = annotation(device, REPROVISION_REQUESTED_AT);
    if token.is_some_and(|token| token.len() > TOKEN_MAX) {
        return Err(InvalidSettings::LongToken);
    }
    Ok(token)
}

/// An annotation that says something.
pub fn annotation<'a>(device: &'a ProvisionedDevice, key: &str) -> Option<&'a str> {
    let annotations = device.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str).filter(|value| !value.is_empty())
}
