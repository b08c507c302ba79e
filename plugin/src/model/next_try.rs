//! When the operator tries a device again, as far as its status tells.

use dps_operator_api::conditions::Reason;
use dps_operator_api::retry::{class_of, least};
use jiff::{SignedDuration, Timestamp};

/// The earliest and the latest moment of the next try. A status has the number of failures at 1, 2, 4, 8 and
/// so on only: those that must have come since are counted in. Each device adds a share of its own to its
/// waits, of up to a quarter, which is not known here.
pub fn next_try(reason: Reason, attempts: u32, last: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
    let class = class_of(reason);
    let (mut early, mut late) = (last, last);
    for attempt in attempts.max(1).. {
        let wait = SignedDuration::try_from(least(class, attempt)).unwrap_or_default();
        early = early.saturating_add(wait).unwrap_or(early);
        late = late.saturating_add(wait * 5 / 4).unwrap_or(late);
        if late >= now || wait.is_zero() {
            break;
        }
    }
    (early.max(now), late.max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_must_have_come_since_are_counted_in() {
        let last: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let at = |seconds| last + SignedDuration::from_secs(seconds);
        // Terminal: 60, 120, 240, 480 s and so on, each with up to a quarter more; transient: 5, 10, 20 s.
        let cases = [
            (Reason::Unauthorized, 1, 0, (60, 75)),
            (Reason::Unauthorized, 1, 70, (70, 75)),
            (Reason::Unauthorized, 1, 80, (180, 225)),
            (Reason::Unauthorized, 4, 0, (480, 600)),
            (Reason::Unauthorized, 64, 0, (3600, 4500)),
            (Reason::ServiceUnavailable, 1, 0, (5, 6)),
            (Reason::ServiceUnavailable, 2, 100, (150, 187)),
        ];
        for (reason, attempts, now, (early, late)) in cases {
            let found = next_try(reason, attempts, last, at(now));
            let seconds = |at: Timestamp| at.duration_since(last).as_secs();
            assert_eq!((seconds(found.0), seconds(found.1)), (early, late), "{reason:?} {attempts} {now}");
        }
    }
}
