//! Which events a change of status is worth. Pure. Only transitions: what lasts is in the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::ProvisionedDeviceStatus;
use crate::api::integration::DpsIntegrationStatus;

/// Why an event is published: a closed set. `docs/conditions.md` has a row for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// Trouble has begun (a warning): the reason of `Ready`.
    Trouble(Reason),
    HubChanged,
    HubAssigned,
    /// The device is registered with another certificate.
    CertificateRenewed,
    Reprovisioned,
    SecretRestored,
    SecretRenamed,
    KeyRotationStarted,
    KeyRotationCompleted,
    /// Devices have certificates that should have been renewed by now (a warning).
    CertificateOverdue,
    EventsHeldBack,
    /// Somebody else keeps changing what the operator writes (a warning).
    StatusContested,
    /// A prefix of registration ids is taken that would be refused now (a warning).
    PrefixOutdated,
    /// Something in the CA bundle is left out, or should not be there (a warning).
    CaBundleFlawed,
    /// Both slots of an integration hold one and the same key (a warning).
    KeyInBothSlots,
    /// Consent to other namespaces leaves them no registration id (a warning).
    PrefixesContradict,
}

/// What is said of a status that has another writer, in log and event.
pub const CONTESTED: &str = "Something else keeps changing the status that the operator writes here: is a second dps-operator running? Stop one of the two, or give them disjoint namespaces. Until then the status is written with waits that grow from a second to five minutes.";

impl EventReason {
    #[cfg(test)]
    const NAMED: [Self; 15] = [
        Self::HubChanged,
        Self::HubAssigned,
        Self::CertificateRenewed,
        Self::Reprovisioned,
        Self::SecretRestored,
        Self::SecretRenamed,
        Self::KeyRotationStarted,
        Self::KeyRotationCompleted,
        Self::CertificateOverdue,
        Self::EventsHeldBack,
        Self::StatusContested,
        Self::PrefixOutdated,
        Self::CaBundleFlawed,
        Self::KeyInBothSlots,
        Self::PrefixesContradict,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trouble(reason) => reason.as_str(),
            Self::HubChanged => "HubChanged",
            Self::HubAssigned => "HubAssigned",
            Self::CertificateRenewed => "CertificateRenewed",
            Self::Reprovisioned => "Reprovisioned",
            Self::SecretRestored => "SecretRestored",
            Self::SecretRenamed => "SecretRenamed",
            Self::KeyRotationStarted => "KeyRotationStarted",
            Self::KeyRotationCompleted => "KeyRotationCompleted",
            Self::CertificateOverdue => "CertificateOverdue",
            Self::EventsHeldBack => "EventsHeldBack",
            Self::StatusContested => "StatusContested",
            Self::PrefixOutdated => "PrefixOutdated",
            Self::CaBundleFlawed => "CaBundleFlawed",
            Self::KeyInBothSlots => "KeyInBothSlots",
            Self::PrefixesContradict => "PrefixesContradict",
        }
    }

    /// What went as it should. Without `--events=all` ten of them are published in a minute.
    pub fn is_success(self) -> bool {
        matches!(self, Self::HubAssigned | Self::CertificateRenewed)
    }

    pub fn is_warning(self) -> bool {
        matches!(
            self,
            Self::Trouble(_)
                | Self::CertificateOverdue
                | Self::StatusContested
                | Self::PrefixOutdated
                | Self::CaBundleFlawed
                | Self::KeyInBothSlots
                | Self::PrefixesContradict
        )
    }
}

/// An event that should be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    pub reason: EventReason,
    pub note: String,
}

impl EventNote {
    pub fn new(reason: EventReason, note: impl Into<String>) -> Self {
        Self { reason, note: note.into() }
    }
}

/// A device with a certificate is registered with another one.
fn renewed(before: &ProvisionedDeviceStatus, after: &ProvisionedDeviceStatus) -> Option<EventNote> {
    let certificate = |status: &ProvisionedDeviceStatus| {
        let credential = status.credential.clone()?;
        let until = credential.not_after?.0;
        Some((credential.fingerprint?, until))
    };
    let (old, new) = (certificate(before)?, certificate(after)?);
    let note = || format!("Registered with another certificate, which is valid until {}.", new.1);
    (old.0 != new.0).then(|| EventNote::new(EventReason::CertificateRenewed, note()))
}

