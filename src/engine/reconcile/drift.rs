//! What falls due from time to time: drift checks and periodic registrations of settled devices.

use crate::clock::Now;
use crate::engine::Engine;
use crate::engine::devices::DueWork;
use crate::fleet::inherit::Policy;
use crate::schedule::due::is_due;

/// In seconds.
const HOUR: u32 = 60 * 60;
const DAY: i64 = 24 * 60 * 60;

impl Engine {
    /// Finds the devices for which something has fallen due since it was last found out.
    pub(in crate::engine) fn find_due(&mut self, now: Now) {
        let Some(elapsed) = self.active.ticks.tick(now) else { return };
        let mut due = Vec::new();
        let mut aged = false;
        for (id, record) in self.fleet.iter() {
            aged |= record.certificate_age(elapsed.after) != record.certificate_age(elapsed.until);
            if record.has_expired(now.wall.as_second()) && !record.deleting {
                due.push((id, DueWork::Aged));
                continue;
            }
            // Whether its renewal, which waits for a rollout, is urgent by now is looked at once an hour.
            if record.has_expired(now.wall.as_second().saturating_add(DAY))
                && self.permits.waiting_since(id).is_some()
                && is_due(record.uid.phase(), HOUR, elapsed.after, elapsed.until)
            {
                self.ready.wake_later(id);
            }
            if record.settled.is_none() || record.deleting {
                continue;
            }
            let is_issued_due = |at: i64| record.certificate.as_ref().is_some_and(|it| it.is_due(at));
            let target = self.registry.target(record.integration).filter(|target| !target.suspended);
            let Some(target) = target else { continue };
            let schedule = record.schedule.or(target.inherited.schedule);
            let is_due = |interval: u32| is_due(record.uid.phase(), interval, elapsed.after, elapsed.until);
            // What fell due while nobody looked is found out within the hour.
            let issued = is_issued_due(elapsed.until) && (!is_issued_due(elapsed.after) || is_due(HOUR));
            match (schedule.policy, schedule.drift) {
                (Policy::OnChange | Policy::Periodic(_), _) if issued => due.push((id, DueWork::Aged)),
                (Policy::Periodic(interval), _) if is_due(interval) => due.push((id, DueWork::Periodic)),
                (_, Some(interval)) if is_due(interval) => due.push((id, DueWork::Check)),
                _ => {}
            }
        }
        if aged {
            self.registry.recount(now.mono);
        }
        for (id, drift) in due {
            self.active.due(id, drift);
            self.ready.wake_later(id);
        }
        for sym in self.registry.stuck(now.mono) {
            self.ask_another(sym);
        }
    }
}
