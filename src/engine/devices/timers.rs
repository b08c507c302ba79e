//! When something of a device that lasts is reported, and when its Secret is compared: one
//! device after the other, where it may concern a whole fleet at once.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::{Report, Timers, Turn};
use super::{Active, HeldPermit};
use crate::controller::device::decide::Grace;
use crate::fleet::DeviceId;
use crate::schedule::pace::Paced;
use crate::schedule::turns::Party;

/// A missing or unusable integration is reported after this time,
const REPORT_AFTER: Duration = Duration::from_secs(30);
/// A device that waits this long for a permit is reported as queued,
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);
/// and neither faster than this one device after the other: 50 a second.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);
/// Secrets whose version alone has moved are compared ten a second, a hundred at once: a person
/// edits a few, a re-encryption of etcd all.
const VERIFY_INTERVAL: Duration = Duration::from_millis(100);
const VERIFIED_AT_ONCE: u32 = 100;
/// Secrets that could not be written are looked at ten a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const LOOKS_AT_ONCE: u32 = 20;

/// Lines in which devices wait to be reported, compared or looked at.
pub(super) struct Lines {
    unusable: Paced,
    queued: Paced,
    verifications: Paced,
    looks: Paced,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            unusable: Paced::new(REPORT_INTERVAL, 0),
            queued: Paced::new(REPORT_INTERVAL, 0),
            verifications: Paced::new(VERIFY_INTERVAL, VERIFIED_AT_ONCE),
            looks: Paced::new(LOOK_INTERVAL, LOOKS_AT_ONCE),
        }
    }
}

impl Active {
    pub(super) fn timers(&self, id: DeviceId) -> Timers {
        let dormant = self.dormant.get(&id).map(|dormant| dormant.timers);
        dormant.or_else(|| self.entries.get(&id).map(|entry| entry.timers)).unwrap_or_default()
    }

    fn set_timers(&mut self, id: DeviceId, timers: Timers) {
        if let Some(dormant) = self.dormant.get_mut(&id) {
            dormant.timers = timers;
        } else if !timers.is_empty() || self.entries.contains_key(&id) {
            self.entry(id).timers = timers;
            self.tidy(id);
        }
    }

    /// The next device whose turn has come, to be reported or compared; it is to be reconciled.
    pub fn next_turn(&mut self, now: Instant) -> Option<DeviceId> {
        let mut lines = std::mem::take(&mut self.lines);
        let next = self.next_of(&mut lines, now);
        self.lines = lines;
        next
    }

    fn next_of(&mut self, lines: &mut Lines, now: Instant) -> Option<DeviceId> {
        let mut timers;
        if let Some(id) =
            lines.unusable.next(now, |id| self.timers(id).unusable.is_some_and(Report::is_in_line))
        {
            timers = self.timers(id);
            timers.unusable = timers.unusable.map(|report| Report::Due(report.after()));
            self.set_timers(id, timers);
            return Some(id);
        }
        if let Some(id) = lines.queued.next(now, |id| self.timers(id).queued.is_some_and(Report::is_in_line))
        {
            timers = self.timers(id);
            timers.queued = timers.queued.map(|report| Report::Due(report.after()));
            self.set_timers(id, timers);
            return Some(id);
        }
        let waits = |id| self.verify(id) == Some(Turn::Waiting);
        let id = lines.looks.next(now, waits).or_else(|| lines.verifications.next(now, waits))?;
        self.entry(id).verify = Some(Turn::Come);
        Some(id)
    }

    /// When `next_turn` has something to give.
    pub fn next_turn_at(&self, now: Instant) -> Option<Instant> {
        let Lines { unusable, queued, verifications, looks } = &self.lines;
        [unusable, queued, verifications, looks].into_iter().filter_map(|line| line.next_at(now)).min()
    }

    /// Whether the device's integration has been unusable for so long that it is to be reported.
    pub fn grace(&self, id: DeviceId) -> Grace {
        if self.timers(id).unusable.is_some_and(Report::is_due) { Grace::Over } else { Grace::Running }
    }

