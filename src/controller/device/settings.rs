//! What a device asks for, checked: everything that admission cannot see is refused here, with a
//! message that says what to do.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::device::ProvisionedDevice;
use crate::api::duration;
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::api::shared::{DeletionPolicy, OnCreate, ReprovisionPolicy, SecretKeys, SecretSettings};
use crate::dps::ids::RegistrationId;
use crate::fleet::record;

/// Standard key of the payload that custom allocation returned.
pub const RETURNED_PAYLOAD: &str = "returnedPayload";

/// DPS takes messages up to 96 KB; this leaves room for everything else in them.
const PAYLOAD_MAX: usize = 64 * 1024;

/// A device's settings, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings<'a> {
    pub registration_id: RegistrationId,
    pub payload: Option<&'a Map<String, Value>>,
    pub secret_name: String,
    pub retain: bool,
    pub labels: BTreeMap<&'a str, &'a str>,
    pub annotations: BTreeMap<&'a str, &'a str>,
    pub keys: KeyNames<'a>,
    pub gateway_hostname: Option<&'a str>,
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
}

impl<'a> KeyNames<'a> {
    fn new(keys: Option<&'a SecretKeys>) -> Self {
        fn name<'a>(own: Option<&'a String>, standard: &'static str) -> Option<&'a str> {
            Some(own.map_or(standard, String::as_str)).filter(|name| !name.is_empty())
        }
        Self {
            connection_string: name(keys.and_then(|k| k.connection_string.as_ref()), "connectionString"),
            iot_hub_hostname: name(keys.and_then(|k| k.iot_hub_hostname.as_ref()), "iotHubHostname"),
            device_id: name(keys.and_then(|k| k.device_id.as_ref()), "deviceId"),
            shared_access_key: name(keys.and_then(|k| k.shared_access_key.as_ref()), "sharedAccessKey"),
            registration_id: name(keys.and_then(|k| k.registration_id.as_ref()), "registrationId"),
            id_scope: name(keys.and_then(|k| k.id_scope.as_ref()), "idScope"),
            returned_payload: name(keys.and_then(|k| k.returned_payload.as_ref()), RETURNED_PAYLOAD),
        }
    }
}

impl<'a> Settings<'a> {
    /// # Errors
    /// The message of condition `InvalidConfiguration`.
    pub fn of(device: &'a ProvisionedDevice) -> Result<Self, String> {
        if let Some(message) = not_honoured(device) {
            return Err(message);
        }
        let name = device.metadata.name.as_deref().unwrap_or_default();
        let id = device.spec.registration_id.as_deref().unwrap_or(name);
        let registration_id = RegistrationId::parse(id).map_err(|error| {
            format!("The registration id is taken from metadata.name and is not valid: {error}. Set spec.registrationId.")
        })?;
        let payload = match &device.spec.payload {
            None => None,
            Some(payload) => Some(payload.object().ok_or("spec.payload is nested too deeply to be read.")?),
        };
        let size =
            payload.map_or(0, |payload| serde_json::to_vec(payload).map_or(usize::MAX, |json| json.len()));
        if size > PAYLOAD_MAX {
            return Err("spec.payload is larger than 64 KiB; DPS refuses messages of 96 KB.".to_owned());
        }
        let secret = device.spec.secret.as_ref();
        let settings = secret.map(|secret| &secret.settings);
        Ok(Self {
            registration_id,
            payload,
            secret_name: record::secret_name(secret.and_then(|secret| secret.name.as_deref()), name),
            retain: settings.and_then(|s| s.deletion_policy) == Some(DeletionPolicy::Retain),
            labels: texts(settings.and_then(|s| s.labels.as_ref())),
            annotations: texts(settings.and_then(|s| s.annotations.as_ref())),
            keys: KeyNames::new(settings.and_then(|s| s.keys.as_ref())),
            gateway_hostname: settings.and_then(|s| s.gateway_hostname.as_deref()),
        })
    }
}

fn texts(map: Option<&BTreeMap<String, String>>) -> BTreeMap<&str, &str> {
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Settings that this version knows but cannot honour yet are refused rather than ignored.
fn not_honoured(device: &ProvisionedDevice) -> Option<String> {
    let spec = &device.spec;
    let annotations = device.metadata.annotations.as_ref();
    let on_create = spec.registration.as_ref().and_then(|registration| registration.on_create);
    let interval = spec.drift_check.as_ref().and_then(|check| check.interval.as_deref());
    let status_secret = device.status.as_ref().and_then(|status| status.secret.as_ref());
    let name = device.metadata.name.as_deref().unwrap_or_default();
    let secret_name =
        record::secret_name(spec.secret.as_ref().and_then(|secret| secret.name.as_deref()), name);
    let refused = if on_create == Some(OnCreate::LookupFirst) {
        "spec.registration.onCreate: LookupFirst is not supported by this version yet; remove it to register the device."
    } else if spec.reprovision.as_ref().is_some_and(|r| r.policy != ReprovisionPolicy::OnChange) {
        "spec.reprovision.policy: only OnChange is supported by this version yet."
    } else if interval.and_then(duration::parse).is_some_and(|interval| !interval.is_zero()) {
        "spec.driftCheck.interval: drift checks are not supported by this version yet; remove it or set 0s."
    } else if spec.secret.as_ref().is_some_and(|secret| has_formats(&secret.settings)) {
        "spec.secret.formats: further formats are not supported by this version yet; remove them to get the standard keys."
    } else if annotations
        .and_then(|map| map.get(REPROVISION_REQUESTED_AT))
        .is_some_and(|token| !token.is_empty())
    {
        "Annotation dps-operator.io/reprovision-requested-at is not supported by this version yet; remove it."
    } else if status_secret.is_some_and(|secret| secret.name != secret_name) {
        "spec.secret.name: renaming a written Secret is not supported by this version yet; set the former name."
    } else {
        return None;
    };
    Some(refused.to_owned())
}

pub(crate) fn has_formats(settings: &SecretSettings) -> bool {
    settings.formats.as_ref().is_some_and(|formats| !formats.is_empty())
}
