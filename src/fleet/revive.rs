//! Devices about which there is nothing special: their object can be made again from the record, so
//! that moving a fleet to another key reads none of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::credential;
use super::hash::{self, Hash};
use super::intern::Interner;
use super::plain::SETTLED;
use super::record::{Record, Settled};
use crate::api::conditions::{ConditionStatus, Conditions};
use crate::api::device::{
    DeviceSecret, IntegrationKind, IntegrationRef, ProvisionedDevice, ProvisionedDeviceSpec,
    ProvisionedDeviceStatus, SecretStatus,
};
use crate::api::shared::SecretSettings;
use crate::api::state::State;

/// The object, as far as it is needed to register the device again and to replace its status. What
/// the next registration reports is left out: a status may be written from it only after that.
/// `None` when the record does not hold enough.
pub fn revive(
    record: &Record,
    names: &Interner,
    scope: &str,
    token: Option<&str>,
) -> Option<ProvisionedDevice> {
    let (since, settled) = (record.plain_since?, record.settled?);
    let served = match record.token {
        Some(handled) => Some(token.filter(|token| hash::token(token) == handled)?.to_owned()),
        None => None,
    };
    let key = names.text(record.integration);
    let own_id = Some(record.registration_id()).filter(|id| *id != &*record.name).map(str::to_owned);
    let own_secret = record.names_its_secret().then(|| record.secret_name());
    let status = status(record, &settled, names, scope, since)?;
    Some(ProvisionedDevice {
        metadata: ObjectMeta {
            name: Some(record.name.to_string()),
            namespace: Some(names.text(record.namespace).to_owned()),
            uid: Some(record.uid.text()),
            resource_version: Some(record.resource_version.to_string()),
            generation: Some(record.generation),
            creation_timestamp: Timestamp::from_second(record.created).ok().map(Time),
            ..ObjectMeta::default()
        },
        spec: ProvisionedDeviceSpec {
            integration_ref: IntegrationRef {
                kind: IntegrationKind::DpsIntegration,
                name: key.split_once('/')?.1.to_owned(),
                namespace: None,
            },
            registration_id: own_id,
            attestation: None,
            payload: None,
            registration: None,
            reprovision: None,
            drift_check: None,
            secret: own_secret
                .map(|name| DeviceSecret { name: Some(name), settings: SecretSettings::default() }),
            suspend: false,
        },
        status: Some(ProvisionedDeviceStatus { last_handled_integration_token: served, ..status }),
    })
}

/// The status as it stands, but for the integration's token.
fn status(
    record: &Record,
    settled: &Settled,
    names: &Interner,
    scope: &str,
    since: u32,
) -> Option<ProvisionedDeviceStatus> {
    Some(ProvisionedDeviceStatus {
        observed_generation: Some(record.generation),
        state: Some(State::Ready),
        conditions: settled_conditions(record.generation, since),
        registration_id: Some(record.registration_id().to_owned()),
        id_scope: Some(scope.to_owned()),
        assigned_hub: Some(names.text(record.hub?).to_owned()),
        previous_hub: record.previous_hub.map(|hub| names.text(hub).to_owned()),
        device_id: Some(record.registration_id().to_owned()),
        credential: record.credential.map(credential::show),
        registered_hash: settled.registered.map(Hash::shown),
        secret: Some(SecretStatus {
            name: record.secret_name(),
            resource_version: Some(settled.secret_version.to_string()),
            rendered_hash: settled.rendered.map(Hash::shown),
        }),
        last_handled_integration_token: None,
        // What the next registration reports, and what a plain device does not have (`plain`).
        enrollment_group_id: None,
        assignment: None,
        issued_certificate: None,
        binding: None,
        returned_payload_hash: None,
        last_registration_time: None,
        attempts: None,
        last_error: None,
        last_handled_reprovision_token: None,
        last_handled_reconcile_at: None,
    })
}

fn settled_conditions(generation: i64, since: u32) -> Vec<Condition> {
    let time = Timestamp::from_second(i64::from(since)).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut conditions = Conditions::new(&[], generation, time);
    for (kind, reason) in SETTLED {
        conditions.set(kind, ConditionStatus::True, reason, "");
    }
    conditions.finish()
}
