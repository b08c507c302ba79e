//! Durations as people write them in a configuration: `3s`, `500ms`, `2m`, `1h`, `0`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// What a duration in a configuration or in an admin request may look like.
const ALLOWED: &str =
    "a duration is a whole number with a unit, ms, s, m or h, such as 3s or 500ms; 0 needs no unit";

#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a duration; {ALLOWED}")]
pub struct DurationError {
    text: String,
}

/// Reads a duration such as `3s`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError { text: text.to_owned() };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(refused)
}

/// For `#[serde(with)]`: the shortest text that reads back.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, output: S) -> Result<S::Ok, S::Error> {
    match duration.subsec_millis() {
        0 => output.collect_str(&format_args!("{}s", duration.as_secs())),
        _ => output.collect_str(&format_args!("{}ms", duration.as_millis())),
    }
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    parse(&text).map_err(de::Error::custom)
}

/// For `#[serde(with)]` where `null` means that there is none.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, output),
            None => output.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(input)? {
            None => Ok(None),
            Some(text) => parse(&text).map(Some).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse("3s").unwrap(), Duration::from_secs(3));
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(parse("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(parse("0").unwrap(), Duration::ZERO);
    }

    #[test]
    fn anything_else_is_refused_and_the_message_says_what_is_allowed() {
        for text in ["", "3", "s", "-1s", "3 s", "1.5s", "3days", "99999999999999999h"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains("such as 3s or 500ms"), "{message}");
        }
    }
}
