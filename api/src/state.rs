//! The state of an object in one word, for field selectors and scripts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
