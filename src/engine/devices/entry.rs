//! What is kept of one device.

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::contested::Restores;
use super::work::Work;
use crate::controller::device::facts::Located;
use crate::schedule::permits::Permit;
use crate::schedule::writes::WriteBudget;

/// A permit to call DPS, and whether the call has begun.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct HeldPermit {
    pub permit: Permit,
    pub used: bool,
}

/// A drift check or a registration that has fallen due for a settled device, and what it has come to.
#[derive(Debug)]
pub(in crate::engine) enum DueWork {
    /// To be looked up.
    Check,
    /// To be registered again.
    Periodic,
    /// It is elsewhere, or its registration record has changed.
    Found(Box<Located>),
    /// DPS has no assignment for it.
    NotFound,
}

/// When an integration that cannot be used is reported.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReportAfter {
    /// Not before, and then in turn.
    Grace(Instant),
    /// Its turn.
    Turn(Instant),
}

/// When something that lasts is reported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    pub unusable: Option<ReportAfter>,
    pub queued: Option<Instant>,
}

impl Timers {
    pub fn is_empty(&self) -> bool {
        let Self { unusable, queued } = self;
        unusable.is_none() && queued.is_none()
    }
}

/// One device. Boxed where it is large: most have one or two of these.
#[derive(Default)]
pub(super) struct Entry {
    pub work: Option<Box<Work>>,
    pub permit: Option<Box<HeldPermit>>,
    /// The lookup of a settled device that is in flight with this permit.
    pub check: Option<AbortHandle>,
    pub drift: Option<DueWork>,
    pub restores: Option<Box<Restores>>,
    /// Writes of its status, lately or with another writer.
    pub writes: Option<Box<WriteBudget>>,
    pub timers: Timers,
    /// When its Secret may be compared whose version has moved.
    pub verify: Option<Instant>,
    /// Requests in a row that the API server did not answer.
    pub unanswered: u32,
}

impl Entry {
    pub fn is_empty(&self) -> bool {
        let Self { work, permit, check, drift, restores, writes, timers, verify, unanswered } = self;
        work.is_none()
            && permit.is_none()
            && check.is_none()
            && drift.is_none()
            && restores.is_none()
            && writes.is_none()
            && timers.is_empty()
            && verify.is_none()
            && *unanswered == 0
    }

    /// Takes the permit away, and with it the lookup that was to use it.
    pub fn take_permit(&mut self) -> Option<HeldPermit> {
        if let Some(check) = self.check.take() {
            check.abort();
        }
        self.permit.take().map(|held| *held)
    }

    /// True if nothing but its work and its timers is kept that matters for long.
    pub fn is_plain(&self) -> bool {
        let Self { work: _, permit, check, drift, restores, writes, timers: _, verify, unanswered } = self;
        permit.is_none()
            && check.is_none()
            && drift.is_none()
            && restores.is_none()
            && writes.as_ref().is_none_or(|writes| !writes.has_contest())
            && verify.is_none()
            && *unanswered == 0
    }
}
