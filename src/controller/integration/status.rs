//! The status of an integration. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::SlotKey;
use super::decide::Unusable;
use crate::api::attestation::{CredentialsStatus, KeySlot, KeyStatus};
use crate::api::conditions::{self, ConditionStatus, ConditionType, Conditions, Reason};
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus, KeyRotationStatus};
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::dps::key::Fingerprint;
use crate::fleet::counts::{Counts, Rotation};

/// What is known of an integration at this moment.
#[derive(Debug)]
pub struct View<'a> {
    /// `Err` when it cannot be used; otherwise its keys.
    pub keys: Result<(&'a SlotKey, Option<&'a SlotKey>), &'a Unusable>,
    pub suspended: bool,
    /// The slot that was asked for is refused, and the other one is used.
    pub fallback: bool,
    /// DPS refused the new key of a rotation for every canary.
    pub blocked: bool,
    /// The rate in calls a minute, if checks and periodic registrations come to more.
    pub insufficient: Option<u32>,
    /// The annotation that asks to look again.
    pub reconcile_at: Option<&'a str>,
    /// DPS accepted the active key for the present scope.
    pub accepted: bool,
    /// What real traffic says is wrong: refused, unreachable, throttled.
    pub trouble: Option<&'a Unusable>,
    pub throttled_until: Option<Timestamp>,
    /// `None` before every watch has been read in full: then the counters stay as they are.
    pub counts: Option<&'a Counts>,
}

/// The status that should be written.
pub fn render(integration: &DpsIntegration, view: &View<'_>, now: Timestamp) -> DpsIntegrationStatus {
    let before = integration.status.clone().unwrap_or_default();
    let generation = integration.metadata.generation.unwrap_or(0);
    let mut conditions = Conditions::new(&before.conditions, generation, now);
    let problem = view.keys.err().or(view.trouble);
    let ready = ConditionStatus::from_bool(problem.is_none());
    let (reason, message) = match problem {
        Some(problem) => (problem.reason, problem.message.as_str()),
        None if view.suspended => {
            (Reason::Suspended, "spec.suspend is true: no DPS operation is started for its devices.")
        }
        None if view.fallback => (Reason::Available, FALLBACK),
        None => (Reason::Available, "The configuration is valid and nothing is known to be wrong."),
    };
    conditions.set(ConditionType::Ready, ready, reason, message);
    conditions.set_progress(reason, message);
    if let Some(rate) = view.insufficient {
        let message = insufficient(rate);
        let kind = ConditionType::QuotaInsufficient;
        conditions.set(kind, ConditionStatus::True, Reason::QuotaInsufficient, &message);
    }
    let token = integration.metadata.annotations.as_ref().and_then(|map| map.get(REPROVISION_REQUESTED_AT));
    let mut status = DpsIntegrationStatus {
        observed_generation: Some(generation),
        conditions: conditions.finish(),
        accepted_id_scope: before
            .accepted_id_scope
            .or_else(|| view.accepted.then(|| integration.spec.id_scope.clone())),
        credentials: credentials(view, before.credentials),
        throttled_until: view.throttled_until.map(Time),
        devices: before.devices,
        hubs: before.hubs,
        other_hubs: before.other_hubs,
        failures: before.failures,
        key_rotation: before.key_rotation,
        last_handled_reprovision_token: before.last_handled_reprovision_token,
        last_handled_reconcile_at: view.reconcile_at.map(str::to_owned).or(before.last_handled_reconcile_at),
    };
    if let Some(counts) = view.counts {
        status.devices = Some(counts.devices.clone());
        status.hubs.clone_from(&counts.hubs);
        status.other_hubs = Some(counts.other_hubs);
        status.failures.clone_from(&counts.failures);
        // Without a key nobody knows what is to be done.
        if view.keys.is_ok() {
            status.key_rotation = key_rotation(view, counts.rotation, status.key_rotation.take(), now);
        }
        if view.keys.is_ok() && counts.tokens_pending == 0 {
            status.last_handled_reprovision_token = token.cloned().or(status.last_handled_reprovision_token);
        }
    }
    status
}

const FALLBACK: &str = "DPS refuses the key in the slot that spec.attestation.symmetricKey.active names, so the other slot's key is used. Put the right key into the Secret, or set active to the slot that works.";

