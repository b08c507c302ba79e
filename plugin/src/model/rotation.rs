//! A rotation of keys: how far it is, what holds it, how long it takes.

use dps_operator_api::attestation::{KeySlot, SymmetricKey};
use dps_operator_api::integration::{DpsIntegration, DpsIntegrationSpec};
use jiff::Timestamp;
use serde::Serialize;

use super::spans::seconds;

/// What the operator makes for an id scope unless it is set otherwise.
pub const USUAL_RATE: i32 = 600;

/// How far a fleet has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// `Primary` or `Secondary`; absent of certificates of another CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub done: i32,
    pub total: i32,
    pub pending: i32,
    /// Suspended, or with policy Never: they stay.
    pub excluded: i32,
    /// DPS refuses the new key.
    pub blocked: bool,
    pub paused: bool,
    pub suspended: bool,
    pub started_at: Timestamp,
    /// Seconds until the last one is moved, if it goes on as until now; absent while it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

pub fn slot_name(slot: KeySlot) -> &'static str {
    match slot {
        KeySlot::Primary => "Primary",
        KeySlot::Secondary => "Secondary",
    }
}

/// Devices a minute that the integration's own settings admit, the lowest of them.
pub fn pace(spec: &DpsIntegrationSpec) -> Option<i32> {
    let rollout = spec.rollout.as_ref().and_then(|rollout| rollout.max_per_minute);
    let rate = spec.rate_limit.as_ref().map(|limit| limit.registrations_per_minute);
    rollout.into_iter().chain(rate).min()
}

/// Seconds that so many devices take.
pub fn takes(devices: i32, a_minute: i32) -> u64 {
    let (devices, a_minute) = (devices.max(0).unsigned_abs(), a_minute.max(1).unsigned_abs());
    (u64::from(devices) * 60).div_ceil(u64::from(a_minute))
}

impl Rotation {
    /// Of an integration that is in the middle of one.
    pub fn of(integration: &DpsIntegration, now: Timestamp) -> Option<Self> {
        let spec = &integration.spec;
        let status = integration.status.as_ref()?.key_rotation.as_ref()?;
        let done = (status.total - status.pending - status.excluded).max(0);
        let paused = spec.rollout.as_ref().is_some_and(|rollout| rollout.paused);
        let held = paused || spec.suspend || status.blocked;
        let left = match pace(spec) {
            Some(pace) => Some(takes(status.pending, pace)),
            None => measured(done, status.pending, seconds(status.started_at.0, now)),
        };
        Some(Self {
            to: spec.attestation.symmetric_key.as_ref().map(|keys| slot_name(keys.active).to_owned()),
            done,
            total: status.total - status.excluded,
            pending: status.pending,
            excluded: status.excluded,
            blocked: status.blocked,
            paused,
            suspended: spec.suspend,
            started_at: status.started_at.0,
            seconds_left: left.filter(|_| !held),
        })
    }
}

/// By how long it took until now.
fn measured(done: i32, pending: i32, passed: u64) -> Option<u64> {
    let (done, pending) = (u64::try_from(done).ok()?, u64::try_from(pending).ok()?);
    (done > 0).then(|| pending.saturating_mul(passed).div_ceil(done))
}

/// What `rotate` would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Devices move to the other slot.
    Move { devices: i32, suspended: i32, pace: Option<i32>, paused: bool },
    /// That slot is asked for already.
    AlreadyAsked,
    /// It cannot be; why, and what to do.
    Impossible(String),
}

/// What would happen if `to` became the active slot.
pub fn plan(integration: &DpsIntegration, to: KeySlot) -> Plan {
    let name = integration.metadata.name.as_deref().unwrap_or_default();
    let Some(keys) = &integration.spec.attestation.symmetric_key else {
        return Plan::Impossible(format!(
            "Integration {name} has no group key: its devices prove who they are with certificates, or with keys of \
             their own. There is nothing to rotate; a changed key or certificate is registered by itself."
        ));
    };
    if keys.active == to {
        return Plan::AlreadyAsked;
    }
    if let Some(why) = missing_slot(name, keys, to).or_else(|| same_key(integration)) {
        return Plan::Impossible(why);
    }
    let counts = integration.status.as_ref().and_then(|status| status.devices.clone()).unwrap_or_default();
    Plan::Move {
        devices: counts.assigned,
        suspended: counts.suspended,
        pace: pace(&integration.spec),
        paused: integration.spec.rollout.as_ref().is_some_and(|rollout| rollout.paused),
    }
}

fn missing_slot(name: &str, keys: &SymmetricKey, to: KeySlot) -> Option<String> {
    (to == KeySlot::Secondary && keys.secondary_key_ref.is_none()).then(|| {
        format!(
            "Integration {name} has no secondary slot. Put the group's secondary key into a Secret, then name it in \
             spec.attestation.symmetricKey.secondaryKeyRef; no device is touched by that."
        )
    })
}

