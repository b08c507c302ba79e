//! What went wrong last for a device, and how long to wait for the next try.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{LastError, ProvisionedDeviceStatus};
use crate::api::retry;

/// As long as a device that waits for its turn says nothing.
const UNSAID: Duration = Duration::from_secs(5 * 60);

/// Which kind of work failed; each has its own wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedWork {
    Registration,
    Secret,
}

/// The last thing that went wrong and is not mended.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub work: FailedWork,
    pub reason: Reason,
    pub message: String,
    /// What DPS answered.
    pub error: Option<LastError>,
    pub attempts: u32,
    pub not_before: Instant,
    /// DPS asks for so long a wait that the device should not be left without a word.
    pub lasts: bool,
    /// Of the device; a change is a reason to try at once.
    pub generation: i64,
    /// Of the integration; `None` when read back from status.
    pub revision: Option<u64>,
    /// The device's own token when it failed.
    pub token: Option<String>,
    /// The request to look again that stood there when it failed.
    pub reconcile_at: Option<String>,
}

/// A failure that has just happened.
#[derive(Debug)]
pub struct NewFailure {
    pub work: FailedWork,
    pub reason: Reason,
    pub message: String,
    pub error: Option<LastError>,
    pub at_least: Option<Duration>,
    pub generation: i64,
    pub revision: u64,
    pub token: Option<String>,
    pub reconcile_at: Option<String>,
}

impl Failure {
    /// `before`: what went wrong last. DPS's own word is a minimum.
    pub(super) fn after(before: Option<Self>, failure: NewFailure, seed: u64, now: Instant) -> Self {
        let NewFailure { work, reason, message, error, at_least, generation, revision, token, reconcile_at } =
            failure;
        let before = before.filter(|before| before.work == work && before.reason == reason);
        let attempts = before.map_or(0, |before| before.attempts).saturating_add(1);
        let wait = retry::wait(retry::class_of(reason), attempts, seed).max(at_least.unwrap_or_default());
        Self {
            work,
            reason,
            message,
            error,
            attempts,
            not_before: now + wait,
            lasts: at_least.is_some_and(|asked| asked > UNSAID),
            generation,
            revision: Some(revision),
            token,
            reconcile_at,
        }
    }

    /// A failure as the status recorded it, so that a restart does not forget how long to wait.
    /// Only those that DPS answered: the others are decided upon once more, which calls nothing outside.
    pub(super) fn recorded(
        status: &ProvisionedDeviceStatus,
        generation: i64,
        seed: u64,
        (wall, mono): (Timestamp, Instant),
    ) -> Option<Self> {
        let error = status.last_error.clone()?;
        let reason = conditions::reason_of(&status.conditions, ConditionType::Ready)?;
        let message = conditions::find(&status.conditions, ConditionType::Ready)?.message.clone();
        let attempts =
            status.attempts.and_then(|attempts| u32::try_from(attempts).ok()).filter(|n| *n > 0)?;
        let wait = retry::wait(retry::class_of(reason), attempts, seed);
        // A time that lies ahead is another clock's, or an edit: then all of it is waited.
        let waited = wall.duration_since(error.time.as_ref()?.0);
        let waited = Duration::try_from(waited).unwrap_or_default();
        Some(Self {
            work: FailedWork::Registration,
            reason,
            message,
            attempts,
            not_before: mono + wait.saturating_sub(waited),
            // It has been said.
            lasts: true,
            error: Some(error),
            generation: status.observed_generation.unwrap_or(generation),
            revision: None,
            token: status.last_handled_reprovision_token.clone(),
            reconcile_at: status.last_handled_reconcile_at.clone(),
        })
    }
}
