//! The state of an object in one word, for field selectors and scripts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::conditions::{ConditionType, is_true};

/// Suspended, ready, failed or pending: judged in this order, as the counters of an integration are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum State {
    /// Something is waited for or tried again that may pass by itself.
    #[default]
    Pending,
    /// Ready=True.
    Ready,
    /// Stalled=True: a person must change something.
    Failed,
    /// suspend: true in its own spec.
    Suspended,
}

/// A word that this version does not know is none: it costs no one the rest of the status.
///
/// # Errors
/// Never of what is JSON.
pub fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<State>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

impl State {
    /// What these conditions come to, of an object with this `suspend`.
    pub fn of(suspended: bool, conditions: &[Condition]) -> Self {
        if suspended {
            Self::Suspended
        } else if is_true(conditions, ConditionType::Ready) {
            Self::Ready
        } else if is_true(conditions, ConditionType::Stalled) {
            Self::Failed
        } else {
            Self::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::super::conditions::{ConditionStatus, Conditions, Reason};
    use super::super::device::ProvisionedDeviceStatus;
    use super::super::integration::DpsIntegrationStatus;
    use super::*;

    #[test]
    fn suspended_goes_before_ready_and_ready_before_failed() {
        for (suspended, ready, reason, state) in [
            (false, ConditionStatus::True, Reason::Provisioned, State::Ready),
            (false, ConditionStatus::True, Reason::Unauthorized, State::Ready),
            (false, ConditionStatus::False, Reason::Unauthorized, State::Failed),
            (false, ConditionStatus::False, Reason::ServiceUnavailable, State::Pending),
            (false, ConditionStatus::Unknown, Reason::Pending, State::Pending),
            (true, ConditionStatus::True, Reason::Suspended, State::Suspended),
            (true, ConditionStatus::False, Reason::Unauthorized, State::Suspended),
        ] {
            let mut conditions = Conditions::new(&[], 1, Timestamp::UNIX_EPOCH);
            conditions.set(ConditionType::Ready, ready, reason, "");
            conditions.set_progress(reason, "");
            assert_eq!(State::of(suspended, &conditions.finish()), state, "{reason:?}");
        }
        assert_eq!(State::of(false, &[]), State::Pending);
    }

    #[test]
    fn a_state_of_a_later_version_costs_nothing_else() {
        for (word, state) in [("Ready", Some(State::Ready)), ("Parked", None)] {
            let status = serde_json::json!({"state": word, "assignedHub": "a"});
            let device: ProvisionedDeviceStatus = serde_json::from_value(status.clone()).unwrap();
            assert_eq!((device.state, device.assigned_hub.as_deref()), (state, Some("a")));
            let integration: DpsIntegrationStatus = serde_json::from_value(status).unwrap();
            assert_eq!(integration.state, state);
        }
        assert_eq!(serde_json::from_str::<ProvisionedDeviceStatus>("{}").unwrap().state, None);
    }
}