/// Events that a change of a device's status is worth.
pub fn of_device(
    before: Option<&ProvisionedDeviceStatus>,
    after: &ProvisionedDeviceStatus,
) -> Vec<EventNote> {
    let none = ProvisionedDeviceStatus::default();
    let before = before.unwrap_or(&none);
    let mut notes: Vec<EventNote> = trouble(&before.conditions, &after.conditions).into_iter().collect();
    match (&before.assigned_hub, &after.assigned_hub) {
        (Some(old), Some(new)) if old != new => {
            notes.push(EventNote::new(EventReason::HubChanged, format!("Moved from {old} to {new}.")));
        }
        (None, Some(hub)) => {
            notes.push(EventNote::new(EventReason::HubAssigned, format!("Assigned to {hub}.")))
        }
        _ => {}
    }
    notes.extend(renewed(before, after));
    let served = after.last_handled_reprovision_token != before.last_handled_reprovision_token;
    if served && before.assigned_hub.is_some() {
        notes.push(EventNote::new(
            EventReason::Reprovisioned,
            "Registered again on request (dps-operator.io/reprovision-requested-at).",
        ));
    }
    if let (Some(old), Some(new)) = (&before.secret, &after.secret)
        && old.name != new.name
    {
        let note = format!(
            "The credentials are in Secret {:?} now; {:?} is no longer maintained.",
            new.name, old.name
        );
        notes.push(EventNote::new(EventReason::SecretRenamed, note));
    }
    notes
}

/// Events that a change of an integration's status is worth.
pub fn of_integration(before: Option<&DpsIntegrationStatus>, after: &DpsIntegrationStatus) -> Vec<EventNote> {
    let none = DpsIntegrationStatus::default();
    let before = before.unwrap_or(&none);
    let mut notes: Vec<EventNote> = trouble(&before.conditions, &after.conditions).into_iter().collect();
    match (&before.key_rotation, &after.key_rotation) {
        (None, Some(rotation)) => {
            let note = format!(
                "{} of {} devices are registered with another key, or a certificate of another CA.",
                rotation.pending, rotation.total
            );
            notes.push(EventNote::new(EventReason::KeyRotationStarted, note));
        }
        (Some(rotation), None) => {
            let left_out = match rotation.excluded {
                0 => String::new(),
                count => format!(" {count} were left out: suspended, or with policy Never."),
            };
            let note = format!(
                "The move of {} devices to another key, or to certificates of another CA, is over.{left_out}",
                rotation.total
            );
            notes.push(EventNote::new(EventReason::KeyRotationCompleted, note));
        }
        _ => {}
    }
    notes.extend(overdue(before, after));
    notes
}

/// The first devices have certificates that should have been renewed.
fn overdue(before: &DpsIntegrationStatus, after: &DpsIntegrationStatus) -> Option<EventNote> {
    let overdue = |status: &DpsIntegrationStatus| {
        status.certificates.as_ref().map_or(0, |certificates| certificates.overdue)
    };
    let is_new = overdue(before) == 0 && overdue(after) > 0;
    let earliest =
        after.certificates.as_ref().and_then(|certificates| certificates.earliest_not_after.as_ref());
    let earliest = earliest
        .map(|at| format!(" The first certificate of a device expires at {}.", at.0))
        .unwrap_or_default();
    let note = format!(
        "{} devices have certificates that are past five sixths of their life, with no newer one in their Secrets.{earliest} \
         Look at what issues them; with cert-manager, at the conditions of the Certificates.",
        overdue(after),
    );
    is_new.then(|| EventNote::new(EventReason::CertificateOverdue, note))
}

