//! What the probes show. Ready: everything has been read once, leading or not (and no watch fails, see
//! `watches`). Live: the loop goes round.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The loop goes round at least once a minute; three of them missed is no hiccup.
const STUCK: Duration = Duration::from_secs(180);

/// State of the process, as far as probes are concerned.
#[derive(Debug)]
pub struct ProcessHealth {
    began: Instant,
    /// Milliseconds since `began`.
    last_beat: AtomicU64,
    synced: AtomicBool,
}

impl Default for ProcessHealth {
    fn default() -> Self {
        Self { began: Instant::now(), last_beat: AtomicU64::new(0), synced: AtomicBool::new(false) }
    }
}

impl ProcessHealth {
    /// The loop has come round.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(elapsed, Ordering::Relaxed);
    }

    /// Whether every watch has been read, and none is refused.
    pub fn set_ready(&self, is: bool) {
        self.synced.store(is, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    pub(super) fn is_alive(&self) -> bool {
        let last = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        self.began.elapsed() < last + STUCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_come_round_for_three_minutes_is_not_alive() {
        let health = ProcessHealth::default();
        assert!(health.is_alive() && !health.is_ready());
        tokio::time::advance(STUCK + Duration::from_secs(1)).await;
        assert!(!health.is_alive());
        health.beat();
        health.set_ready(true);
        assert!(health.is_alive() && health.is_ready());
    }
}
