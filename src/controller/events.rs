//! Which events a change of status is worth. Pure. Only transitions: what stays is in the status.

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::ProvisionedDeviceStatus;
use crate::api::integration::DpsIntegrationStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Something that a person should be told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}

impl Told {
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, note: note.into() }
    }
}

/// What to tell when a device's status has changed; `all` tells of first assignments, too.
pub fn of_device(
    before: Option<&ProvisionedDeviceStatus>,
    after: &ProvisionedDeviceStatus,
    all: bool,
) -> Vec<Told> {
    let none = ProvisionedDeviceStatus::default();
    let before = before.unwrap_or(&none);
    let mut told: Vec<Told> = trouble(&before.conditions, &after.conditions).into_iter().collect();
    match (&before.assigned_hub, &after.assigned_hub) {
        (Some(old), Some(new)) if old != new => {
            told.push(Told::normal("HubChanged", format!("Moved from {old} to {new}.")));
        }
        (None, Some(hub)) if all => told.push(Told::normal("HubAssigned", format!("Assigned to {hub}."))),
        _ => {}
    }
    let served = after.last_handled_reprovision_token != before.last_handled_reprovision_token;
    if served && before.assigned_hub.is_some() {
        told.push(Told::normal("Reprovisioned", "Registered once more, as its token asked."));
    }
    if let (Some(old), Some(new)) = (&before.secret, &after.secret)
        && old.name != new.name
    {
        let note = format!(
            "The credentials are in Secret {:?} now; {:?} is no longer maintained.",
            new.name, old.name
        );
        told.push(Told::normal("SecretRenamed", note));
    }
    told
}

/// What to tell when an integration's status has changed.
pub fn of_integration(before: Option<&DpsIntegrationStatus>, after: &DpsIntegrationStatus) -> Vec<Told> {
    let none = DpsIntegrationStatus::default();
    let before = before.unwrap_or(&none);
    let mut told: Vec<Told> = trouble(&before.conditions, &after.conditions).into_iter().collect();
    match (&before.key_rotation, &after.key_rotation) {
        (None, Some(rotation)) => {
            let note = format!(
                "{} of {} devices are registered with another key.",
                rotation.pending, rotation.total
            );
            told.push(Told::normal("KeyRotationStarted", note));
        }
        (Some(_), None) => {
            told.push(Told::normal(
                "KeyRotationCompleted",
                "Every device that may be is registered with the active key.",
            ));
        }
        _ => {}
    }
    told
}

/// A reason of Ready that was not there before and that somebody may have to look at.
fn trouble(before: &[Condition], after: &[Condition]) -> Option<Told> {
    let ready = conditions::find(after, ConditionType::Ready)?;
    let reason = Reason::parse(&ready.reason)?;
    // The integration itself tells why it cannot be used.
    let quiet = reason.takes_long() || reason == Reason::IntegrationNotReady;
    let troubles = reason.is_stalled() || (reason.is_reconciling() && !quiet);
    let is_new = conditions::reason_of(before, ConditionType::Ready) != Some(reason);
    (troubles && is_new).then(|| Told { warning: true, reason: reason.as_str(), note: ready.message.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn device(status: Value) -> ProvisionedDeviceStatus {
        serde_json::from_value(status).unwrap()
    }

    fn ready(reason: &str) -> Value {
        json!([{"type": "Ready", "status": "False", "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn reasons(before: Value, after: Value) -> Vec<&'static str> {
        let told = of_device(Some(&device(before)), &device(after), false);
        told.into_iter().map(|told| told.reason).collect()
    }

    #[test]
    fn trouble_is_told_when_it_begins_and_not_while_it_lasts() {
        assert_eq!(reasons(json!({}), json!({"conditions": ready("Unauthorized")})), ["Unauthorized"]);
        let same = json!({"conditions": ready("Unauthorized")});
        assert_eq!(reasons(same.clone(), same), [""; 0]);
        for quiet in ["Queued", "Registering", "IntegrationNotReady", "Provisioned", "Suspended"] {
            assert_eq!(reasons(json!({}), json!({"conditions": ready(quiet)})), [""; 0], "{quiet}");
        }
    }

    #[test]
    fn moves_tokens_and_renamed_secrets_are_told_and_first_assignments_only_on_request() {
        let on = |hub: &str| json!({"assignedHub": hub});
        assert_eq!(reasons(on("a"), on("b")), ["HubChanged"]);
        assert_eq!(reasons(json!({}), on("a")), [""; 0]);
        let assigned = of_device(None, &device(on("a")), true);
        assert_eq!(assigned[0].reason, "HubAssigned");
        let token = json!({"assignedHub": "a", "lastHandledReprovisionToken": "1"});
        assert_eq!(reasons(on("a"), token.clone()), ["Reprovisioned"]);
        assert_eq!(reasons(json!({}), token), [""; 0], "a new device has no token to serve");
        let named = |name: &str| json!({"secret": {"name": name}});
        assert_eq!(reasons(named("a"), named("b")), ["SecretRenamed"]);
        assert_eq!(reasons(json!({}), named("b")), [""; 0]);
    }

    #[test]
    fn a_rotation_is_told_at_its_beginning_and_its_end() {
        let integration = |status: Value| serde_json::from_value::<DpsIntegrationStatus>(status).unwrap();
        let rotating = integration(json!({"keyRotation": {
            "total": 5, "pending": 3, "excluded": 0, "blocked": false, "startedAt": "2026-01-01T00:00:00Z",
        }}));
        let idle = integration(json!({}));
        let reason = |before, after| of_integration(Some(before), after).into_iter().map(|t| t.reason).next();
        assert_eq!(reason(&idle, &rotating), Some("KeyRotationStarted"));
        assert_eq!(reason(&rotating, &rotating), None);
        assert_eq!(reason(&rotating, &idle), Some("KeyRotationCompleted"));
    }
}
