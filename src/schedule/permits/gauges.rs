//! The state of the queue, for metrics.

use tokio::time::Instant;

use super::scope::Scope;
use super::{Lane, Permits};

impl Permits {
    /// Devices that wait, by lane.
    pub fn waiting(&self) -> [(Lane, usize); Lane::COUNT] {
        Lane::ALL.map(|lane| (lane, self.waiting[lane.index()]))
    }

    pub fn in_flight(&self) -> u32 {
        self.slots.in_flight()
    }

    /// Scopes in which DPS has asked to wait.
    pub fn throttled_scopes(&self, now: Instant) -> usize {
        self.slowed().filter(|scope| scope.throttle.paused_until().is_some_and(|until| until > now)).count()
    }

    /// Share of its rate that the slowest scope uses; 0 while DPS has asked it to wait.
    pub fn slowest(&self, now: Instant) -> f64 {
        self.slowed().map(|scope| scope.throttle.share(now)).fold(1.0, f64::min)
    }

    /// All scopes that do not use their full rate.
    fn slowed(&self) -> impl Iterator<Item = &Scope> {
        self.agenda.are_slowed().iter().filter_map(|key| self.scopes.get(key))
    }
}
