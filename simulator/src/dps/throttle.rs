//! Throttling: requests are counted against a quota.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::ThrottleWindow;

/// A counter of requests in a span of time.
#[derive(Debug)]
pub(super) struct Rate {
    kind: ThrottleWindow,
    span: Duration,
    /// Sliding: when the requests of the last span were admitted, oldest first.
    admitted: VecDeque<Duration>,
    /// Fixed: the requests of the current span.
    current: Counted,
}

/// The requests of one span.
#[derive(Debug, Default)]
struct Counted {
    /// Spans are numbered from 1, so that 0 is a counter that was never used.
    span: u128,
    requests: u32,
}

/// The quota is used up; a retry is admitted after this time at the earliest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Throttled(pub Duration);

impl Rate {
    pub fn new(kind: ThrottleWindow, span: Duration) -> Self {
        Self { kind, span, admitted: VecDeque::new(), current: Counted::default() }
    }

    /// Counts one request, or returns when it will be admitted.
    pub fn admit(&mut self, limit: Option<u32>, now: Duration) -> Result<(), Throttled> {
        let Some(limit) = limit else {
            return Ok(());
        };
        match self.kind {
            ThrottleWindow::Sliding => self.admit_sliding(limit, now),
            ThrottleWindow::Fixed => self.admit_fixed(limit, now),
        }
    }

    /// Whether a new counter would behave in the same way.
    pub fn is_idle(&self, now: Duration) -> bool {
        let slid = self.admitted.back().is_none_or(|last| *last + self.span <= now);
        slid && self.current.span != self.number(now)
    }

    fn admit_sliding(&mut self, limit: u32, now: Duration) -> Result<(), Throttled> {
        while self.admitted.front().is_some_and(|first| *first + self.span <= now) {
            self.admitted.pop_front();
        }
        let limit = limit as usize;
        if self.admitted.len() < limit {
            self.admitted.push_back(now);
            return Ok(());
        }
        // After a quota was lowered more than one request has to leave the window first.
        let leaves = self.admitted.get(self.admitted.len() - limit);
        let room = leaves.map_or(now, |admitted| *admitted) + self.span;
        Err(Throttled(room - now))
    }

    fn admit_fixed(&mut self, limit: u32, now: Duration) -> Result<(), Throttled> {
        let number = self.number(now);
        if self.current.span != number {
            self.current = Counted { span: number, requests: 0 };
        }
        self.current.requests = self.current.requests.saturating_add(1);
        if self.current.requests <= limit {
            return Ok(());
        }
        let spent = now.as_nanos() % self.span.as_nanos();
        let spent = Duration::from_nanos(u64::try_from(spent).unwrap_or(0));
        Err(Throttled(self.span - spent))
    }

    fn number(&self, now: Duration) -> u128 {
        now.as_nanos() / self.span.as_nanos() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_sliding_minute_makes_room_when_its_oldest_request_leaves() {
        let mut rate = Rate::new(ThrottleWindow::Sliding, MINUTE);
        assert_eq!(rate.admit(Some(2), seconds(0)), Ok(()));
        assert_eq!(rate.admit(Some(2), seconds(50)), Ok(()));
        assert_eq!(rate.admit(Some(2), seconds(58)), Err(Throttled(seconds(2))));
        assert_eq!(rate.admit(Some(2), seconds(60)), Ok(()));
        assert_eq!(rate.admit(Some(2), seconds(61)), Err(Throttled(seconds(49))));
    }

    #[test]
    fn refused_requests_do_not_count_in_a_sliding_minute() {
        let mut rate = Rate::new(ThrottleWindow::Sliding, MINUTE);
        assert!(rate.admit(Some(1), seconds(0)).is_ok());
        for second in 1..60 {
            assert!(rate.admit(Some(1), seconds(second)).is_err());
        }
        assert!(rate.admit(Some(1), seconds(60)).is_ok());
    }

    #[test]
    fn every_request_counts_in_a_fixed_minute() {
        let mut rate = Rate::new(ThrottleWindow::Fixed, MINUTE);
        assert!(rate.admit(Some(2), seconds(59)).is_ok());
        assert!(rate.admit(Some(2), seconds(60)).is_ok());
        assert!(rate.admit(Some(2), seconds(61)).is_ok());
        assert_eq!(rate.admit(Some(2), seconds(70)), Err(Throttled(seconds(50))));
        // A higher quota in the same minute does not forget the refused one.
        assert!(rate.admit(Some(3), seconds(71)).is_err());
        assert!(rate.admit(Some(4), seconds(120)).is_ok());
    }

    #[test]
    fn a_lowered_quota_waits_until_enough_requests_have_left() {
        let mut rate = Rate::new(ThrottleWindow::Sliding, MINUTE);
        for second in 0..10 {
            assert!(rate.admit(Some(10), seconds(second)).is_ok());
        }
        assert_eq!(rate.admit(Some(4), seconds(10)), Err(Throttled(seconds(56))));
        assert_eq!(rate.admit(Some(4), seconds(66)), Ok(()));
    }

    #[test]
    fn no_quota_lets_everything_through_and_a_quota_of_zero_nothing() {
        let mut rate = Rate::new(ThrottleWindow::Sliding, MINUTE);
        assert!((0..10_000).all(|_| rate.admit(None, seconds(0)).is_ok()));
        assert_eq!(rate.admit(Some(0), seconds(1)), Err(Throttled(MINUTE)));
    }

    #[test]
    fn a_counter_is_idle_when_its_last_request_is_older_than_the_span() {
        let mut rate = Rate::new(ThrottleWindow::Sliding, MINUTE);
        assert!(rate.admit(Some(2), seconds(0)).is_ok());
        assert!(!rate.is_idle(seconds(59)));
        assert!(rate.is_idle(seconds(60)));
    }
}
