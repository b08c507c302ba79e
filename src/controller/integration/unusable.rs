//! Why an integration cannot be used.

use crate::api::conditions::Reason;

/// Reason and message of an integration's Ready condition while it is not True.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub reason: Reason,
    pub message: String,
    /// It may be over in a moment: that is not worth saying at once.
    pub passes: bool,
}

impl Unusable {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passes: false }
    }

    /// What may be over in a moment.
    pub fn passing(reason: Reason, message: impl Into<String>) -> Self {
        Self { passes: true, ..Self::new(reason, message) }
    }
}
