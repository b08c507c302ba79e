//! What objects say, as a person wants to know it: pure, with `now` as an argument.

pub mod asked;
pub mod brief;
pub mod device;
pub mod fleet;
pub mod next_try;
pub mod rotation;
pub mod spans;

use dps_operator_api::conditions::{ConditionType, find, is_true};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// A person has to change something.
    NeedsYou,
    /// Something is waited for, or retried.
    Waiting,
    Suspended,
    Ready,
}

/// Stands in the place of a reason where there is no condition, as what the API server says of new objects.
pub const NEW: &str = "Pending";

/// How an object stands, and the reason that its conditions give.
pub fn state(conditions: &[Condition], suspended: bool) -> (State, &str) {
    let reason = |kind| find(conditions, kind).map_or(NEW, |condition| condition.reason.as_str());
    let ready = reason(ConditionType::Ready);
    if is_true(conditions, ConditionType::Stalled) {
        (State::NeedsYou, reason(ConditionType::Stalled))
    } else if suspended {
        (State::Suspended, ready)
    } else if is_true(conditions, ConditionType::Reconciling) {
        (State::Waiting, reason(ConditionType::Reconciling))
    } else if is_true(conditions, ConditionType::Ready) {
        (State::Ready, ready)
    } else {
        (State::Waiting, ready)
    }
}
