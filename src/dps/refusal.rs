//! What an answer means that is not success. Pure: the call, the HTTP status and the body in, an error
//! out.

use http::StatusCode;
use http::header::{DATE, HeaderValue};

use super::answer::HttpAnswer;
use super::attestation::CredentialId;
use super::call::Call;
use super::clock_offset::{ClockOffset, TokenBasis, TokenClock};
use super::error::{Detail, DpsError, Invalid, Refusal};
use super::retry_after;
use super::scrub::Shown;
use super::tls::Presented;
use super::wire::ErrorBody;

/// What a request was made with.
pub(super) enum MadeWith<'a> {
    Token(&'a TokenBasis, &'a ClockOffset),
    /// It has authenticated the connection.
    Certificate(CredentialId, Presented),
}

/// The answer's JSON, or the error that its status stands for.
pub(super) fn success<T: serde::de::DeserializeOwned>(
    call: Call,
    answer: &HttpAnswer,
    made_with: MadeWith<'_>,
) -> Result<T, DpsError> {
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => {
            serde_json::from_slice(&answer.body).map_err(|_| DpsError::InvalidResponse(Invalid::NotJson))
        }
        StatusCode::UNAUTHORIZED => Err(match made_with {
            MadeWith::Token(token, clock) => refused_token(call, answer, token, clock),
            MadeWith::Certificate(issuer, presented) => DpsError::Unauthorized(Refusal {
                issuer,
                clock: TokenClock::Right,
                certificate: Some(Box::new(presented)),
                call,
                detail: detail(answer),
            }),
        }),
        status => Err(refusal(call, status.as_u16(), answer)),
    }
}

fn refusal(call: Call, status: u16, answer: &HttpAnswer) -> DpsError {
    let detail = detail(answer);
    let retry_after = retry_after::parse(&answer.headers, answer.at.wall);
    match (status, call) {
        (404, Call::Register { .. }) => DpsError::NotFound(detail),
        (404, Call::Lookup) => DpsError::NotAssigned(detail),
        // Nothing of a poll can be wrong but the id of the operation.
        (400 | 404 | 410, Call::Poll) => DpsError::Forgotten(detail),
        (409 | 412, _) => DpsError::Conflict(detail),
        (429, _) => DpsError::Throttled { retry_after, detail },
        // Of a gateway that has waited in vain.
        (408 | 425 | 500..=599, _) => DpsError::Server { retry_after, detail },
        // A proxy's, which is none of the host that was called.
        (407, _) => DpsError::InvalidResponse(Invalid::UnexpectedStatus),
        (400..=499, _) => DpsError::Rejected { call, detail },
        (300..=399, _) => DpsError::InvalidResponse(Invalid::Redirect),
        _ => DpsError::InvalidResponse(Invalid::UnexpectedStatus),
    }
}

/// HTTP 401: of the credential, or of the clock that the token was made with.
fn refused_token(call: Call, answer: &HttpAnswer, token: &TokenBasis, clock: &ClockOffset) -> DpsError {
    let date = header(answer, DATE.as_str()).and_then(retry_after::date).map(|date| date.as_second());
    match clock.refused(token, date, answer.at.wall.as_second(), answer.at.mono) {
        TokenClock::Wrong => DpsError::ClockOff,
        clock => {
            let (issuer, detail) = (token.issuer, detail(answer));
            DpsError::Unauthorized(Refusal { issuer, clock, certificate: None, call, detail })
        }
    }
}

fn detail(answer: &HttpAnswer) -> Detail {
    let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = body.error_code.or_else(|| header(answer, "x-ms-error-code")?.parse().ok());
    let tracking = body.tracking_id.filter(|id| !id.is_empty());
    Detail {
        http_status: Some(answer.status.as_u16()),
        code,
        message: body.message.as_deref().and_then(Shown::message),
        tracking_id: tracking
            .as_deref()
            .or_else(|| header(answer, "x-ms-request-id"))
            .and_then(Shown::tracking_id),
    }
}

fn header<'a>(answer: &'a HttpAnswer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
}
