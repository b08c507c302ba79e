//! Durations as users write them.

use std::time::Duration;

/// Reads a Go-style duration of the form that the schema admits: `24h`, `1h30m`, `500ms`, `0s`.
/// `None` for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = ["ms", "s", "m", "h"].iter().find_map(|u| Some((*u, tail.strip_prefix(u)?)))?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            _ => 3600.0,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_the_schema_admits_are_read_and_others_are_not() {
        for (text, seconds) in
            [("0s", 0.0), ("24h", 86400.0), ("1h30m", 5400.0), ("500ms", 0.5), ("1.5m", 90.0)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "1", "h", "-1h", "1d", "1h 2m", "."] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
