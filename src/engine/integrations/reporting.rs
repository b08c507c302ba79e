//! How far an integration's status has been written, and when it may be written next.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::digest::Digest;
use crate::api::integration::DpsIntegrationStatus;
use crate::api::retry::{self, RetryClass};
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Stored;
use crate::schedule::writes::{Found, WriteBudget};

/// Counters are written at most this often, whatever else moves.
pub(super) const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// After a conflict the watch brings the new object; it is not waited for any longer.
const CONFLICT_WAIT: Duration = Duration::from_secs(10);

/// How far an integration's status has been written.
#[derive(Default)]
pub(super) struct Reporting {
    /// A status write is in flight: made against this version of the object.
    writing: Option<u64>,
    /// Something may have changed.
    pub(super) dirty: bool,
    /// The last status did not reach the API server.
    unwritten: bool,
    /// Revision of the integration when its devices were counted last.
    pub(super) counted_revision: Option<u64>,
    /// When counters that differed were last written,
    counters_written: Option<Instant>,
    /// and when those that have waited since may be.
    counters_due: Option<Instant>,
    unanswered: u32,
    /// Why the API server has refused the last status, while it does.
    refused: Option<ApiError>,
    not_before: Option<Instant>,
    /// Of the status that we wrote last.
    written: Option<Digest>,
    /// Of the one that is there.
    there: Option<Digest>,
    budget: WriteBudget,
}

impl Reporting {
    /// For an integration whose status has to be rendered.
    pub fn due() -> Self {
        Self { dirty: true, ..Self::default() }
    }

    /// The watch has brought a newer object. `asked`: a person has changed it, or asks for something.
    pub fn observed(&mut self, status: Option<&DpsIntegrationStatus>, asked: bool) {
        self.dirty = true;
        self.unwritten = false;
        self.not_before = None;
        self.there = status.and_then(Digest::of);
        if asked {
            self.budget.asked();
        }
    }

    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// When the status has to be rendered; `None`: only when something happens.
    pub fn due_at(&mut self, now: Instant) -> Option<Instant> {
        let wanted = if self.dirty { Some(now) } else { self.counters_due };
        let wanted = wanted.filter(|_| !self.is_writing())?;
        let allowed = self.budget.next(self.found(), now);
        Some(self.not_before.map_or(allowed, |at| at.max(allowed)).max(wanted))
    }

    fn found(&self) -> Found {
        Found::of(self.written.as_ref(), self.there.as_ref())
    }

    /// It is being rendered: what changes from now on is for the next time.
    pub fn rendering(&mut self) {
        self.dirty = false;
        self.counters_due = None;
    }

    /// True if what is known to be there has to be written although it says the same.
    pub fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// Counters that differ may be written.
    pub fn may_write_counters(&self, now: Instant) -> bool {
        self.counters_written.is_none_or(|at| at + COUNT_INTERVAL <= now)
    }

    /// Counters differ and have to wait.
    pub fn keep_counters(&mut self) {
        self.counters_due = self.counters_written.map(|at| at + COUNT_INTERVAL);
    }

    /// Nothing has to be written: whoever has written what is there, there is nothing to contend for.
    pub fn agreed(&mut self) {
        self.written = self.written.and(self.there);
        self.budget.agreed();
    }

    /// A write against this version begins. True if the status is from now on known to have another writer.
    pub fn begin(&mut self, version: u64, counters_differ: bool, now: Instant) -> bool {
        self.writing = Some(version);
        if counters_differ {
            self.counters_written = Some(now);
        }
        self.budget.spend(self.found(), now)
    }

    pub fn is_contested(&self, now: Instant) -> bool {
        self.budget.is_contested(now)
    }

    /// A write has ended. `held`: version of the object that is held; `seed` spreads tries. True if the
    /// API server refuses it for a reason that was not known yet.
    pub fn ended(&mut self, result: &Result<Stored, ApiError>, held: u64, seed: u64, now: Instant) -> bool {
        // An earlier object of the same name was written, or is gone by now.
        let Some(tried) = self.writing.take() else { return false };
        match result {
            Ok(stored) => {
                self.unanswered = 0;
                self.not_before = None;
                self.unwritten = false;
                self.refused = None;
                self.written = stored.status;
                // What came later was made by somebody else.
                if held <= stored.version {
                    self.there = stored.status;
                }
            }
            // The watch was faster and has brought what was changed.
            Err(ApiError::Conflict) if held > tried => self.dirty = true,
            // Changed by another writer, or gone: the watch shows it. If it does not, it is tried again.
            Err(ApiError::Conflict | ApiError::NotFound) => self.try_again(now + CONFLICT_WAIT),
            Err(error) => {
                self.unanswered += 1;
                let wait = retry::wait(RetryClass::Transient, self.unanswered, seed);
                self.try_again(now + wait);
                let refused = error.next_step().is_some() && self.refused.as_ref() != Some(error);
                if refused {
                    self.refused = Some(error.clone());
                }
                return refused;
            }
        }
        false
    }

    /// The API server answers again. True if a status waits for that.
    pub fn outage_ended(&mut self) -> bool {
        let waits = self.unanswered > 0;
        if waits {
            self.not_before = None;
        }
        waits
    }

    fn try_again(&mut self, at: Instant) {
        self.unwritten = true;
        self.dirty = true;
        self.not_before = Some(at);
    }
}
