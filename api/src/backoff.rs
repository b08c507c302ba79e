//! Waits that double.

use std::time::Duration;

/// The wait after a number of failures in a row: `first` after the first one, twice as long after
/// each further one, at most `cap`.
pub fn doubling(first: Duration, failures: u32, cap: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_with_each_failure_up_to_its_cap() {
        let second = Duration::from_secs(1);
        let waits: Vec<u64> =
            (0..6).map(|failures| doubling(second, failures, second * 10).as_secs()).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 10]);
        assert_eq!(doubling(second, u32::MAX, second * 10), second * 10);
    }
}
