//! Spans of time as people say them.

use jiff::Timestamp;

/// Seconds from one moment to a later one; 0 if it is not later.
pub fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

/// `45 s`, `12 min`, `3 h`, `2 d`: whole units, the largest of which there are two or more.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        7200..172_800 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}

/// `14:07:30 UTC`, with the date if it is not the same day.
pub fn clock(at: Timestamp, now: Timestamp) -> String {
    let (day, today) = (at.strftime("%Y-%m-%d").to_string(), now.strftime("%Y-%m-%d").to_string());
    let time = at.strftime("%H:%M:%S UTC");
    if day == today { time.to_string() } else { format!("{day} {time}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_units() {
        let cases =
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (200_000, "2 d")];
        for (seconds, wanted) in cases {
            assert_eq!(lasting(seconds), wanted, "{seconds}");
        }
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let at: Timestamp = "2026-11-29T14:07:30Z".parse().unwrap();
        assert_eq!(clock(at, at), "14:07:30 UTC");
        let tomorrow: Timestamp = "2026-11-30T01:00:00Z".parse().unwrap();
        assert_eq!(clock(at, tomorrow), "2026-11-29 14:07:30 UTC");
        assert_eq!(seconds(at, tomorrow), 39_150);
        assert_eq!(seconds(tomorrow, at), 0);
    }
}
