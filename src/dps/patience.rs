//! How long an operation that DPS has accepted is waited for. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that an operation is waited for in all, whatever DPS asks.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// An operation is given up that has not ended in its time. Waits that DPS asks for do not count, but
/// for the first part of each, so that short ones do not add up to for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Patience {
    counted: Duration,
    give_up: Instant,
    last: Instant,
}

impl Patience {
    /// From this moment on, with this much time.
    pub(super) fn new(now: Instant, time: Duration) -> Self {
        Self { counted: time / 10, give_up: now + time, last: now + LONGEST }
    }

    /// When the next poll is due; `None`: the operation is given up. `asked`: what DPS said in
    /// `Retry-After`; `wait`: what is waited at least.
    pub(super) fn next(&mut self, now: Instant, asked: Option<Duration>, wait: Duration) -> Option<Instant> {
        self.give_up += asked.unwrap_or_default().saturating_sub(self.counted);
        let at = (now + asked.unwrap_or_default().max(wait)).min(self.last);
        (at < self.give_up && now < self.last).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const POLL: Duration = Duration::from_secs(2);

    /// The times of all polls, in seconds, until the operation is given up.
    fn polls(asked: Option<Duration>) -> Vec<u64> {
        let begun = Instant::now();
        let (mut patience, mut now) = (Patience::new(begun, 5 * MINUTE), begun);
        std::iter::from_fn(|| {
            now = patience.next(now, asked, POLL)?;
            Some((now - begun).as_secs())
        })
        .take(10_000)
        .collect()
    }

    #[test]
    fn an_operation_is_polled_for_five_minutes_however_short_the_waits_are() {
        for asked in [None, Some(Duration::ZERO), Some(POLL), Some(Duration::from_secs(3)), Some(MINUTE / 2)]
        {
            let polls = polls(asked);
            assert!((260..300).contains(polls.last().unwrap()), "{asked:?} {polls:?}");
        }
    }

    #[test]
    fn a_long_wait_that_dps_asks_for_is_waited_and_polled_after_up_to_an_hour_in_all() {
        assert_eq!(polls(Some(5 * MINUTE))[..2], [300, 600]);
        assert_eq!(polls(Some(10 * MINUTE)), [600, 1200, 1800, 2400, 3000, 3600]);
        assert_eq!(polls(Some(60 * MINUTE)), [3600]);
        assert_eq!(polls(Some(Duration::from_secs(1_000_000_000))), [3600]);
        for minutes in 1..200 {
            let polls = polls(Some(minutes * MINUTE));
            assert!(!polls.is_empty() && *polls.last().unwrap() <= 3600, "{minutes} {polls:?}");
        }
    }

    #[test]
    fn one_long_wait_leaves_time_for_polls_after_it() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, 5 * MINUTE);
        let first = patience.next(begun, Some(20 * MINUTE), POLL).unwrap();
        assert_eq!(first, begun + 20 * MINUTE);
        assert_eq!(patience.next(first, None, POLL), Some(first + POLL));
        assert_eq!(patience.next(first + 5 * MINUTE, None, POLL), None);
    }

    #[test]
    fn one_that_is_asked_for_before_its_time_or_long_after_it_has_no_more_than_its_hour() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, 5 * MINUTE);
        for minute in 0..50 {
            let now = begun + minute * MINUTE;
            let last = begun + 60 * MINUTE;
            assert_eq!(
                patience.next(now, Some(20 * MINUTE), POLL),
                Some((now + 20 * MINUTE).min(last)),
                "{minute}"
            );
        }
        assert_eq!(patience.next(begun + 60 * MINUTE, Some(20 * MINUTE), POLL), None);
        let mut late = Patience::new(begun, 5 * MINUTE);
        late.next(begun, Some(20 * MINUTE), POLL).unwrap();
        assert_eq!(late.next(begun + 30 * MINUTE, None, POLL), None);
    }
}
