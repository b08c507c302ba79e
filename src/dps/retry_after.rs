//! The `Retry-After` header: seconds, or a date.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The longest wait that a header can ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the header asks for, at most an hour; `None` when it is absent or makes no sense.
pub(super) fn parse(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let wait = date(text)?.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or_default().min(LONGEST))
}

/// An HTTP date (RFC 9110: `Sun, 06 Nov 1994 08:49:37 GMT`).
pub(super) fn date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        parse(&headers, date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap())
    }

    #[test]
    fn seconds_and_dates_are_honoured_and_clamped() {
        assert_eq!(asked("3"), Some(Duration::from_secs(3)));
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("99999999999999999999999"), Some(LONGEST));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("Sat, 06 Nov 2094 08:49:37 GMT"), Some(LONGEST));
    }

    #[test]
    fn nonsense_counts_as_absent() {
        for text in ["-1", "soon", "", "1.5"] {
            assert_eq!(asked(text), None, "{text:?}");
        }
        assert_eq!(parse(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
