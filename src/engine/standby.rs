//! A replica that does not lead watches all the same, so that it can take over without reading
//! anything again. It decides nothing, calls nobody and writes nothing.

use tracing::info;

use super::Engine;
use super::integrations::Integration;
use super::work::Work;
use crate::api::device::ProvisionedDevice;
use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;
use crate::schedule::permits::Permits;

impl Engine {
    /// From now on this process acts. What it knows is what the statuses say, as after a start.
    pub(super) fn take_over(&mut self) {
        self.acting = true;
        self.telemetry.metrics.leads();
        info!(devices = self.fleet.len(), "this replica leads now");
        self.queue = Permits::new(self.config.registrations_per_minute, self.config.max_in_flight);
        let declared: Vec<Sym> =
            self.integrations.iter().filter(|(_, i)| i.object.is_some()).map(|(sym, _)| *sym).collect();
        for sym in declared {
            if let Some(integration) = self.integrations.get_mut(&sym) {
                integration.forget_what_was_learned();
            }
            self.evaluate(sym);
        }
        if self.progress.running() {
            self.begin_to_run();
        }
    }

    /// Everything has been read: all devices are looked at.
    pub(super) fn begin_to_run(&mut self) {
        let all: Vec<DeviceId> = self.fleet.iter().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.runner.wake(id));
        self.counters.touch();
    }

    /// Keeps the object of a device that will need work, as it is now.
    pub(super) fn keep_for_later(&mut self, id: DeviceId, device: ProvisionedDevice) {
        self.parked.remove(&id);
        if self.fleet.get(id).is_some_and(|record| record.settled.is_none()) {
            self.work.insert(id, Box::new(Work::new(device, &self.config.allowed_hub_suffixes)));
            self.put_away(id);
        } else {
            self.work.remove(&id);
        }
    }
}

impl Integration {
    /// What the leader that was has learned is in the status.
    fn forget_what_was_learned(&mut self) {
        *self = Self {
            object: self.object.take(),
            consent: std::mem::take(&mut self.consent),
            dirty: true,
            ..Self::default()
        };
    }
}
