//! Whether there is nothing special about a device: then the index holds all there is to know of it.

use super::uid::Uid;
use crate::api::conditions::{self, ConditionStatus, ConditionType, Reason};
use crate::api::device::{DeviceSecret, ProvisionedDevice, ProvisionedDeviceSpec, ProvisionedDeviceStatus};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};

/// Conditions of a settled device, all of them `True`.
pub(super) const SETTLED: [(ConditionType, Reason); 3] = [
    (ConditionType::Ready, Reason::Provisioned),
    (ConditionType::Registered, Reason::Registered),
    (ConditionType::SecretReady, Reason::Written),
];

/// Since when the conditions of a device are as they are, in seconds since 1970, if that and the
/// record are all there is to know of it.
pub(super) fn plain_since(device: &ProvisionedDevice) -> Option<u32> {
    let status = device.status.as_ref()?;
    (has_plain_spec(device) && has_plain_status(device, status)).then_some(())?;
    let mut since = None;
    for (kind, reason) in SETTLED {
        let condition = conditions::find(&status.conditions, kind)?;
        let time = condition.last_transition_time.0.as_second();
        let fits = condition.reason == reason.as_str()
            && condition.status == ConditionStatus::True.as_str()
            && since.is_none_or(|since| since == time);
        since = fits.then_some(time);
        since?;
    }
    since.filter(|_| status.conditions.len() == SETTLED.len()).and_then(|since| u32::try_from(since).ok())
}

fn has_plain_spec(device: &ProvisionedDevice) -> bool {
    let ProvisionedDeviceSpec {
        integration_ref,
        registration_id: _,
        attestation,
        payload,
        registration,
        reprovision,
        drift_check,
        secret,
        suspend,
    } = &device.spec;
    let uid = device.metadata.uid.as_deref().unwrap_or_default();
    let asked = |key| device.metadata.annotations.as_ref().is_some_and(|map| map.contains_key(key));
    integration_ref.namespace.is_none()
        && attestation.is_none()
        && payload.is_none()
        && registration.is_none()
        && reprovision.is_none()
        && drift_check.is_none()
        && secret.as_ref().is_none_or(|secret| secret.settings == DeviceSecret::default().settings)
        && !suspend
        && !asked(REPROVISION_REQUESTED_AT)
        && !asked(RECONCILE_REQUESTED_AT)
        && Uid::parse(uid).text() == uid
}

fn has_plain_status(device: &ProvisionedDevice, status: &ProvisionedDeviceStatus) -> bool {
    let id = Some(device.registration_id());
    // Every field: one that the record does not hold would be erased by the next registration.
    let ProvisionedDeviceStatus {
        observed_generation,
        state: _,
        conditions: _,
        registration_id,
        id_scope: _,
        enrollment_group_id: _,
        assigned_hub,
        previous_hub: _,
        device_id,
        assignment: _,
        credential,
        issued_certificate,
        registered_hash: _,
        secret: _,
        binding,
        returned_payload_hash,
        last_registration_time: _,
        attempts,
        last_error,
        last_handled_reprovision_token,
        last_handled_integration_token: _,
        last_handled_reconcile_at,
    } = status;
    *observed_generation == device.metadata.generation
        && registration_id.as_deref() == id
        && device_id.as_deref() == id
        && assigned_hub.is_some()
        && credential.as_ref().is_some_and(|credential| credential.secret_name.is_none())
        && issued_certificate.is_none()
        && binding.is_none()
        && returned_payload_hash.is_none()
        && attempts.is_none()
        && last_error.is_none()
        && last_handled_reprovision_token.is_none()
        && last_handled_reconcile_at.is_none()
}
