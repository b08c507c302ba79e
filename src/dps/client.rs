//! Register, poll and lookup: the three calls that a device may make, and no other.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use reqwest::tls::Version;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::{Detail, DpsError, Invalid, Unreachable, clean};
use super::host::Endpoint;
use super::ids::{HubHostname, IdScope, InvalidId, RegistrationId};
use super::key::DeviceKey;
use super::wire::{API_VERSION, DeviceRegistration, ErrorBody, Operation, RegistrationState};
use super::{retry_after, sas};
use crate::clock;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// DPS admits 5 polls in 10 s for a device.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// However short a Retry-After is, later polls keep this distance.
const SHORTEST_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// So many polls in a row may fail before the operation is given up.
const POLL_FAILURES: u32 = 3;
const BODY_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 16 * 1024;
const RETURNED_PAYLOAD_MAX: usize = 32 * 1024;
/// A clock further off than this is worth a word, and one retry with DPS's own time.
const SKEW_NOTICED: i64 = 5 * 60;

/// A certificate bundle or proxy that no client can be made from.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("it holds no PEM certificate")]
    NoCertificate,
    #[error("it is not valid PEM, or a certificate in it cannot be parsed")]
    BadCertificate,
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// One connection pool for one set of trusted roots.
#[derive(Clone, Debug)]
pub struct DpsClient {
    http: reqwest::Client,
    hub_suffixes: std::sync::Arc<[String]>,
}

/// Who is registered where, and with which key.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub endpoint: &'a Endpoint,
    pub scope: &'a IdScope,
    pub id: &'a RegistrationId,
    pub key: &'a DeviceKey,
}

/// A device's place as DPS reports it; hub and ids have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub hub: HubHostname,
    /// Equals the registration id but for ASCII case.
    pub device_id: String,
    pub substatus: Option<String>,
    pub etag: Option<String>,
    pub created_time: Option<String>,
    pub last_updated_time: Option<String>,
    pub enrollment_group: Option<String>,
    /// What custom allocation returned, at most 32 KiB as JSON.
    pub payload: Option<Map<String, Value>>,
}

