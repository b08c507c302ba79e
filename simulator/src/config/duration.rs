//! Durations as people write them in the configuration and in admin requests: `3s`, `500ms`, `1m 30s`, `30d`, `0`.
//!
//! For `#[serde(with)]`. jiff reads and writes them; its error messages do not say what is allowed here.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use serde::{Deserialize, Deserializer, de};

const ALLOWED: &str =
    "a duration is a number with a unit, ms, s, m, h or d, such as 3s or 500ms; 0 needs no unit";

pub(crate) mod required {
    use super::*;

    pub(crate) use compact::required::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(input)?)
    }
}

/// `null` is no duration.
pub(crate) mod optional {
    use super::*;

    pub(crate) use compact::optional::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(input)?.map(|text| parse(&text)).transpose()
    }
}

fn parse<E: de::Error>(text: &str) -> Result<Duration, E> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span = SpanParser::new().parse_span(text).ok();
    let signed = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let duration = signed.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| E::custom(format_args!("{text:?} is not a duration; {ALLOWED}")))
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Durations {
        #[serde(with = "required")]
        required: Duration,
        #[serde(with = "optional")]
        optional: Option<Duration>,
    }

    fn read(text: &str) -> Result<Durations, serde_json::Error> {
        serde_json::from_value(json!({"required": text, "optional": text}))
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, milliseconds) in [
            ("3s", 3_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("30d", 30 * 86_400_000),
            ("1m 30s", 90_000),
            ("0", 0),
        ] {
            let read = read(text).unwrap();
            assert_eq!(read.required, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(read.optional, Some(read.required), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_the_message_says_what_is_allowed() {
        for text in ["", "3", "s", "-1s", "3s ago", "3months", "3 fortnights", "99999999999999999h"] {
            let message = read(text).err().unwrap().to_string();
            let expected = format!("{text:?} is not a duration; a duration is a number with a unit");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for milliseconds in [0, 1, 999, 1_000, 90_000, 3_600_001] {
            let duration = Duration::from_millis(milliseconds);
            let durations = Durations { required: duration, optional: Some(duration) };
            let written = serde_json::to_value(durations).unwrap();
            let read: Durations = serde_json::from_value(written).unwrap();
            assert_eq!((read.required, read.optional), (duration, Some(duration)));
        }
        let none = Durations { required: Duration::ZERO, optional: None };
        assert_eq!(serde_json::to_value(none).unwrap()["optional"], Value::Null);
    }
}
