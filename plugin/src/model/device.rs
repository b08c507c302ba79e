//! What one device says.

use dps_operator_api::conditions::{ConditionType, reason_of};
use dps_operator_api::device::{LastError, ProvisionedDevice};
use dps_operator_api::integration::DpsIntegration;
use jiff::Timestamp;
use serde::Serialize;

use super::next_try::next_try;
use super::rotation::slot_name;
use super::{State, state};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
}

/// How the integration of a device stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Integration {
    Usable,
    /// It holds its devices, and what it says.
    Trouble {
        reason: String,
        message: String,
    },
    Missing,
    /// You may not read it.
    Hidden,
}

/// When something is done for the device next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "when")]
pub enum Next {
    /// Nothing is to be done.
    Settled,
    Suspended,
    /// When its integration can be used.
    WithIntegration,
    /// It is its turn soon: it is new, or something is being done for it.
    Soon,
    /// DPS is asked again, between these two moments.
    Between {
        earliest: Timestamp,
        latest: Timestamp,
    },
    /// When something is changed.
    OnChange,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    pub namespace: String,
    pub name: String,
    pub state: State,
    pub reason: String,
    pub suspended: bool,
    /// `namespace/name`.
    pub integration: String,
    pub integration_state: Integration,
    pub registration_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_hub: Option<String>,
    /// What its credentials are called; absent until they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What it was registered with: slot, fingerprint, end of a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<Timestamp>,
    pub conditions: Vec<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    pub next: Next,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Integration {
    /// `None`: there is none.
    pub fn of(integration: Option<&DpsIntegration>) -> Self {
        let Some(integration) = integration else { return Self::Missing };
        let conditions = integration.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
        let (state, reason) = state(conditions, integration.spec.suspend);
        let ready = dps_operator_api::conditions::find(conditions, ConditionType::Ready);
        match (state, ready) {
            (State::Ready, _) => Self::Usable,
            (State::Suspended, _) => Self::Trouble {
                reason: "Suspended".to_owned(),
                message: "spec.suspend is true: no DPS operation is started for its devices.".to_owned(),
            },
            (_, ready) => Self::Trouble {
                reason: reason.to_owned(),
                message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
            },
        }
    }
}

impl DeviceReport {
    pub fn of(device: &ProvisionedDevice, integration: Integration, now: Timestamp) -> Self {
        let status = device.status.clone().unwrap_or_default();
        let (state, reason) = state(&status.conditions, device.spec.suspend);
        let said = status.conditions.iter().map(|condition| Said {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: condition.last_transition_time.0,
        });
        Self {
            namespace: device.metadata.namespace.clone().unwrap_or_default(),
            name: device.metadata.name.clone().unwrap_or_default(),
            state,
            reason: reason.to_owned(),
            suspended: device.spec.suspend,
            integration: device.integration_key(),
            registration_id: device.registration_id().to_owned(),
            conditions: said.collect(),
            next: next(device, &integration, now),
            integration_state: integration,
            id_scope: status.id_scope,
            hub: status.assigned_hub,
            device_id: status.device_id,
            previous_hub: status.previous_hub,
            secret: status.secret.map(|secret| secret.name),
            credential: status.credential.map(|credential| Credential {
                slot: credential.slot.map(|slot| slot_name(slot).to_owned()),
                fingerprint: credential.fingerprint,
                expires: credential.not_after.map(|at| at.0),
            }),
            registered: status.last_registration_time.map(|at| at.0),
            last_error: status.last_error,
            attempts: status.attempts.and_then(|attempts| u32::try_from(attempts).ok()),
        }
    }

    pub fn needs_you(&self) -> bool {
        self.state == State::NeedsYou || self.integration_state == Integration::Missing
    }
}

/// What is done next, and when.
fn next(device: &ProvisionedDevice, integration: &Integration, now: Timestamp) -> Next {
    let status = device.status.clone().unwrap_or_default();
    let (state, _) = state(&status.conditions, device.spec.suspend);
    if device.spec.suspend {
        return Next::Suspended;
    }
    if state == State::Ready {
        return Next::Settled;
    }
    if matches!(integration, Integration::Missing | Integration::Trouble { .. }) {
        return Next::WithIntegration;
    }
    let last = status.last_error.as_ref().and_then(|error| error.time.as_ref());
    let reason = reason_of(&status.conditions, ConditionType::Ready);
    let attempts = status.attempts.and_then(|attempts| u32::try_from(attempts).ok());
    match (last, reason, attempts) {
        (Some(last), Some(reason), Some(attempts)) => {
            let (earliest, latest) = next_try(reason, attempts, last.0, now);
            Next::Between { earliest, latest }
        }
        _ if state == State::NeedsYou => Next::OnChange,
        _ => Next::Soon,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn device(suspend: bool, status: &Value) -> ProvisionedDevice {
        let object = json!({
            "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
            "metadata": {"name": "press-01", "namespace": "fleet"},
            "spec": {"integrationRef": {"name": "factory"}, "suspend": suspend},
            "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-29T12:00:00Z"})
    }

    #[test]
    fn when_it_is_tried_next_follows_from_what_the_status_says() {
        let now: Timestamp = "2026-11-29T12:00:30Z".parse().unwrap();
        let refused =
            [condition("Ready", "False", "Unauthorized"), condition("Stalled", "True", "Unauthorized")];
        let error = json!({"httpStatus": 401, "time": "2026-11-29T12:00:00Z"});
        let answered = json!({"conditions": refused, "lastError": error, "attempts": 1});
        let trouble = Integration::Trouble { reason: "Throttled".to_owned(), message: String::new() };
        let between = Next::Between {
            earliest: "2026-11-29T12:01:00Z".parse().unwrap(),
            latest: "2026-11-29T12:01:15Z".parse().unwrap(),
        };
        let ready = json!({"conditions": [condition("Ready", "True", "Provisioned")]});
        let cases = [
            (device(false, &json!({})), Integration::Usable, Next::Soon),
            (device(false, &ready), Integration::Missing, Next::Settled),
            (device(true, &answered), Integration::Usable, Next::Suspended),
            (device(false, &answered), Integration::Usable, between.clone()),
            (device(false, &answered), Integration::Hidden, between),
            (device(false, &answered), trouble, Next::WithIntegration),
            (device(false, &json!({"conditions": refused})), Integration::Usable, Next::OnChange),
        ];
        for (device, integration, wanted) in cases {
            assert_eq!(next(&device, &integration, now), wanted);
        }
    }
}