/// A whole answer within the limits.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl DpsClient {
    /// `ca_bundle` is PEM, trusted beside the public roots; `proxy` an `http://` URL.
    ///
    /// # Errors
    /// When the bundle has no usable certificate, or the proxy's address makes no sense.
    pub fn new(
        ca_bundle: Option<&[u8]>,
        proxy: Option<&str>,
        hub_suffixes: std::sync::Arc<[String]>,
    ) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .http1_only()
            .http1_max_headers(64)
            .tls_version_min(Version::TLS_1_2)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(64)
            .user_agent(concat!("dps-operator/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca_bundle {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|_| ClientError::BadCertificate)?;
            if certificates.is_empty() {
                return Err(ClientError::NoCertificate);
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::https(proxy).map_err(ClientError::Setup)?);
        }
        let http = builder.build().map_err(|error| match ca_bundle {
            Some(_) => ClientError::BadCertificate,
            None => ClientError::Setup(error),
        })?;
        Ok(Self { http, hub_suffixes })
    }

    /// Registers the device and follows the operation to its end, at most five minutes.
    ///
    /// # Errors
    /// Every way in which this does not end with an assignment.
    pub async fn register(
        &self,
        identity: Identity<'_>,
        payload: Option<&Map<String, Value>>,
    ) -> Result<Assignment, DpsError> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let body = registration_body(identity.id, payload)?;
        let path = format!("{}/register", registration_url(identity));
        let (answer, skew) = self.send_authorized(identity, Method::PUT, &path, &body, 0).await?;
        let mut wait = next_poll(&answer, true);
        let mut operation = success::<Operation>(&answer)?;
        let mut operation_id = operation.operation_id.take();
        let mut failures = 0;
        loop {
            if let Some(outcome) = self.outcome(identity.id, operation) {
                return outcome;
            }
            let id = operation_id.as_deref().ok_or(DpsError::InvalidResponse(Invalid::NoOperationId))?;
            let url = format!("{}/operations/{}", registration_url(identity), sas::escape(id));
            let at = Instant::now() + wait;
            if at >= deadline {
                return Err(DpsError::Deadline);
            }
            sleep_until(at).await;
            let poll = self.send_authorized(identity, Method::GET, &url, &[], skew);
            let polled = timeout_at(deadline, poll).await.map_err(|_| DpsError::Deadline)?;
            let next = polled.and_then(|(answer, _)| Ok((next_poll(&answer, false), success(&answer)?)));
            (wait, operation) = match next {
                Ok((wait, operation)) => {
                    failures = 0;
                    (wait, operation)
                }
                Err(error) => {
                    failures += 1;
                    (after_failed_poll(error, failures)?, Operation::default())
                }
            };
            operation_id = operation.operation_id.take().or(operation_id);
        }
    }

    /// Asks where the device is now, without moving anything.
    ///
    /// # Errors
    /// As for `register`; a registration that has no hub is `NotFound`.
    pub async fn lookup(&self, identity: Identity<'_>) -> Result<Assignment, DpsError> {
        let body = registration_body(identity.id, None)?;
        let url = registration_url(identity);
        let (answer, _) = self.send_authorized(identity, Method::POST, &url, &body, 0).await?;
        let state = success::<RegistrationState>(&answer)?;
        let operation =
            Operation { status: state.status.clone(), registration_state: Some(state), operation_id: None };
        self.outcome(identity.id, operation).unwrap_or_else(|| Err(DpsError::NotFound(Detail::default())))
    }

    /// Sends with a fresh token. When DPS refuses it and its clock is far from ours, once more with
    /// DPS's time; returns the offset that worked, in seconds.
    async fn send_authorized(
        &self,
        identity: Identity<'_>,
        method: Method,
        url: &str,
        body: &[u8],
        skew: i64,
    ) -> Result<(Answer, i64), DpsError> {
        let now = clock::now().wall.as_second();
        let answer = self.send(identity, &method, url, body, now + skew).await?;
        let off = clock_skew(&answer.headers);
        match off {
            Some(off) if answer.status == StatusCode::UNAUTHORIZED && skew == 0 => {
                Ok((self.send(identity, &method, url, body, now + off).await?, off))
            }
            _ => Ok((answer, skew)),
        }
    }

    async fn send(
        &self,
        identity: Identity<'_>,
        method: &Method,
        url: &str,
        body: &[u8],
        now: i64,
    ) -> Result<Answer, DpsError> {
        let token = sas::token(identity.scope, identity.id, identity.key, now + sas::LIFETIME);
        // Escaped and base64 text only, so it is always a valid header value.
        let mut authorization =
            HeaderValue::from_str(&token).unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        let mut request = self
            .http
            .request(method.clone(), format!("{url}?api-version={API_VERSION}"))
            .header(AUTHORIZATION, authorization)
            .header(http::header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.to_vec());
        }
        let response =
            request.send().await.map_err(|error| DpsError::Unreachable(unreachable_kind(&error)))?;
        read(response).await
    }

    /// What a terminal status means; `None` while the operation goes on. `unassigned` and unknown
    /// statuses are polled until the deadline, as three of Microsoft's clients do.
    fn outcome(&self, id: &RegistrationId, operation: Operation) -> Option<Result<Assignment, DpsError>> {
        let state = operation.registration_state.unwrap_or_default();
        let status = operation.status.as_deref().or(state.status.as_deref());
        match status {
            Some("assigned") => Some(self.assignment(id, state)),
            Some("failed") => Some(Err(failed(state))),
            Some("disabled") => Some(Err(DpsError::Disabled(state_detail(&state)))),
            _ => None,
        }
    }

    fn assignment(&self, id: &RegistrationId, state: RegistrationState) -> Result<Assignment, DpsError> {
        let invalid = |what| Err(DpsError::InvalidResponse(what));
        if state.registration_id.as_deref().is_some_and(|said| !said.eq_ignore_ascii_case(id.as_str())) {
            return invalid(Invalid::RegistrationId);
        }
        let (Some(hub), Some(device_id)) = (state.assigned_hub, state.device_id) else {
            return invalid(Invalid::NoHub);
        };
        if !device_id.eq_ignore_ascii_case(id.as_str()) {
            return invalid(Invalid::DeviceId);
        }
        let hub = HubHostname::parse(&hub, &self.hub_suffixes).map_err(|error| match error {
            InvalidId::HubSuffix => DpsError::InvalidResponse(Invalid::HubSuffix),
            _ => DpsError::InvalidResponse(Invalid::HubHostname),
        })?;
        let payload = match state.payload {
            Some(Value::Object(map)) => Some(map),
            _ => None,
        };
        if payload.as_ref().is_some_and(|map| json_size(map) > RETURNED_PAYLOAD_MAX) {
            return invalid(Invalid::PayloadTooLarge);
        }
        let text = |value: Option<String>| value.map(|text| clean_token(&text));
        Ok(Assignment {
            hub,
            device_id,
            substatus: text(state.substatus),
            etag: text(state.etag),
            created_time: text(state.created_date_time_utc),
            last_updated_time: text(state.last_updated_date_time_utc),
            enrollment_group: text(state.symmetric_key.and_then(|key| key.enrollment_group_id)),
            payload,
        })
    }
}

fn json_size(map: &Map<String, Value>) -> usize {
    serde_json::to_vec(map).map_or(usize::MAX, |bytes| bytes.len())
}

/// Printable ASCII, at most 128 characters: for ids, times and enums that DPS chooses.
fn clean_token(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(128).collect()
}

fn registration_url(identity: Identity<'_>) -> String {
    format!(
        "https://{}/{}/registrations/{}",
        identity.endpoint,
        sas::escape(identity.scope.as_str()),
        sas::escape(identity.id.as_str())
    )
}

fn registration_body(id: &RegistrationId, payload: Option<&Map<String, Value>>) -> Result<Vec<u8>, DpsError> {
    // A map of JSON values always serialises; the error arm is for the type only.
    serde_json::to_vec(&DeviceRegistration { registration_id: id.as_str(), payload })
        .map_err(|_| DpsError::Rejected(Detail::default()))
}

