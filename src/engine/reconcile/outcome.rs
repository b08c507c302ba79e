//! Results of effects that have ended, on their way back to the loop.

use k8s_openapi::api::core::v1::Secret;

use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::controller::device::act::{Registration, SecretDone, SecretTrouble};
use crate::controller::device::decide::Call;
use crate::controller::device::facts::{Located, Registered, ServedRequests};
use crate::controller::device::open_registration::OpenRegistration;
use crate::controller::device::own_credential::OwnRead;
use crate::controller::events::EventNote;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::certificate::CaId;
use crate::dps::error::DpsError;
use crate::engine::devices::ReadFor;
use crate::fleet::DeviceId;
use crate::fleet::uid::Uid;
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Stored;
use crate::schedule::permits::Permit;

/// An effect of a device that has ended, or news from one that goes on.
pub(in crate::engine) struct Done {
    pub id: DeviceId,
    pub uid: Uid,
    pub effect: Outcome,
}

/// What DPS was asked under. Its answer counts only while the device holds this permit and its
/// integration has this target.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Question {
    pub permit: Permit,
    /// Of the integration's target.
    pub revision: u64,
    /// Of the device's.
    pub target: u64,
    /// Of the credential.
    pub issuer: CredentialId,
    /// The CA of the certificate, if it is one.
    pub ca: Option<CaId>,
}

/// Under which circumstances a write began.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Began {
    /// Generation of the device.
    pub generation: i64,
    /// Of the target.
    pub revision: u64,
    /// What the device asked for by its own token, and by a request to look again.
    pub token: Option<String>,
    pub reconcile_at: Option<String>,
}

/// What DPS said of a device.
pub(in crate::engine) enum DpsResult {
    /// It was registered, or found for the first time.
    Registered(Box<Registered>),
    /// DPS has accepted it and wants to be asked later how that ended. `error`: of the last poll, if that
    /// failed.
    Open { open: Box<OpenRegistration>, error: Option<DpsError> },
    /// Where a registered device is now.
    Found(Located),
}

impl From<Registration> for DpsResult {
    fn from(registration: Registration) -> Self {
        match registration {
            Registration::Ended(registered) => Self::Registered(registered),
            Registration::Open { open, error } => Self::Open { open, error },
        }
    }
}

/// A call that has ended.
pub(in crate::engine) struct Called {
    pub question: Question,
    /// Generation of the device when it began.
    pub generation: i64,
    /// What users had asked for when it began.
    pub served: ServedRequests,
    pub call: Call,
    /// DPS had accepted the registration before it ended.
    pub accepted: bool,
    pub result: Result<DpsResult, DpsError>,
}

impl Called {
    /// A registration that may have taken effect, although DPS did not say so.
    pub fn is_unresolved(&self) -> bool {
        let failed = |error: &DpsError| self.accepted || error.may_have_taken_effect();
        self.call.registers() && self.result.as_ref().err().is_some_and(failed)
    }

    /// What DPS answered last, if that was no success.
    pub fn error(&self) -> Option<&DpsError> {
        match &self.result {
            Ok(DpsResult::Open { error, .. }) => error.as_ref(),
            Ok(DpsResult::Registered(_) | DpsResult::Found(_)) => None,
            Err(error) => Some(error),
        }
    }
}

/// A drift check that has ended.
pub(in crate::engine) struct Checked {
    pub question: Question,
    pub result: Result<Located, DpsError>,
}

/// A write of the Secret that has ended.
pub(in crate::engine) struct SecretWritten {
    pub began: Began,
    /// It had been deleted or edited.
    pub restored: bool,
    pub result: Result<SecretDone, SecretTrouble>,
}

/// A write of the status that has ended.
pub(in crate::engine) struct StatusWritten {
    pub status: ProvisionedDeviceStatus,
    /// The transition is worth a line in the log.
    pub is_news: bool,
    /// Events that it is worth.
    pub notes: Vec<EventNote>,
    pub result: Result<Stored, ApiError>,
}

/// The result of an effect. Boxed where it is large.
pub(in crate::engine) enum Outcome {
    DeviceRead(Result<Option<Box<ProvisionedDevice>>, ApiError>),
    /// DPS has accepted the credential; the registration goes on.
    CredentialAccepted(Question),
    Called(Box<Called>),
    Checked(Box<Checked>),
    CredentialRead {
        read_for: ReadFor,
        /// How often a read of them had come into doubt before.
        doubted: u32,
        read: Result<OwnRead, ApiError>,
    },
    SecretRead {
        revision: u64,
        read: Result<Option<Box<Secret>>, ApiError>,
    },
    SecretWritten(Box<SecretWritten>),
    StatusWritten(Box<StatusWritten>),
}

impl Outcome {
    /// True if it is the end of the device's one effect in flight.
    pub fn ends_task(&self) -> bool {
        match self {
            Self::DeviceRead(_) | Self::CredentialAccepted(_) | Self::Checked(_) => false,
            Self::Called(_)
            | Self::CredentialRead { .. }
            | Self::SecretRead { .. }
            | Self::SecretWritten(_)
            | Self::StatusWritten(_) => true,
        }
    }
}
