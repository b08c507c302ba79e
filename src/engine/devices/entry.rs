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
    /// Its certificate has expired, or DPS is to issue another one.
    Aged,
    /// It is elsewhere, or its registration record has changed.
    Found(Box<Located>),
    /// DPS has no assignment for it.
    NotFound,
    /// Another writer has written its status: to be looked up before anything is made of that.
    Edited,
    /// Others may have written its status or its Secret: the two are to be compared.
    Compare,
}

/// How far a report of something that lasts has come: after a time it takes its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Not before.
    After(Instant),
    /// In line, since this time was over.
    InLine(Instant),
    /// It is to be reported.
    Due(Instant),
}

impl Report {
    /// The time that has, or had, to pass.
    pub fn after(self) -> Instant {
        match self {
            Self::After(at) | Self::InLine(at) | Self::Due(at) => at,
        }
    }

    pub fn is_in_line(self) -> bool {
        matches!(self, Self::InLine(_))
    }

    pub fn is_due(self) -> bool {
        matches!(self, Self::Due(_))
    }
}

/// A turn that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waiting,
    Come,
}

/// When something that lasts is reported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    /// The integration cannot be used.
    pub unusable: Option<Report>,
    /// The device is in a long line.
    pub queued: Option<Report>,
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
    /// Its turn to have its Secret compared, whose version has moved.
    pub verify: Option<Turn>,
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

    /// True if nothing goes on that needs its work as it is.
    pub fn may_sleep(&self) -> bool {
        let Self { work: _, permit, check, drift, restores: _, writes: _, timers: _, verify: _, unanswered } =
            self;
        permit.is_none() && check.is_none() && drift.is_none() && *unanswered == 0
    }
}