    /// Plans the report that the device's integration cannot be used, `since` when that is so; returns
    /// when the device has to be reconciled for it, if that is known. Its place in the line of reports
    /// is taken only when the grace is over: most never come to it.
    pub fn plan_report(
        &mut self,
        id: DeviceId,
        party: Party,
        since: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        let mut timers = self.timers(id);
        let planned = timers.unusable.unwrap_or_else(|| Report::After(since.unwrap_or(now) + REPORT_AFTER));
        let (report, at) = take_place(planned, now);
        if report.is_in_line() && !planned.is_in_line() {
            self.lines.unusable.push(party, id, now);
        }
        timers.unusable = Some(report);
        self.set_timers(id, timers);
        at
    }

    /// The integration has changed: a report of it waits once more.
    pub fn restart_grace(&mut self, id: DeviceId) {
        self.set_timers(id, Timers { unusable: None, ..self.timers(id) });
    }

    /// Carries a grace that has begun over the end of the device's work.
    pub fn settle_keeping_grace(&mut self, id: DeviceId) -> Option<HeldPermit> {
        let unusable = self.timers(id).unusable;
        let permit = self.settle(id);
        self.set_timers(id, Timers { unusable, ..Timers::default() });
        permit
    }

    /// Plans the report that a device waits in a long line, in which it has been `since`; returns when
    /// it has to be reconciled for it, if that is known. A fleet is reported one device after the other.
    pub fn plan_queued_report(
        &mut self,
        id: DeviceId,
        party: Party,
        since: Instant,
        now: Instant,
    ) -> Option<Instant> {
        let mut timers = self.timers(id);
        let due = since + LONG_WAIT;
        // One of an earlier wait says nothing.
        let planned = timers.queued.filter(|report| report.after() == due).unwrap_or(Report::After(due));
        let (report, at) = take_place(planned, now);
        if report.is_in_line() && !planned.is_in_line() {
            self.lines.queued.push(party, id, now);
        }
        timers.queued = Some(report);
        self.set_timers(id, timers);
        at
    }

    /// True if the device, which has been in line `since`, is to be reported as queued.
    pub fn is_queued_long(&self, id: DeviceId, since: Option<Instant>) -> bool {
        let due = since.map(|since| since + LONG_WAIT);
        let report = self.timers(id).queued.filter(|report| report.is_due());
        due.is_some() && due == report.map(Report::after)
    }

    /// The device is no longer in line.
    pub fn left_line(&mut self, id: DeviceId) {
        self.set_timers(id, Timers { queued: None, ..self.timers(id) });
    }

    /// True if it is the device's turn to have its Secret compared, which is then used up; otherwise it
    /// takes its place in line.
    pub fn take_verification(&mut self, id: DeviceId, party: Party, now: Instant) -> bool {
        let (its_turn, joins) = self.take_turn(id);
        if joins {
            self.lines.verifications.push(party, id, now);
        }
        its_turn
    }

    /// The same for a Secret that could not be written and is looked at again.
    pub fn take_look(&mut self, id: DeviceId, party: Party, now: Instant) -> bool {
        let (its_turn, joins) = self.take_turn(id);
        if joins {
            self.lines.looks.push(party, id, now);
        }
        its_turn
    }

    /// Whether it is the device's turn, and whether it joins the line for one.
    fn take_turn(&mut self, id: DeviceId) -> (bool, bool) {
        let turn = self.verify(id);
        self.entry(id).verify = (turn != Some(Turn::Come)).then_some(Turn::Waiting);
        (turn == Some(Turn::Come), turn.is_none())
    }

    fn verify(&self, id: DeviceId) -> Option<Turn> {
        self.entries.get(&id)?.verify
    }
}

/// Goes on with a report that is planned; and when it goes on from there, if no line has a say in that.
fn take_place(planned: Report, now: Instant) -> (Report, Option<Instant>) {
    match planned {
        Report::After(at) if at <= now => (Report::InLine(at), None),
        Report::After(at) => (planned, Some(at)),
        Report::InLine(_) | Report::Due(_) => (planned, None),
    }
}
