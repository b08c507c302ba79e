//! What the operator tells about itself: logs, metrics, probes.

pub mod api_requests;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod panic;
pub mod server;

use self::health::Health;
use self::metrics::Metrics;

/// Shared by everything that has something to tell.
#[derive(Debug)]
pub struct Telemetry {
    pub metrics: Metrics,
    pub health: Health,
}

impl Telemetry {
    /// # Errors
    /// When a metric's name is taken.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self { metrics: Metrics::new()?, health: Health::default() })
    }
}
