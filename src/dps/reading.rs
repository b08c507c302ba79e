//! An answer as it arrives, or why there is none.

use std::error::Error;

use super::answer::HttpAnswer;
use super::error::{DpsError, Invalid, Unreachable};
use super::proxy;
use super::tls::TlsFailure;
use crate::clock;

const BODY_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 16 * 1024;

/// Reads the whole body, capped while it arrives.
pub(super) async fn read(mut response: reqwest::Response) -> Result<HttpAnswer, DpsError> {
    let headers = response.headers().clone();
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > HEADERS_MAX {
        return Err(DpsError::InvalidResponse(Invalid::TooLarge));
    }
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(DpsError::InvalidResponse(Invalid::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpAnswer { status, headers, body, at: clock::now() })
}

/// Why there is no whole answer. reqwest's errors carry URLs and sources; only the kind goes on.
pub(super) fn no_answer(error: &reqwest::Error) -> DpsError {
    // Reading ends before the limits of `read` where a head is far beyond them.
    match http_error(error) {
        Some(http) if http.is_parse_too_large() => DpsError::InvalidResponse(Invalid::TooLarge),
        _ => DpsError::Unreachable(unreachable_kind(error)),
    }
}

fn http_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a hyper::Error> {
    error.downcast_ref().or_else(|| http_error(error.source()?))
}

fn unreachable_kind(error: &reqwest::Error) -> Unreachable {
    if let Some(refusal) = proxy::refusal(error) {
        return refusal;
    }
    if error.is_timeout() {
        return Unreachable::Timeout;
    }
    if error.is_dns() {
        return Unreachable::Dns;
    }
    if let Some(failure) = TlsFailure::of(error) {
        return Unreachable::Tls(failure);
    }
    if http_error(error).is_some_and(hyper::Error::is_parse) {
        return Unreachable::NotHttp;
    }
    if error.is_connect() { Unreachable::Connect } else { Unreachable::Broken }
}
