//! What a refusal speaks against, and which devices met it.

use crate::api::conditions::Reason;
use crate::controller::failure::{self, AGAIN};
use crate::controller::integration::unusable::Unusable;
use crate::dps::error::{Detail, DpsError};
use crate::fleet::uid::Uid;
use crate::schedule::Waiter;

/// What DPS does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The credential.
    Credential,
    /// The clock that the token was made with: another credential would not help.
    Clock,
    /// It knows no enrollment that admits the device.
    Enrollment,
    /// It knows no instance with the id scope.
    Scope,
}

impl Refused {
    /// `None`: the error speaks against nothing that all devices of an integration share.
    pub(super) fn of(error: &DpsError) -> Option<Self> {
        match error {
            // A certificate is one device's, and that it was not asked for is no matter to devices with keys.
            DpsError::Unauthorized(refusal) if refusal.certificate.is_some() => None,
            DpsError::Unauthorized(refusal) if refusal.concerns_credential() => Some(Self::Credential),
            DpsError::Unauthorized(_) => Some(Self::Clock),
            DpsError::NotFound(detail) if speaks_of_scope(detail) => Some(Self::Scope),
            DpsError::NotFound(_) => Some(Self::Enrollment),
            _ => None,
        }
    }

    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Credential | Self::Clock => Reason::Unauthorized,
            Self::Enrollment => Reason::EnrollmentNotFound,
            Self::Scope => Reason::IdScopeNotFound,
        }
    }

    /// What the integration says: what was found, the next step, and when it is tried again.
    pub(super) fn said(self, error: &DpsError) -> Unusable {
        let message = match self {
            Self::Credential | Self::Clock => failure::message(error),
            Self::Enrollment => format!(
                "DPS knows no enrollment for the devices of this integration. Check in Azure that the enrollment group \
                 exists, and that the DPS instance is the one of spec.idScope. {AGAIN}{}",
                failure::said_by_dps(error)
            ),
            Self::Scope => format!(
                "DPS knows no instance with the id scope in spec.idScope. Compare it with \"ID Scope\" on the overview \
                 page of the DPS instance, and spec.hostname with its cloud. {AGAIN}{}",
                failure::said_by_dps(error)
            ),
        };
        Unusable::new(self.reason(), message)
    }
}

/// One code stands for both: only the text tells an unknown id scope from an unknown enrollment.
fn speaks_of_scope(detail: &Detail) -> bool {
    detail.message.as_ref().is_some_and(|message| message.as_str().to_ascii_lowercase().contains("scope"))
}

/// A device whose call showed something. Its place in the index may be another's later, its uid never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    pub device: Waiter,
    pub uid: Uid,
}

/// The last devices to which something happened, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Canaries(Vec<Canary>);

impl Canaries {
    /// Takes the device in; `most` are kept.
    pub(super) fn add(&mut self, canary: Canary, most: usize) {
        if !self.has(canary.uid) {
            self.0.push(canary);
            let surplus = self.0.len().saturating_sub(most);
            self.0.drain(..surplus);
        }
    }

    pub(super) fn has(&self, uid: Uid) -> bool {
        self.0.iter().any(|canary| canary.uid == uid)
    }

    pub(super) fn all(&self) -> &[Canary] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