/// A reason of Ready that was not there before and that may need a person.
fn trouble(before: &[Condition], after: &[Condition]) -> Option<EventNote> {
    let ready = conditions::find(after, ConditionType::Ready)?;
    let reason = Reason::parse(&ready.reason)?;
    // Why an integration cannot be used is an event of its own.
    let quiet = reason.takes_long() || reason == Reason::IntegrationNotReady;
    let troubles = reason.is_stalled() || (reason.is_reconciling() && !quiet);
    let is_new = conditions::reason_of(before, ConditionType::Ready) != Some(reason);
    (troubles && is_new).then(|| EventNote::new(EventReason::Trouble(reason), ready.message.clone()))
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
        let notes = of_device(Some(&device(before)), &device(after));
        notes.into_iter().map(|note| note.reason.as_str()).collect()
    }

    #[test]
    fn trouble_is_an_event_when_it_begins_and_not_while_it_lasts() {
        assert_eq!(reasons(json!({}), json!({"conditions": ready("Unauthorized")})), ["Unauthorized"]);
        let same = json!({"conditions": ready("Unauthorized")});
        assert_eq!(reasons(same.clone(), same), [""; 0]);
        for quiet in ["Queued", "Registering", "IntegrationNotReady", "Provisioned", "Suspended"] {
            assert_eq!(reasons(json!({}), json!({"conditions": ready(quiet)})), [""; 0], "{quiet}");
        }
    }

    #[test]
    fn assignments_moves_tokens_and_renamed_secrets_are_events() {
        let on = |hub: &str| json!({"assignedHub": hub});
        assert_eq!(reasons(on("a"), on("b")), ["HubChanged"]);
        assert_eq!(reasons(json!({}), on("a")), ["HubAssigned"]);
        assert_eq!(reasons(on("a"), on("a")), [""; 0]);
        let token = json!({"assignedHub": "a", "lastHandledReprovisionToken": "1"});
        assert_eq!(reasons(on("a"), token.clone()), ["Reprovisioned"]);
        assert_eq!(reasons(json!({}), token), ["HubAssigned"], "a new device has no token to serve");
        let named = |name: &str| json!({"secret": {"name": name}});
        assert_eq!(reasons(named("a"), named("b")), ["SecretRenamed"]);
        assert_eq!(reasons(json!({}), named("b")), [""; 0]);
    }

    #[test]
    fn a_renewed_certificate_is_an_event() {
        let with = |fingerprint: &str| {
            let until = "2030-01-01T00:00:00Z";
            device(json!({"credential": {"type": "X509", "fingerprint": fingerprint, "notAfter": until}}))
        };
        let key = device(json!({"credential": {"type": "SymmetricKey", "fingerprint": "00000000000000aa"}}));
        let (old, new) = (with("00000000000000aa"), with("00000000000000bb"));
        let notes = of_device(Some(&old), &new);
        assert_eq!(
            notes.iter().map(|note| note.reason).collect::<Vec<_>>(),
            [EventReason::CertificateRenewed]
        );
        assert!(notes[0].note.contains("2030-01-01"), "{}", notes[0].note);
        for (before, after) in [(&old, &old), (&key, &new)] {
            assert_eq!(of_device(Some(before), after), []);
        }
    }

    #[test]
    fn a_rotation_is_an_event_at_its_beginning_and_its_end() {
        let integration = |status: Value| serde_json::from_value::<DpsIntegrationStatus>(status).unwrap();
        let rotating = integration(json!({"keyRotation": {
            "total": 5, "pending": 3, "excluded": 0, "blocked": false, "startedAt": "2026-01-01T00:00:00Z",
        }}));
        let idle = integration(json!({}));
        let reason = |before, after| {
            of_integration(Some(before), after).into_iter().map(|note| note.reason.as_str()).next()
        };
        assert_eq!(reason(&idle, &rotating), Some("KeyRotationStarted"));
        assert_eq!(reason(&rotating, &rotating), None);
        assert_eq!(reason(&rotating, &idle), Some("KeyRotationCompleted"));
    }

    #[test]
    fn every_reason_of_an_event_is_documented() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conditions.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, events) = page.split_once("\n## Events\n").unwrap();
        let (table, _) = events.split_once("\n## ").unwrap();
        let missing: Vec<_> = EventReason::NAMED
            .into_iter()
            .filter(|r| !table.contains(&format!("`{}`", r.as_str())))
            .collect();
        assert_eq!(missing, []);
    }
}
