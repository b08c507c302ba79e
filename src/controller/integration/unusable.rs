//! Why an integration cannot be used.

use crate::api::conditions::Reason;

/// Reason and message of an integration's Ready condition while it is not True.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub reason: Reason,
    pub message: String,
}

impl Unusable {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
