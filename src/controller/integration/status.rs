//! The status of an integration. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::SlotKey;
use super::decide::Unusable;
use crate::api::conditions::{ConditionStatus, ConditionType, Conditions, Reason};
use crate::api::integration::{CredentialsStatus, DpsIntegration, DpsIntegrationStatus, KeySlot, KeyStatus};
use crate::dps::key::Fingerprint;
use crate::fleet::counts::Counts;

/// What is known of an integration at this moment.
#[derive(Debug)]
pub struct View<'a> {
    /// `Err` when it cannot be used; otherwise its keys.
    pub keys: Result<(&'a SlotKey, Option<&'a SlotKey>), &'a Unusable>,
    pub suspended: bool,
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
        None => (Reason::Available, "The configuration is valid and nothing is known to be wrong."),
    };
    conditions.set(ConditionType::Ready, ready, reason, message);
    conditions.set_progress(reason, message);
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
        key_rotation: None,
        last_handled_reprovision_token: before.last_handled_reprovision_token,
        last_handled_reconcile_at: before.last_handled_reconcile_at,
    };
    if let Some(counts) = view.counts {
        status.devices = Some(counts.devices.clone());
        status.hubs.clone_from(&counts.hubs);
        status.other_hubs = Some(counts.other_hubs);
        status.failures.clone_from(&counts.failures);
    }
    status
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
        working: view.accepted.then_some(active.slot),
    })
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

/// True if the status was written for this very spec and key: what failed before a restart would
/// fail in the same way.
pub fn is_recorded(integration: &DpsIntegration, active: &SlotKey) -> bool {
    let observed = integration.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == integration.metadata.generation && recorded_key(integration, active)
}

fn recorded_key(integration: &DpsIntegration, active: &SlotKey) -> bool {
    let credentials = integration.status.as_ref().and_then(|status| status.credentials.as_ref());
    let recorded = credentials.and_then(|credentials| match active.slot {
        KeySlot::Primary => credentials.primary.as_ref(),
        KeySlot::Secondary => credentials.secondary.as_ref(),
    });
    recorded.and_then(|key| Fingerprint::parse(&key.fingerprint)) == Some(active.fingerprint)
}
