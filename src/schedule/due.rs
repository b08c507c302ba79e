//! When something that comes round falls due. Pure.

/// True if a moment that is congruent to `seed` modulo `interval` lies in `(last, now]`, all in
/// seconds. Seeds that are spread evenly spread a fleet over the interval, and a restart changes nothing.
pub fn is_due(seed: u64, interval: u32, last: i64, now: i64) -> bool {
    if interval == 0 || now <= last {
        return false;
    }
    let phase = i64::try_from(seed % u64::from(interval)).unwrap_or(0);
    let interval = i64::from(interval);
    (now - phase).div_euclid(interval) > (last - phase).div_euclid(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> impl Iterator<Item = u64> {
        (0..1000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1)
    }

    #[test]
    fn each_seed_is_due_once_in_an_interval_however_often_it_is_checked() {
        let day = 24 * 60 * 60;
        for step in [7, 10, 3600, 50_000] {
            for seed in seeds().take(20) {
                let start = 1_800_000_000;
                let times = (0..10 * i64::from(day) / step)
                    .filter(|n| is_due(seed, day, start + n * step, start + (n + 1) * step))
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
                seeds()
                    .filter(|seed| is_due(*seed, 3600, start + minute * 60, start + minute * 60 + 60))
                    .count()
            })
            .collect();
        assert_eq!(minutes.iter().sum::<usize>(), 1000);
        assert!(minutes.iter().all(|due| (2..=40).contains(due)), "{minutes:?}");
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_due() {
        assert!(seeds().all(|seed| !is_due(seed, 60, 1000, 1000) && !is_due(seed, 60, 1000, 500)));
    }
}
