//! The status of a device, from what is known and what was decided. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::decide::Verdict;
use super::facts::{Facts, Failure};
use super::issued::Issued;
use crate::api::attestation::{CredentialStatus, CredentialType};
use crate::api::conditions::{self, ConditionStatus, ConditionType, Conditions, Reason, reason_of};
use crate::api::device::{BindingStatus, ProvisionedDevice, ProvisionedDeviceStatus, SecretStatus};
use crate::api::retry;
use crate::api::state::State;
use crate::controller::integration::key_source::KeySource;
use crate::fleet::credential;
use crate::fleet::hash::Hash;

/// The status that should be written.
pub fn render(
    device: &ProvisionedDevice,
    facts: &Facts,
    verdict: &Verdict,
    now: Timestamp,
) -> ProvisionedDeviceStatus {
    let before = device.status.clone().unwrap_or_default();
    let conditions = conditions(&before, device, facts, verdict, now);
    let whole = conditions::is_true(&conditions, ConditionType::SecretReady);
    let binding = facts.secret.as_ref().filter(|secret| secret.binding && whole);
    let binding = binding.map(|secret| BindingStatus { name: secret.name.clone() });
    let registered = facts.registered.as_ref();
    // What failed before and works again is no longer mentioned.
    let failure = facts.failure.as_ref().filter(|failure| failure.reason == verdict.reason);
    ProvisionedDeviceStatus {
        observed_generation: device.metadata.generation,
        state: Some(State::of(device.spec.suspend, &conditions)),
        conditions,
        // Of a device that is not registered it is the one that it would have: `Facts` believe none
        // without a hub.
        registration_id: Some(device.registration_id().to_owned()),
        id_scope: registered.map(|r| r.scope.clone()),
        enrollment_group_id: registered.and_then(|r| r.enrollment_group.clone()),
        assigned_hub: registered.map(|r| r.hub.clone()),
        previous_hub: facts.previous_hub.clone(),
        device_id: registered.map(|r| r.device_id.clone()),
        assignment: registered.map(|r| r.assignment.clone()),
        credential: match registered {
            Some(registered) => registered.credential_status(facts.source.as_ref(), failure.is_some()),
            None => facts.source.as_ref().map(looked_at),
        },
        issued_certificate: registered.and_then(|r| r.issued.as_ref()).map(Issued::status),
        registered_hash: registered.and_then(|r| r.hash).map(Hash::shown).or(before.registered_hash),
        secret: secret(facts),
        binding,
        returned_payload_hash: registered.and_then(|r| r.returned_payload.as_ref()).map(|p| p.hash.shown()),
        last_registration_time: registered.and_then(|r| r.time).map(Time),
        attempts: failure.map(|failure| i32::try_from(failure.attempts).unwrap_or(i32::MAX)),
        last_error: failure.and_then(|failure| failure.error.clone()),
        last_handled_reprovision_token: facts.served.token.clone(),
        last_handled_integration_token: facts.served.integration_token.clone(),
        last_handled_reconcile_at: facts.served.reconcile_at.clone(),
    }
}

/// Of a device with a credential of its own that DPS has not accepted.
fn looked_at(source: &KeySource) -> CredentialStatus {
    CredentialStatus {
        kind: source.key.map_or(CredentialType::SymmetricKey, |key| credential::show(key).kind),
        slot: None,
        fingerprint: None,
        not_before: None,
        not_after: None,
        issuer: None,
        secret_name: Some(source.secret.clone()),
        secret_resource_version: source.version.clone(),
    }
}

fn secret(facts: &Facts) -> Option<SecretStatus> {
    facts.secret.as_ref().map(|secret| SecretStatus {
        name: secret.name.clone(),
        resource_version: Some(secret.version.to_string()),
        rendered_hash: secret.rendered.map(Hash::shown),
    })
}

/// True if writing would change nothing for a reader: times, tracking ids and, between powers of two,
/// the number of attempts do not count.
pub fn is_equal(
    written: Option<&ProvisionedDeviceStatus>,
    wanted: &ProvisionedDeviceStatus,
    failure: Option<&Failure>,
) -> bool {
    let Some(written) = written else { return false };
    if failure.is_some_and(|failure| retry::is_recorded(failure.attempts))
        && written.attempts != wanted.attempts
    {
        return false;
    }
    let (mut written, mut wanted) = (timeless(written), timeless(wanted));
    // That the Secret of its key has another version by now is worth no write. After a start it is, of a key that
    // was refused: that one need not be tried again.
    if failure.is_none() {
        let credentials =
            [&mut written, &mut wanted].into_iter().filter_map(|status| status.credential.as_mut());
        credentials.for_each(|credential| credential.secret_resource_version = None);
    }
    // Version 0.1.0 showed it of registered devices only, and no state: that is worth no write.
    if wanted.assigned_hub.is_none() && written.registration_id.is_none() {
        wanted.registration_id = None;
    }
    wanted.state = wanted.state.filter(|_| written.state.is_some());
    written == wanted
}

/// True for a transition that is worth a line in the log: another reason or another hub.
pub fn is_news(written: Option<&ProvisionedDeviceStatus>, wanted: &ProvisionedDeviceStatus) -> bool {
    let reason = |status: &ProvisionedDeviceStatus| reason_of(&status.conditions, ConditionType::Ready);
    written.is_none_or(|written| {
        reason(written) != reason(wanted) || written.assigned_hub != wanted.assigned_hub
    })
}

