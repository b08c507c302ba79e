//! What the operator reports about itself: logs, metrics, probes.

pub mod api_requests;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod panic;
pub mod server;
pub mod watches;

use self::health::ProcessHealth;
use self::metrics::Metrics;
use self::watches::WatchStates;

/// Metrics and the state behind the probes, shared by all parts of the process.
#[derive(Debug)]
pub struct Telemetry {
    pub metrics: Metrics,
    pub health: ProcessHealth,
    pub watches: WatchStates,
}

impl Telemetry {
    /// # Errors
    /// When a metric's name is taken.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            metrics: Metrics::new()?,
            health: ProcessHealth::default(),
            watches: WatchStates::default(),
        })
    }
}
