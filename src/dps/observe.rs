//! Who watches the calls: told of each request to DPS once it has ended.

use std::fmt::Debug;
use std::time::Duration;

use http::Method;

use super::answer::Answer;
use super::error::DpsError;

/// Told of each request.
pub trait Observer: Debug + Send + Sync {
    /// `operation` is register, poll or lookup; `outcome` one of those of `outcome`.
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