fn insufficient(rate: u32) -> String {
    format!(
        "Drift checks and periodic registrations come to more than {rate} calls a minute, which is the rate. Make their intervals longer, or raise the rate."
    )
}

/// Progress, while there are devices to be moved.
fn key_rotation(
    view: &View<'_>,
    rotation: Rotation,
    before: Option<KeyRotationStatus>,
    now: Timestamp,
) -> Option<KeyRotationStatus> {
    (rotation.pending > 0).then(|| KeyRotationStatus {
        total: rotation.total,
        pending: rotation.pending,
        excluded: rotation.excluded,
        blocked: view.blocked,
        started_at: before.map_or_else(|| Time(now), |before| before.started_at),
    })
}

/// True if writing would tell a reader nothing new.
pub fn is_equal(written: Option<&DpsIntegrationStatus>, wanted: &DpsIntegrationStatus) -> bool {
    written.is_some_and(|written| timeless(written) == timeless(wanted))
}

fn timeless(status: &DpsIntegrationStatus) -> DpsIntegrationStatus {
    let mut status = status.clone();
    // That DPS throttles is worth a write, each new date is not.
    status.throttled_until = status.throttled_until.map(|_| Time(Timestamp::UNIX_EPOCH));
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

fn credentials(view: &View<'_>, before: Option<CredentialsStatus>) -> Option<CredentialsStatus> {
    // While a key cannot be read, what was known of it stays: it tells after a restart that DPS
    // had accepted it.
    let Ok((active, other)) = view.keys else { return before };
    let of = |slot: KeySlot| {
        let key = [Some(active), other].into_iter().flatten().find(|key| key.slot == slot);
        key.map(|key| KeyStatus { fingerprint: key.fingerprint.to_string() })
    };
    Some(CredentialsStatus {
        primary: of(KeySlot::Primary),
        secondary: of(KeySlot::Secondary),
        working: view
            .accepted
            .then_some(active.slot)
            .or_else(|| still_working(before.as_ref()?, [Some(active), other])),
    })
}

/// The slot that DPS accepted last, while its key is the same.
fn still_working(before: &CredentialsStatus, keys: [Option<&SlotKey>; 2]) -> Option<KeySlot> {
    let slot = before.working?;
    let key = keys.into_iter().flatten().find(|key| key.slot == slot)?;
    is_recorded_in(before, key).then_some(slot)
}

/// True if the status says that DPS accepted this very key for the present scope.
pub fn was_accepted(integration: &DpsIntegration, active: &SlotKey) -> bool {
    let status = integration.status.as_ref();
    let working = status.and_then(|status| status.credentials.as_ref()).and_then(|keys| keys.working);
    let scope = status.and_then(|status| status.accepted_id_scope.as_ref());
    scope == Some(&integration.spec.id_scope)
        && working == Some(active.slot)
        && recorded_key(integration, active)
}

/// True if the status says, of this very spec and these keys, that the slot that was asked for is
/// refused and the other one works: after a start it need not be found out again.
pub fn has_fallen_back(integration: &DpsIntegration, active: &SlotKey, other: &SlotKey) -> bool {
    let conditions =
        integration.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let told =
        conditions::find(conditions, ConditionType::Ready).is_some_and(|ready| ready.message == FALLBACK);
    told && is_recorded(integration, active) && recorded_key(integration, other)
}

/// True if the status was written for this very spec and key: what failed before a restart would
/// fail in the same way.
pub fn is_recorded(integration: &DpsIntegration, active: &SlotKey) -> bool {
    let observed = integration.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == integration.metadata.generation && recorded_key(integration, active)
}

fn recorded_key(integration: &DpsIntegration, key: &SlotKey) -> bool {
    let credentials = integration.status.as_ref().and_then(|status| status.credentials.as_ref());
    credentials.is_some_and(|credentials| is_recorded_in(credentials, key))
}

fn is_recorded_in(credentials: &CredentialsStatus, key: &SlotKey) -> bool {
    let recorded = match key.slot {
        KeySlot::Primary => credentials.primary.as_ref(),
        KeySlot::Secondary => credentials.secondary.as_ref(),
    };
    recorded.and_then(|recorded| Fingerprint::parse(&recorded.fingerprint)) == Some(key.fingerprint)
}
