//! What a device says itself and what it inherits, as far as the index has to know: enough to judge
//! a whole fleet in memory when an integration's defaults change.

use kube::core::Duration;
use serde_json::{Value, json};

use super::hash::{self, Hash};
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DeviceDefaults;
use crate::api::payload::Payload;
use crate::api::shared::{DriftCheck, FormatType, Reprovision, ReprovisionPolicy, SecretSettings};

/// The built-in interval of drift checks.
const DRIFT_INTERVAL: u32 = 24 * 60 * 60;

/// When a registered device registers again, in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    OnChange,
    /// Also whenever so many seconds have passed.
    Periodic(u32),
    Never,
}

/// What is due from time to time, in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub policy: Policy,
    /// Seconds between two drift checks; `None` when they are off.
    pub drift: Option<u32>,
}

/// The part of a schedule that a device, or an integration for its devices, has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnSchedule {
    policy: Option<Policy>,
    /// 0: off.
    drift: Option<u32>,
}

impl OwnSchedule {
    pub fn of(reprovision: Option<&Reprovision>, drift: Option<&DriftCheck>) -> Self {
        let seconds = |interval: Duration| {
            u32::try_from(std::time::Duration::from(interval).as_secs()).unwrap_or(u32::MAX)
        };
        let policy = |reprovision: &Reprovision| match reprovision.policy {
            ReprovisionPolicy::OnChange => Policy::OnChange,
            ReprovisionPolicy::Never => Policy::Never,
            ReprovisionPolicy::Periodic => {
                reprovision.interval.map(seconds).map_or(Policy::OnChange, Policy::Periodic)
            }
        };
        Self { policy: reprovision.map(policy), drift: drift.and_then(|check| check.interval).map(seconds) }
    }

    /// Completes it with what is inherited, and with what is built in where neither is set.
    pub fn or(self, inherited: Self) -> Schedule {
        let drift = self.drift.or(inherited.drift).unwrap_or(DRIFT_INTERVAL);
        Schedule {
            policy: self.policy.or(inherited.policy).unwrap_or(Policy::OnChange),
            drift: (drift > 0).then_some(drift),
        }
    }
}

/// Which inherited settings of the Secret do not reach a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask(u8);

impl Mask {
    const DELETION_POLICY: u8 = 1;
    const FORMATS: u8 = 2;
    const GATEWAY: u8 = 4;
    /// Labels and annotations stay in the integration's namespace.
    const FOREIGN: u8 = 8;
    /// The device's own formats contain the DPS endpoint.
    const NAMES_ENDPOINT: u8 = 16;
    const DIRECTORY: u8 = 32;
    const COUNT: usize = 64;

    pub fn of(device: &ProvisionedDevice) -> Self {
        let secret = device.spec.secret.as_ref().map(|secret| &secret.settings);
        let named = device.spec.integration_ref.namespace.as_ref();
        let flags = [
            (Self::DELETION_POLICY, secret.is_some_and(|s| s.deletion_policy.is_some())),
            (Self::FORMATS, secret.is_some_and(|s| s.formats.is_some())),
            (Self::GATEWAY, secret.is_some_and(|s| s.gateway_hostname.is_some())),
            (Self::FOREIGN, named.is_some() && named != device.metadata.namespace.as_ref()),
            (Self::NAMES_ENDPOINT, secret.is_some_and(names_endpoint)),
            (Self::DIRECTORY, secret.is_some_and(|s| s.certificate_directory.is_some())),
        ];
        Self(flags.into_iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum())
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

fn names_endpoint(settings: &SecretSettings) -> bool {
    settings.formats.iter().flatten().any(|format| format.kind == FormatType::IotEdgeDpsConfigToml)
}

/// Hash of what a device itself says about its Secret.
pub fn own_hash(device: &ProvisionedDevice) -> Hash {
    let secret = device.spec.secret.as_ref();
    let own = json!([device.secret_name(), device.integration_key(), secret.map(|secret| &secret.settings)]);
    Hash::of("own", [own.to_string().as_bytes()])
}

/// What an integration hands down to its devices, as hashes.
#[derive(Clone, Debug, PartialEq)]
pub struct Inherited {
    secret: [Hash; Mask::COUNT],
    pub payload: Option<Hash>,
    pub schedule: OwnSchedule,
    /// The integration's reprovision token.
    pub token: Option<Hash>,
}

impl Inherited {
    pub fn new(defaults: Option<&DeviceDefaults>, endpoint: &str, token: Option<&str>) -> Self {
        let none = DeviceDefaults::default();
        // Every field: a change of one that is left out here reaches no settled device.
        let DeviceDefaults {
            payload,
            registration: _, // for first registrations only
            reprovision,
            drift_check,
            secret,
        } = defaults.unwrap_or(&none);
        let secret = secret.clone().unwrap_or_default();
        let mut mask = 0;
        Self {
            secret: std::array::from_fn(|_| {
                let hash = masked(&secret, endpoint, Mask(mask));
                mask += 1;
                hash
            }),
            payload: payload.as_ref().and_then(Payload::object).map(hash::payload),
            schedule: OwnSchedule::of(reprovision.as_ref(), drift_check.as_ref()),
            token: token.map(hash::token),
        }
    }

    /// Hash of what reaches a device's Secret.
    pub fn secret(&self, mask: Mask) -> Hash {
        self.secret[usize::from(mask.0) % Mask::COUNT]
    }
}

fn masked(secret: &SecretSettings, endpoint: &str, mask: Mask) -> Hash {
    // Every field: a change of one that is left out here would never reach a Secret.
    let SecretSettings {
        deletion_policy,
        labels,
        annotations,
        formats,
        keys,
        gateway_hostname,
        certificate_directory,
    } = secret;
    let own_endpoint = mask.has(Mask::NAMES_ENDPOINT);
    let inherited_endpoint = !mask.has(Mask::FORMATS) && names_endpoint(secret);
    let unless = |bit, value: Value| if mask.has(bit) { Value::Null } else { value };
    let mut parts = vec![
        unless(Mask::DELETION_POLICY, json!(deletion_policy)),
        unless(Mask::FORMATS, json!(formats)),
        unless(Mask::GATEWAY, json!(gateway_hostname)),
        unless(Mask::FOREIGN, json!([labels, annotations])),
        json!(keys),
        json!((own_endpoint || inherited_endpoint).then_some(endpoint)),
    ];
    // Version 0.1 had none: what it wrote stays as it is.
    let directory = certificate_directory.as_ref().filter(|_| !mask.has(Mask::DIRECTORY));
    parts.extend(directory.map(|directory| json!(directory)));
    Hash::of("inherited", [Value::Array(parts).to_string().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(spec: Value) -> ProvisionedDevice {
        let mut spec = spec;
        spec["integrationRef"]["name"] = json!("factory");
        serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "fleet"}, "spec": spec}))
            .unwrap()
    }

