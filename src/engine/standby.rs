//! A replica that does not lead watches all the same, so that it can take over without reading
//! anything once more. It decides nothing, calls nothing and writes nothing.

use tracing::info;

use super::{Engine, Role};
use crate::clock::Now;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::schedule::permits::Permits;

impl Engine {
    /// From now on this process acts. What it knows is what the statuses say, as after a start.
    pub(super) fn take_over(&mut self, now: Now) {
        self.role = Role::Leading;
        self.context.telemetry.metrics.set_leading();
        let devices = self.fleet.len();
        match self.context.config.lease {
            Some(_) => info!(devices, "this replica leads now"),
            None => info!("this process acts, without leader election"),
        }
        let config = &self.context.config;
        self.permits = Permits::new(config.registrations_per_minute, config.max_in_flight);
        let declared: Vec<Sym> = self.registry.declared().collect();
        for sym in declared {
            self.registry.forget_answers(sym);
            let change = self.registry.evaluate(sym, now.mono);
            self.apply(sym, &change, now);
        }
        if self.sync.is_complete() {
            self.reconcile_all(now);
        }
    }

    /// Has all devices reconciled, now that everything has been read.
    pub(super) fn reconcile_all(&mut self, now: Now) {
        let all: Vec<DeviceId> = self.fleet.iter().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.ready.wake_later(id));
        self.registry.recount(now.mono);
    }
}
