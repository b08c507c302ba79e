//! The state that all connections of one simulator share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::dps::Service;
use crate::faults::Faults;
use crate::ledger::Ledger;

/// How the device endpoint fails as a whole, below HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outage {
    #[default]
    None,
    /// Connections are reset.
    Reset,
    /// Connections are accepted and not answered, not even in the TLS handshake.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub clock: Clock,
    pub service: Service,
    /// Notified when an entry of the ledger has changed.
    pub ledger_changed: Notify,
    ledger: Mutex<Ledger>,
    faults: Mutex<Faults>,
    outage: watch::Sender<Outage>,
}

impl Shared {
    pub fn of(config: &Config) -> Self {
        Self {
            clock: Clock::start(),
            service: Service::of(config),
            ledger_changed: Notify::new(),
            ledger: Mutex::new(Ledger::new(config.ledger_capacity)),
            faults: Mutex::default(),
            outage: watch::Sender::default(),
        }
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    pub fn outage(&self) -> Outage {
        *self.outage.borrow()
    }

    pub fn set_outage(&self, outage: Outage) {
        self.outage.send_replace(outage);
    }

    /// Waits until connections are answered again, or reset.
    pub async fn silence_ends(&self) {
        // It fails when the sender is gone, which is in `self`.
        let _ = self.outage.subscribe().wait_for(|outage| *outage != Outage::Silent).await;
    }
}

/// A panic while the lock was held does not matter: no change is left half done by a call that panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
