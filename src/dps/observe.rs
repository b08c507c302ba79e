//! Who watches the calls: told of each request to DPS once it has ended.

use std::fmt::Debug;
use std::time::Duration;

use http::Method;

use super::answer::Answer;
use super::error::DpsError;

/// What `operation` may be.
pub const OPERATIONS: [&str; 3] = ["register", "poll", "lookup"];
/// What `outcome` may be.
pub const OUTCOMES: [&str; 8] =
    ["success", "refused", "not_found", "conflict", "throttled", "unavailable", "rejected", "invalid"];

/// Told of each request.
pub trait Observer: Debug + Send + Sync {
    /// `operation` is one of `OPERATIONS`, `outcome` one of `OUTCOMES`.
    fn request(&self, operation: &'static str, outcome: &'static str, took: Duration);
}

/// Nobody watches.
#[cfg(test)]
#[derive(Debug)]
pub struct Unobserved;

#[cfg(test)]
impl Observer for Unobserved {
    fn request(&self, _: &'static str, _: &'static str, _: Duration) {}
}

/// DPS's three calls have a method each.
pub(super) fn operation(method: &Method) -> &'static str {
    match *method {
        Method::PUT => "register",
        Method::GET => "poll",
        _ => "lookup",
    }
}

/// What came of a request, as a word of a closed set.
pub(super) fn outcome(result: &Result<Answer, DpsError>) -> &'static str {
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
    use super::*;
    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;
    use std::collections::BTreeSet;

    #[test]
    fn every_answer_has_one_of_the_words() {
        let answer = |status| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
        };
        let mut found: BTreeSet<&str> = (100..600).map(|status| outcome(&Ok(answer(status)))).collect();
        found.insert(outcome(&Err(DpsError::Deadline)));
        assert_eq!(found, BTreeSet::from(OUTCOMES));
        let methods = [Method::PUT, Method::GET, Method::POST];
        assert_eq!(methods.map(|method| operation(&method)), OPERATIONS);
    }
}