fn same_key(integration: &DpsIntegration) -> Option<String> {
    let credentials = integration.status.as_ref()?.credentials.as_ref()?;
    let (primary, secondary) = (credentials.primary.as_ref()?, credentials.secondary.as_ref()?);
    (primary.fingerprint == secondary.fingerprint).then(|| {
        "Both slots hold one and the same key, so that nothing would change, and the next renewal in Azure would lock \
         every device out. Let each slot lead to its own key of the group first."
            .to_owned()
    })
}

/// How a rotation stands that is being followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// The operator has not looked at the change yet, or has not counted yet.
    Begins,
    Moves(Rotation),
    /// All devices are where they should be.
    Over,
    /// DPS refuses the key, so that the other slot's is used.
    FellBack,
}

/// How it stands, by a status that is about `generation` or a later one.
pub fn course(integration: &DpsIntegration, to: KeySlot, generation: i64, now: Timestamp) -> Course {
    let Some(status) = &integration.status else { return Course::Begins };
    if status.observed_generation.unwrap_or_default() < generation {
        return Course::Begins;
    }
    if let Some(rotation) = Rotation::of(integration, now) {
        return Course::Moves(rotation);
    }
    let credentials = status.credentials.clone().unwrap_or_default();
    let none = status.devices.as_ref().is_some_and(|devices| devices.assigned == 0);
    if credentials.in_use.is_some_and(|in_use| in_use != to) {
        Course::FellBack
    } else if credentials.working == Some(to) || none {
        Course::Over
    } else {
        Course::Begins
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn integration(spec: &Value, status: &Value) -> DpsIntegration {
        let mut object = json!({
            "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
            "metadata": {"name": "factory", "namespace": "fleet", "generation": 2},
            "spec": {"idScope": "0ne00000001", "attestation": {"symmetricKey": {
                "primaryKeyRef": {"name": "keys"}, "secondaryKeyRef": {"name": "keys"}}}},
            "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-29T12:01:00Z".parse().unwrap()
    }

    fn rotating(spec: &Value) -> Rotation {
        let rotation = json!({"total": 130, "pending": 20, "excluded": 3, "blocked": false, "startedAt": "2026-11-29T12:00:00Z"});
        Rotation::of(&integration(spec, &json!({"keyRotation": rotation})), now()).unwrap()
    }

    #[test]
    fn the_time_left_is_by_the_pace_that_is_set_or_else_by_what_was_seen() {
        let seen = rotating(&json!({}));
        assert_eq!((seen.done, seen.total, seen.seconds_left), (107, 127, Some(12)));
        assert_eq!(rotating(&json!({"rollout": {"maxPerMinute": 10}})).seconds_left, Some(120));
        let both = json!({"rollout": {"maxPerMinute": 10}, "rateLimit": {"registrationsPerMinute": 5}});
        assert_eq!(rotating(&both).seconds_left, Some(240));
        let paused = rotating(&json!({"rollout": {"paused": true, "maxPerMinute": 10}}));
        assert_eq!((paused.paused, paused.seconds_left), (true, None));
    }

    #[test]
    fn a_plan_says_what_moves_or_why_nothing_can() {
        let counts =
            json!({"total": 9, "ready": 8, "pending": 0, "failed": 0, "suspended": 1, "assigned": 9});
        let both = integration(&json!({"rollout": {"paused": true}}), &json!({"devices": counts}));
        let moves = Plan::Move { devices: 9, suspended: 1, pace: None, paused: true };
        assert_eq!(plan(&both, KeySlot::Secondary), moves);
        assert_eq!(plan(&both, KeySlot::Primary), Plan::AlreadyAsked);
        let one = json!({"attestation": {"symmetricKey": {"primaryKeyRef": {"name": "keys"}}}});
        let none = json!({"attestation": {"perDevice": {}}});
        let key = json!({"fingerprint": "00112233"});
        let same = json!({"credentials": {"primary": key, "secondary": key}});
        let cases = [
            (integration(&one, &json!({})), "no secondary slot"),
            (integration(&none, &json!({})), "no group key"),
            (integration(&json!({}), &same), "one and the same key"),
        ];
        for (integration, part) in cases {
            let Plan::Impossible(why) = plan(&integration, KeySlot::Secondary) else { panic!("{part}") };
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_rotation_is_over_once_the_key_works_and_nothing_is_left_to_move() {
        let rotation = json!({"total": 1, "pending": 1, "excluded": 0, "blocked": true, "startedAt": "2026-11-29T12:00:00Z"});
        let status = |observed: i64, in_use: &str, working: &str, rotation: &Value| {
            json!({"observedGeneration": observed, "credentials": {"inUse": in_use, "working": working},
                "keyRotation": rotation})
        };
        let cases = [
            (status(1, "Primary", "Primary", &Value::Null), "Begins"),
            (status(2, "Secondary", "Primary", &Value::Null), "Begins"),
            (status(2, "Secondary", "Primary", &rotation), "Moves"),
            (status(2, "Secondary", "Secondary", &Value::Null), "Over"),
            (status(2, "Primary", "Primary", &Value::Null), "FellBack"),
        ];
        for (status, wanted) in cases {
            let found = course(&integration(&json!({}), &status), KeySlot::Secondary, 2, now());
            assert!(format!("{found:?}").starts_with(wanted), "{found:?} {wanted}");
        }
    }
}
