//! The `Retry-After` header: seconds, or a date.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;

/// The longest wait that a header can ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the header asks for, at most an hour; `None` when it is absent or makes no sense. A date is
/// held against the answer's own one: our clock may be another than the server's.
pub(super) fn parse(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let said = headers.get(DATE).and_then(|said| said.to_str().ok()).and_then(date);
    let wait = date(text)?.duration_since(said.unwrap_or(now));
    Some(Duration::try_from(wait).unwrap_or_default().min(LONGEST))
}

/// An HTTP date (RFC 9110: `Sun, 06 Nov 1994 08:49:37 GMT`, and the two obsolete forms that have to be
/// taken).
pub(super) fn date(text: &str) -> Option<Timestamp> {
    let obsolete = |format| {
        let read = strtime::parse(format, text).ok()?.to_datetime().ok()?;
        Some(read.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let usual = rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    usual.or_else(|| obsolete("%A, %d-%b-%y %H:%M:%S GMT")).or_else(|| obsolete("%a %b %d %H:%M:%S %Y"))
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
    fn a_date_is_held_against_the_answers_own_one_whatever_our_clock_says() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:47 GMT"));
        headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        for ours in [
            "Sun, 06 Nov 1994 06:00:00 GMT",
            "Sun, 06 Nov 1994 12:00:00 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            assert_eq!(parse(&headers, date(ours).unwrap()), Some(Duration::from_secs(10)), "{ours}");
        }
        headers.insert(DATE, HeaderValue::from_static("today"));
        let ours = date("Sun, 06 Nov 1994 08:49:40 GMT").unwrap();
        assert_eq!(parse(&headers, ours), Some(Duration::from_secs(7)), "ours for want of a better one");
    }

    #[test]
    fn all_three_forms_of_an_http_date_are_read() {
        let usual = date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(usual.as_second(), 784_111_777);
        for text in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 06 08:49:37 1994"]
        {
            assert_eq!(date(text), Some(usual), "{text}");
        }
    }

    #[test]
    fn nonsense_counts_as_absent() {
        for text in ["-1", "soon", "", "1.5"] {
            assert_eq!(asked(text), None, "{text:?}");
        }
        assert_eq!(parse(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
