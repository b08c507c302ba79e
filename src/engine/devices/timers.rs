//! When something of a device that lasts is reported, and when its Secret is compared: one
//! device after the other, where it may concern a whole fleet at once.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::{ReportAfter, Timers};
use super::{Active, HeldPermit};
use crate::controller::device::decide::Grace;
use crate::fleet::DeviceId;

/// A missing or unusable integration is reported after this time,
const REPORT_AFTER: Duration = Duration::from_secs(30);
/// A device that waits this long for a permit is reported as queued,
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);
/// and neither faster than this one device after the other: 50 a second.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(20);
/// Secrets whose version alone has moved are compared ten a second, a hundred at once: a person
/// edits a few, a re-encryption of etcd all.
pub(super) const VERIFY_INTERVAL: Duration = Duration::from_millis(100);
pub(super) const VERIFIED_AT_ONCE: u32 = 100;
impl Active {
    pub(super) fn timers(&self, id: DeviceId) -> Timers {
        let dormant = self.dormant.get(&id).map(|dormant| dormant.timers);
        dormant.or_else(|| self.entries.get(&id).map(|entry| entry.timers)).unwrap_or_default()
    }

    /// Whether the device's integration has been unusable for so long that it is to be reported.
    pub fn grace(&self, id: DeviceId, now: Instant) -> Grace {
        match self.timers(id).unusable {
            Some(ReportAfter::Turn(at)) if at <= now => Grace::Over,
            _ => Grace::Running,
        }
    }

    /// Plans the report that the device's integration cannot be used, `since` when that is so; returns
    /// when the device has to be reconciled for it. Its place in the line of reports is taken only when
    /// the grace is over: most never come to it.
    pub fn plan_report(&mut self, id: DeviceId, since: Option<Instant>, now: Instant) -> Instant {
        let planned = match self.timers(id).unusable {
            None => ReportAfter::Grace(since.unwrap_or(now) + REPORT_AFTER),
            Some(ReportAfter::Grace(at)) if at <= now => ReportAfter::Turn(self.reports.take(now)),
            Some(planned) => planned,
        };
        self.entry(id).timers.unusable = Some(planned);
        match planned {
            ReportAfter::Grace(at) | ReportAfter::Turn(at) => at,
        }
    }

    /// The integration has changed: a report of it waits once more.
    pub fn restart_grace(&mut self, id: DeviceId) {
        if let Some(dormant) = self.dormant.get_mut(&id) {
            dormant.timers.unusable = None;
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timers.unusable = None;
            self.tidy(id);
        }
    }

    /// Carries a grace that has begun over the end of the device's work.
    pub fn settle_keeping_grace(&mut self, id: DeviceId) -> Option<HeldPermit> {
        let unusable = self.timers(id).unusable;
        let permit = self.settle(id);
        if unusable.is_some() {
            self.entry(id).timers.unusable = unusable;
        }
        permit
    }

    /// Plans the report that a device waits in a long line, in which it has been `since`; returns when
    /// it has to be reconciled for it, if that is still to come. A fleet is reported one device after
    /// the other.
    pub fn plan_queued_report(&mut self, id: DeviceId, since: Instant, now: Instant) -> Option<Instant> {
        let due = since + LONG_WAIT;
        // A time from an earlier wait says nothing.
        let planned = self.timers(id).queued.filter(|at| *at >= due);
        let at = planned.unwrap_or_else(|| self.queued_reports.take(due));
        self.entry(id).timers.queued = Some(at);
        (at > now).then_some(at)
    }

    /// True if the device, which has been in line `since`, is to be reported as queued.
    pub fn is_queued_long(&self, id: DeviceId, since: Option<Instant>, now: Instant) -> bool {
        let due = since.map(|since| since + LONG_WAIT);
        due.zip(self.timers(id).queued).is_some_and(|(due, planned)| due <= planned && planned <= now)
    }

    /// The device is no longer in line.
    pub fn left_line(&mut self, id: DeviceId) {
        if let Some(dormant) = self.dormant.get_mut(&id) {
            dormant.timers.queued = None;
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.timers.queued = None;
        }
    }

    /// Takes the device's turn to have its Secret compared.
    ///
    /// # Errors
    /// When its turn comes.
    pub fn take_verification(&mut self, id: DeviceId, now: Instant) -> Result<(), Instant> {
        let planned = self.entries.get(&id).and_then(|entry| entry.verify);
        let at = planned.unwrap_or_else(|| self.verifications.take(now));
        self.entry(id).verify = (at > now).then_some(at);
        if at > now { Err(at) } else { Ok(()) }
    }
}