    fn inherited(defaults: Value) -> Inherited {
        Inherited::new(Some(&serde_json::from_value(defaults).unwrap()), "dps.example", None)
    }

    /// Whether a device inherits different settings from the two defaults.
    fn differs(spec: Value, one: Value, other: Value) -> bool {
        let mask = Mask::of(&device(spec));
        inherited(one).secret(mask) != inherited(other).secret(mask)
    }

    #[test]
    fn changed_defaults_concern_only_devices_that_they_reach() {
        let (retain, none) = (json!({"secret": {"deletionPolicy": "Retain"}}), json!({}));
        assert!(differs(json!({}), retain.clone(), none.clone()));
        assert!(!differs(json!({"secret": {"deletionPolicy": "Delete"}}), retain, none.clone()));
        let formats = json!({"secret": {"formats": [{"type": "Env"}]}});
        assert!(differs(json!({}), formats.clone(), none.clone()));
        assert!(!differs(json!({"secret": {"formats": []}}), formats, none.clone()));
        let labels = json!({"secret": {"labels": {"a": "b"}}});
        assert!(differs(json!({"secret": {"labels": {"c": "d"}}}), labels.clone(), none.clone()));
        let elsewhere = json!({"integrationRef": {"namespace": "other"}});
        assert!(!differs(elsewhere, labels, none.clone()));
        let keys = json!({"secret": {"keys": {"deviceId": "id"}}});
        assert!(differs(json!({}), keys, none));
    }

    #[test]
    fn the_endpoint_matters_only_where_it_is_written() {
        let edge = json!({"secret": {"formats": [{"type": "IotEdgeDpsConfigToml"}]}});
        let of = |spec: &Value, defaults: &Value, endpoint: &str| {
            let defaults = serde_json::from_value(defaults.clone()).unwrap();
            Inherited::new(Some(&defaults), endpoint, None).secret(Mask::of(&device(spec.clone())))
        };
        let none = json!({});
        for (spec, defaults, matters) in [
            (&none, &none, false),
            (&edge, &none, true),
            (&none, &edge, true),
            (&json!({"secret": {"formats": []}}), &edge, false),
        ] {
            assert_eq!(of(spec, defaults, "a.example") != of(spec, defaults, "b.example"), matters, "{spec}");
        }
    }

    #[test]
    fn schedules_are_inherited_field_by_field() {
        let schedule = |own: Value, defaults: Value| {
            let own = device(own).spec;
            let own = OwnSchedule::of(own.reprovision.as_ref(), own.drift_check.as_ref());
            own.or(inherited(defaults).schedule)
        };
        let day = Some(24 * 60 * 60);
        let plain = schedule(json!({}), json!({}));
        assert_eq!(plain, Schedule { policy: Policy::OnChange, drift: day });
        let never = json!({"reprovision": {"policy": "Never"}, "driftCheck": {"interval": "0s"}});
        assert_eq!(schedule(json!({}), never.clone()), Schedule { policy: Policy::Never, drift: None });
        let own = json!({"reprovision": {"policy": "Periodic", "interval": "2h"}});
        assert_eq!(schedule(own, never.clone()), Schedule { policy: Policy::Periodic(7200), drift: None });
        let own = json!({"driftCheck": {"interval": "10m"}});
        assert_eq!(schedule(own, never), Schedule { policy: Policy::Never, drift: Some(600) });
    }
}
