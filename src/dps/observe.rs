//! What is reported of each request to DPS once it has ended.

use std::fmt::Debug;
use std::time::Duration;

use super::answer::HttpAnswer;
use super::error::DpsError;

/// Values of `operation` in a report.
pub const OPERATIONS: [&str; 3] = ["register", "poll", "lookup"];
/// Values of `outcome` in a report.
pub const OUTCOMES: [&str; 8] =
    ["success", "refused", "not_found", "conflict", "throttled", "unavailable", "rejected", "invalid"];

/// Values of `credential` in a report.
pub const CREDENTIALS: [&str; 2] = ["key", "certificate"];

/// Receives a report on each request, and on each connection.
pub trait Observer: Debug + Send + Sync {
    /// `operation` is one of `OPERATIONS`, `outcome` one of `OUTCOMES`.
    fn request_ended(&self, operation: &'static str, outcome: &'static str, took: Duration);

    /// A TLS connection was made, for devices with this `credential`, one of `CREDENTIALS`.
    fn handshake_made(&self, credential: &'static str);
}

/// Ignores all reports.
#[cfg(test)]
#[derive(Debug)]
pub struct Unobserved;

#[cfg(test)]
impl Observer for Unobserved {
    fn request_ended(&self, _: &'static str, _: &'static str, _: Duration) {}

    fn handshake_made(&self, _: &'static str) {}
}

/// The outcome of a request.
pub(super) fn outcome(result: &Result<HttpAnswer, DpsError>) -> &'static str {
    match result.as_ref().map(|answer| answer.status.as_u16()) {
        Ok(200..=299) => "success",
        Ok(401 | 403) => "refused",
        Ok(404) => "not_found",
        Ok(409 | 412) => "conflict",
        Ok(429) => "throttled",
        Ok(500..=599) | Err(DpsError::Unreachable(_)) => "unavailable",
        Ok(400..=499) => "rejected",
        Ok(_) | Err(_) => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::Now;
    use crate::dps::call::Call;

    #[test]
    fn every_answer_has_one_of_the_words() {
        let answer = |status| HttpAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            at: Now { wall: Timestamp::UNIX_EPOCH, mono: Instant::now() },
        };
        let mut found: BTreeSet<&str> = (100..600).map(|status| outcome(&Ok(answer(status)))).collect();
        found.insert(outcome(&Err(DpsError::Deadline)));
        assert_eq!(found, BTreeSet::from(OUTCOMES));
        let calls = [Call::Register { payload: false, csr: false }, Call::Poll, Call::Lookup];
        assert_eq!(calls.map(Call::as_str), OPERATIONS);
    }
}
