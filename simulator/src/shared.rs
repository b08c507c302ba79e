//! The state that all connections of one simulator share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::dps::Service;
use crate::faults::Faults;
use crate::issuing_ca::IssuingCa;
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

/// How TLS handshakes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handshake {
    /// Devices are asked for a certificate, and may do without.
    #[default]
    Normal,
    /// Devices are not asked: one that has a certificate cannot present it.
    CertificateNotRequested,
    /// They are answered with a fatal alert.
    Alert,
    /// They begin after so many milliseconds.
    Slow(u64),
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
    handshake: Mutex<Handshake>,
    connections: AtomicU64,
}

impl Shared {
    pub fn of(config: &Config, issuing_ca: IssuingCa) -> Self {
        Self {
            clock: Clock::start(),
            service: Service::of(config, issuing_ca),
            ledger_changed: Notify::new(),
            ledger: Mutex::new(Ledger::new(config.ledger_capacity)),
            faults: Mutex::default(),
            outage: watch::Sender::default(),
            handshake: Mutex::default(),
            connections: AtomicU64::new(0),
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

    pub fn handshake(&self) -> Handshake {
        *locked(&self.handshake)
    }

    pub fn set_handshake(&self, handshake: Handshake) {
        *locked(&self.handshake) = handshake;
    }

    /// The number of a new connection, from 1.
    pub fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
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
