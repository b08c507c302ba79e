//! When something that comes round falls due. Pure.

use super::record::Uid;

/// True if a moment that is congruent to the device's uid modulo `interval` lies in `(last, now]`,
/// all in seconds. Spreads a fleet evenly over the interval, and a restart changes nothing.
pub fn is_due(uid: Uid, interval: u32, last: i64, now: i64) -> bool {
    if interval == 0 || now <= last {
        return false;
    }
    let interval = i64::from(interval);
    let phase = uid.phase(interval);
    (now - phase).div_euclid(interval) > (last - phase).div_euclid(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids() -> impl Iterator<Item = Uid> {
        (0..1000_u32).map(|number| Uid::parse(&format!("uid {number}")))
    }

    #[test]
    fn everybody_is_due_once_in_an_interval_however_often_one_looks() {
        let day = 24 * 60 * 60;
        for step in [7, 10, 3600, 50_000] {
            for uid in uids().take(20) {
                let start = 1_800_000_000;
                let times = (0..10 * i64::from(day) / step)
                    .filter(|n| is_due(uid, day, start + n * step, start + (n + 1) * step))
                    .count();
                assert!((9..=10).contains(&times), "{times} times in ten days");
            }
        }
    }

    #[test]
    fn a_fleet_is_spread_over_the_interval() {
        let start = 1_800_000_000;
        let minutes: Vec<_> = (0..60)
            .map(|minute| {
                uids().filter(|u| is_due(*u, 3600, start + minute * 60, start + minute * 60 + 60)).count()
            })
            .collect();
        assert_eq!(minutes.iter().sum::<usize>(), 1000);
        assert!(minutes.iter().all(|due| (2..=40).contains(due)), "{minutes:?}");
    }

    #[test]
    fn a_clock_that_goes_back_makes_nobody_due() {
        assert!(uids().all(|uid| !is_due(uid, 60, 1000, 1000) && !is_due(uid, 60, 1000, 500)));
    }
}
