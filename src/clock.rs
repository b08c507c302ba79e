//! The only place that asks what time it is.

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall-clock time for what is shown to others, monotonic time for waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub mono: Instant,
}

/// Reads both clocks.
pub fn now() -> Now {
    Now { wall: Timestamp::now(), mono: Instant::now() }
}
