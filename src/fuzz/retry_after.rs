//! How long an answer asks to wait.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;

use crate::dps::fuzz;

const LONGEST: Duration = Duration::from_secs(3600);

/// The first line is the header, the second one the answer's own date (none if it is empty), and the
/// third one our clock, in seconds.
pub fn retry_after(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (asked, date, now) = (line(), line(), line());
    let Ok(value) = HeaderValue::from_bytes(asked) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, value);
    if let Ok(date) = HeaderValue::from_bytes(date)
        && !date.is_empty()
    {
        headers.insert(DATE, date);
    }
    let now = str::from_utf8(now).ok().and_then(|text| text.parse().ok()).unwrap_or(784_111_777);
    let Ok(now) = Timestamp::from_second(now) else { return };
    let wait = fuzz::retry_after(&headers, now);
    assert!(wait.is_none_or(|wait| wait <= LONGEST), "{wait:?} is too long");
    let text = asked.trim_ascii();
    if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        let seconds = text
            .iter()
            .fold(0_u64, |all, digit| all.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        assert_eq!(wait, Some(Duration::from_secs(seconds).min(LONGEST)), "seconds are taken by the letter");
    }
    // A date that is read the same by all clocks is not held against ours.
    let said = headers.contains_key(DATE) && is_date(date);
    if said || wait.is_none() {
        for other in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert_eq!(fuzz::retry_after(&headers, other), wait, "our clock counts");
        }
    }
}

/// The usual form of an HTTP date, by its shape: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn is_date(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    let fits = |(found, form): (&u8, &u8)| match form {
        b'0'..=b'9' => found.is_ascii_digit(),
        form if form.is_ascii_alphabetic() => found.is_ascii_alphabetic(),
        form => found == form,
    };
    let mut headers = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(text) else { return false };
    headers.insert(RETRY_AFTER, value);
    text.len() == SHAPE.len()
        && text.iter().zip(SHAPE).all(fits)
        && fuzz::retry_after(&headers, Timestamp::UNIX_EPOCH).is_some()
}