/// Reads the whole body, capped while it arrives.
async fn read(mut response: reqwest::Response) -> Result<Answer, DpsError> {
    let headers = response.headers().clone();
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > HEADERS_MAX {
        return Err(DpsError::InvalidResponse(Invalid::TooLarge));
    }
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| DpsError::Unreachable(unreachable_kind(&error)))?
    {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(DpsError::InvalidResponse(Invalid::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

/// reqwest's errors carry URLs and sources; only the kind goes on.
fn unreachable_kind(error: &reqwest::Error) -> Unreachable {
    if error.is_timeout() {
        return Unreachable::Timeout;
    }
    if error.is_dns() {
        return Unreachable::Dns;
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return Unreachable::Tls;
        }
        source = cause.source();
    }
    if error.is_connect() { Unreachable::Connect } else { Unreachable::Broken }
}

/// The answer's JSON, or the error that its status stands for.
fn success<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, DpsError> {
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => {
            serde_json::from_slice(&answer.body).map_err(|_| DpsError::InvalidResponse(Invalid::NotJson))
        }
        status => Err(refusal(status, answer)),
    }
}

fn refusal(status: StatusCode, answer: &Answer) -> DpsError {
    let detail = error_detail(answer);
    let retry_after = retry_after::parse(&answer.headers, clock::now().wall);
    match status.as_u16() {
        401 => DpsError::Unauthorized(detail),
        404 => DpsError::NotFound(detail),
        409 | 412 => DpsError::Conflict(detail),
        429 => DpsError::Throttled { retry_after, detail },
        400..=499 => DpsError::Rejected(detail),
        500..=599 => DpsError::Server { retry_after, detail },
        300..=399 => DpsError::InvalidResponse(Invalid::Redirect),
        _ => DpsError::InvalidResponse(Invalid::UnexpectedStatus),
    }
}

fn error_detail(answer: &Answer) -> Detail {
    let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap_or_default();
    let header = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let code = body.error_code.or_else(|| header("x-ms-error-code").and_then(|text| text.parse().ok()));
    let tracking = body.tracking_id.filter(|id| !id.is_empty());
    Detail {
        http_status: Some(answer.status.as_u16()),
        code,
        message: body.message.as_deref().map(clean).filter(|message| !message.is_empty()),
        tracking_id: tracking.as_deref().or_else(|| header("x-ms-request-id")).map(clean_token),
        clock_skew: clock_skew(&answer.headers),
    }
}

fn state_detail(state: &RegistrationState) -> Detail {
    Detail {
        http_status: Some(200),
        code: state.error_code,
        message: state.error_message.as_deref().map(clean).filter(|message| !message.is_empty()),
        ..Detail::default()
    }
}

/// A registration that ended as `failed`; the codes are those seen in public, most of them from
/// the allocation.
fn failed(state: RegistrationState) -> DpsError {
    let detail = state_detail(&state);
    match state.error_code {
        Some(code) if (401_000..402_000).contains(&code) => DpsError::Unauthorized(detail),
        Some(code) if (404_000..405_000).contains(&code) => DpsError::NotFound(detail),
        Some(code) if (409_000..410_000).contains(&code) => DpsError::Conflict(detail),
        Some(code) if code >= 500_000 => DpsError::Server { retry_after: None, detail },
        // A service-side transport failure is reported without a code of its own.
        None | Some(0) => DpsError::Server { retry_after: None, detail },
        Some(_) => DpsError::AllocationFailed(detail),
    }
}

/// How long to wait before the next poll. DPS's own word counts; the floor applies without one.
fn next_poll(answer: &Answer, first: bool) -> Duration {
    match retry_after::parse(&answer.headers, clock::now().wall) {
        Some(asked) if first => asked,
        Some(asked) => asked.max(SHORTEST_POLL_INTERVAL),
        None => POLL_INTERVAL,
    }
}

/// The operation may have succeeded although a poll failed, so what may pass is tried again a few times.
fn after_failed_poll(error: DpsError, failures: u32) -> Result<Duration, DpsError> {
    let may_pass =
        matches!(error, DpsError::Unreachable(_) | DpsError::Throttled { .. } | DpsError::Server { .. });
    if !may_pass || failures > POLL_FAILURES {
        return match error {
            // The operation has been forgotten; the next attempt registers anew.
            DpsError::NotFound(detail) => Err(DpsError::Conflict(detail)),
            other => Err(other),
        };
    }
    Ok(error.retry_after().unwrap_or(POLL_INTERVAL * failures).max(POLL_INTERVAL))
}

/// Seconds that the answer's `Date` is ahead of our clock, when that is more than five minutes.
fn clock_skew(headers: &HeaderMap) -> Option<i64> {
    let date: Timestamp = retry_after::date(headers.get(DATE)?.to_str().ok()?)?;
    let off = date.as_second() - clock::now().wall.as_second();
    (off.abs() > SKEW_NOTICED).then_some(off)
}