fn timeless(status: &ProvisionedDeviceStatus) -> ProvisionedDeviceStatus {
    let mut status = status.clone();
    status.attempts = None;
    if let Some(error) = &mut status.last_error {
        error.time = None;
        error.tracking_id = None;
    }
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

fn conditions(
    before: &ProvisionedDeviceStatus,
    device: &ProvisionedDevice,
    facts: &Facts,
    verdict: &Verdict,
    now: Timestamp,
) -> Vec<Condition> {
    let Verdict { reason, message } = verdict;
    let mut conditions = Conditions::new(&before.conditions, device.metadata.generation.unwrap_or(0), now);
    let ready = match keeps_ready(*reason) {
        Some(ready) => ready,
        None if is_as_recorded(before, facts) => {
            conditions::is_true(&before.conditions, ConditionType::Ready)
        }
        None => facts.provisioned(),
    };
    // The hub refuses it, for every reason that there is beside.
    let expired = facts.registered.as_ref().is_some_and(|registered| registered.has_expired(now));
    conditions.set(ConditionType::Ready, ConditionStatus::from_bool(ready && !expired), *reason, message);
    let (status, why) = registered_condition(*reason, facts);
    conditions.set(ConditionType::Registered, status, why, registered_message(why, message));
    let kept = conditions::find(&before.conditions, ConditionType::SecretReady)
        .filter(|_| !ready && !concerns_secret(*reason) && is_as_recorded(before, facts))
        .and_then(|kept| Some((kept, Reason::parse(&kept.reason)?)));
    match kept.filter(|(_, why)| concerns_secret(*why)) {
        Some((kept, why)) => {
            conditions.set(ConditionType::SecretReady, ConditionStatus::False, why, &kept.message);
        }
        None => {
            let (status, why) = secret_condition(*reason, facts);
            conditions.set(ConditionType::SecretReady, status, why, secret_message(why, message));
        }
    }
    conditions.set_progress(*reason, message);
    conditions.finish()
}

/// The table of reasons: `None` where a device that had its credentials stays as it was.
fn keeps_ready(reason: Reason) -> Option<bool> {
    match reason {
        Reason::Provisioned => Some(true),
        Reason::Disabled
        | Reason::EnrollmentNotFound
        | Reason::DuplicateRegistrationId
        | Reason::CertificateExpired => Some(false),
        _ if concerns_secret(reason) => Some(false),
        _ => None,
    }
}

fn concerns_secret(reason: Reason) -> bool {
    matches!(reason, Reason::SecretConflict | Reason::CredentialUnavailable | Reason::SecretWriteFailed)
}

/// The device was provisioned when the status was written, and neither its registration nor its
/// Secret has been renewed since: what the status says of them still holds.
fn is_as_recorded(before: &ProvisionedDeviceStatus, facts: &Facts) -> bool {
    let registered_at = facts.registered.as_ref().and_then(|registered| registered.time).map(Time);
    facts.provisioned()
        && before.assigned_hub.is_some()
        && before.secret.is_some()
        && before.secret == secret(facts)
        && before.last_registration_time == registered_at
}

fn registered_condition(reason: Reason, facts: &Facts) -> (ConditionStatus, Reason) {
    if facts.registered.is_none() {
        let why = if concerns_registration(reason) { reason } else { Reason::NeverRegistered };
        return (ConditionStatus::False, why);
    }
    match reason {
        Reason::IntegrationNotFound | Reason::ServiceUnavailable => (ConditionStatus::Unknown, reason),
        _ if concerns_registration(reason) => (ConditionStatus::False, reason),
        _ => (ConditionStatus::True, Reason::Registered),
    }
}

fn concerns_registration(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ReferenceNotAllowed
            | Reason::InvalidConfiguration
            | Reason::AllocationFailed
            | Reason::InvalidResponse
            | Reason::Unauthorized
            | Reason::Disabled
            | Reason::EnrollmentNotFound
            | Reason::DuplicateRegistrationId
            | Reason::ServiceUnavailable
            | Reason::KeySecretNotFound
            | Reason::KeyInvalid
            | Reason::CertificateNotFound
            | Reason::CertificateInvalid
            | Reason::CertificateNotYetValid
            | Reason::CertificateExpired
    )
}

fn secret_condition(reason: Reason, facts: &Facts) -> (ConditionStatus, Reason) {
    match reason {
        _ if concerns_secret(reason) => (ConditionStatus::False, reason),
        _ if facts.secret.is_some() => (ConditionStatus::True, Reason::Written),
        _ => (ConditionStatus::False, Reason::Missing),
    }
}

fn registered_message(why: Reason, message: &str) -> &str {
    match why {
        Reason::Registered => "DPS has assigned the device to a hub.",
        Reason::NeverRegistered => "The device was never registered.",
        _ => message,
    }
}

fn secret_message(why: Reason, message: &str) -> &str {
    match why {
        Reason::Written => "The Secret holds the device's credentials.",
        Reason::Missing => "No Secret has been written.",
        _ => message,
    }
}
