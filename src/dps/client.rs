//! Register, poll and lookup: the three calls that a device may make, and no other.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use super::answer::{Assignment, HttpAnswer, Reader};
use super::attestation::DeviceCredential;
use super::ca_bundle::CaBundle;
use super::call::Call;
use super::clock_offset::{ClockOffset, TokenClock};
use super::error::{Detail, DpsError, Invalid, Refusal, Unreachable};
use super::host::Endpoint;
pub use super::http::ClientError;
use super::http::{Http, REQUEST_TIMEOUT, Session};
use super::ids::{IdScope, RegistrationId, escape};
use super::issuance::CertificateRequest;
use super::observe::{self, Observer};
use super::operation::{Delayed, OpenOperation, Progress, Registrant};
use super::patience::Patience;
use super::proxy::Proxy;
use super::reading::{no_answer, read};
use super::refusal::{MadeWith, success};
use super::retry_after;
use super::tls::{Handshake, Presented, TlsFailure};
use super::wire::{API_VERSION, DeviceRegistration, ISSUANCE_API_VERSION, Operation, RegistrationState};
use crate::clock::{self, Now};

const OPERATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// DPS admits 5 polls in 10 s for a device.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A longer wait that DPS asks for is not slept through here: a call holds its permit and a slot, and a
/// single request may hold them for as long.
const LONGEST_SLEEP: Duration = REQUEST_TIMEOUT;
/// Polls in a row that may fail before the operation is given up.
const POLL_FAILURES: u32 = 3;

/// DPS as it is reached with one set of trusted roots.
#[derive(Clone, Debug)]
pub struct DpsClient {
    http: Arc<Http>,
    hub_suffixes: Arc<[String]>,
    observer: Arc<dyn Observer>,
    /// After this time, and the waits that DPS asked for, an operation is given up that has no end.
    operation_timeout: Duration,
}

/// Which device calls which instance, and with which credential.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub clock: &'a ClockOffset,
    pub endpoint: &'a Endpoint,
    pub scope: &'a IdScope,
    pub id: &'a RegistrationId,
    pub credential: &'a DeviceCredential,
}

impl Identity<'_> {
    fn registrant(self) -> Registrant {
        let Self { clock: _, endpoint, scope, id, credential } = self;
        Registrant {
            endpoint: endpoint.clone(),
            scope: scope.clone(),
            registration_id: id.clone(),
            credential: credential.issuer,
        }
    }
}

/// What is asked for with a registration.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// For custom allocation.
    pub payload: Option<&'a Map<String, Value>>,
    /// A certificate of DPS's own.
    pub certificate: Option<Arc<CertificateRequest>>,
}

/// A device in one operation, with its connections.
struct Caller<'a> {
    identity: Identity<'a>,
    session: Session,
    version: &'static str,
}

/// How long an operation that goes on is left alone: as long as DPS asked, and no less than this.
struct Wait {
    asked: Option<Duration>,
    least: Duration,
    /// Of the poll before, if that failed.
    error: Option<DpsError>,
}

/// What one poll shows.
enum Polled {
    Assigned(Assignment),
    GoesOn(Wait),
}

impl DpsClient {
    /// `ca_bundle` is trusted beside the public roots; `proxy` the way to DPS.
    ///
    /// # Errors
    /// When there are no trusted roots, or the proxy's address makes no sense.
    pub fn new(
        ca_bundle: Option<&CaBundle>,
        proxy: Option<&Proxy>,
        hub_suffixes: Arc<[String]>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        let http = Http::new(ca_bundle, proxy, observer.clone())?;
        Ok(Self { http: Arc::new(http), hub_suffixes, observer, operation_timeout: OPERATION_TIMEOUT })
    }

    /// The same with less patience.
    #[cfg(test)]
    pub fn with_operation_timeout(self, operation_timeout: Duration) -> Self {
        Self { operation_timeout, ..self }
    }

    /// Registers the device and follows the operation to its end, or until DPS asks for a long wait.
    /// `accepted` is called as soon as DPS has taken the request, and so the key, however the operation ends.
    ///
    /// # Errors
    /// Every way in which this does not end with an assignment.
    pub async fn register(
        &self,
        identity: Identity<'_>,
        asked: Asked<'_>,
        accepted: impl FnOnce(),
    ) -> Result<Progress, DpsError> {
        let Asked { payload, certificate: request } = asked;
        let patience = Patience::new(Instant::now(), self.operation_timeout);
        let call = Call::Register { payload: payload.is_some(), csr: request.is_some() };
        let caller = self.caller(identity, request.as_deref())?;
        let url = format!("{}/register", registration_url(identity));
        let body = body(identity.id, payload, request.as_deref());
        let (answer, mut operation) = self.call::<Operation>(&caller, call, &url, &body).await?;
        accepted();
        let id = operation.id();
        if let Some(ended) = self.reader(identity, answer.status, request.as_deref()).operation(operation) {
            return ended.map(Progress::Assigned);
        }
        let id = id.ok_or(DpsError::InvalidResponse(Invalid::NoOperationId))?;
        let asked = retry_after::parse(&answer.headers, answer.at.wall);
        // However short a Retry-After is, polls after the first one keep their distance.
        let least = if asked.is_some() { Duration::ZERO } else { POLL_INTERVAL };
        let registrant = identity.registrant();
        let open = OpenOperation { id, registrant, request, patience, failures: 0, ask_at: answer.at };
        self.follow(&caller, open, Some(Wait { asked, least, error: None })).await
    }

    /// Asks how an operation has ended for which DPS had asked for a long wait, and follows it further.
    ///
    /// # Errors
    /// As for `register`. `Forgotten` for an operation of another device, instance or credential, for
    /// which DPS is not asked.
    pub async fn resume(
        &self,
        identity: Identity<'_>,
        operation: OpenOperation,
    ) -> Result<Progress, DpsError> {
        if !operation.is_of(&identity.registrant()) {
            return Err(DpsError::Forgotten(Detail::default()));
        }
        let caller = self.caller(identity, operation.request.as_deref())?;
        self.follow(&caller, operation, None).await
    }

    /// Polls the operation, at first after this wait.
    async fn follow(
        &self,
        caller: &Caller<'_>,
        mut open: OpenOperation,
        first: Option<Wait>,
    ) -> Result<Progress, DpsError> {
        let mut wait = first;
        loop {
            if let Some(Wait { asked, least, error }) = wait {
                let now = clock::now();
                let at = open.patience.next(now.mono, asked, least).ok_or(DpsError::Deadline)?;
                let left = at.saturating_duration_since(now.mono);
                if left > LONGEST_SLEEP {
                    let wall = now.wall.checked_add(left).unwrap_or(now.wall);
                    let operation = OpenOperation { ask_at: Now { wall, mono: at }, ..open };
                    return Ok(Progress::Delayed(Box::new(Delayed { operation, error })));
                }
                sleep_until(at).await;
            }
            wait = match self.poll(caller, &mut open).await? {
                Polled::Assigned(assignment) => return Ok(Progress::Assigned(assignment)),
                Polled::GoesOn(next) => Some(next),
            };
        }
    }

    async fn poll(&self, caller: &Caller<'_>, open: &mut OpenOperation) -> Result<Polled, DpsError> {
        let identity = caller.identity;
        let url = format!("{}/operations/{}", registration_url(identity), escape(open.id.as_str()));
        let (answer, mut operation) = match self.call::<Operation>(caller, Call::Poll, &url, &[]).await {
            Ok(polled) => polled,
            Err(error) => {
                open.failures += 1;
                let (asked, least) = (error.retry_after(), POLL_INTERVAL * open.failures);
                let error = Some(give_up_poll(error, open.failures)?);
                return Ok(Polled::GoesOn(Wait { asked, least, error }));
            }
        };
        open.failures = 0;
        if let Some(id) = operation.id() {
            open.id = id;
        }
        let asked = retry_after::parse(&answer.headers, answer.at.wall);
        let request = open.request.as_deref();
        match self.reader(identity, answer.status, request).operation(operation) {
            Some(ended) => ended.map(Polled::Assigned),
            None => Ok(Polled::GoesOn(Wait { asked, least: POLL_INTERVAL, error: None })),
        }
    }

    /// Asks where the device is now, without moving anything.
    ///
    /// # Errors
    /// As for `register`; a registration that has no hub is `NotAssigned`, one that is being assigned
    /// `Conflict`.
    pub async fn lookup(&self, identity: Identity<'_>) -> Result<Assignment, DpsError> {
        let (url, body) = (registration_url(identity), body(identity.id, None, None));
        let (answer, state) =
            self.call::<RegistrationState>(&self.caller(identity, None)?, Call::Lookup, &url, &body).await?;
        self.reader(identity, answer.status, None).lookup(state)
    }

    fn caller<'a>(
        &self,
        identity: Identity<'a>,
        request: Option<&CertificateRequest>,
    ) -> Result<Caller<'a>, DpsError> {
        let version = request.map_or(API_VERSION, |_| ISSUANCE_API_VERSION);
        Ok(Caller { identity, session: self.http.session(identity.credential)?, version })
    }

    fn reader<'a>(
        &'a self,
        identity: Identity<'a>,
        status: StatusCode,
        request: Option<&'a CertificateRequest>,
    ) -> Reader<'a> {
        let kind = identity.credential.issuer.kind();
        Reader { id: identity.id, kind, hub_suffixes: &self.hub_suffixes, request, status }
    }

    /// Makes a call with a fresh token and reads its answer.
    ///
    /// # Errors
    /// `ClockOff` when DPS refused the token and its clock is far from the one the token was made
    /// for: the next call uses DPS's time. That call needs a permit of its own, so it is not made here.
    async fn call<T: DeserializeOwned>(
        &self,
        caller: &Caller<'_>,
        call: Call,
        url: &str,
        body: &[u8],
    ) -> Result<(HttpAnswer, T), DpsError> {
        let (identity, now) = (caller.identity, clock::now());
        let token = identity.clock.basis(identity.credential.issuer, now.wall.as_second(), now.mono);
        let answer = self.send(caller, call, url, body, token.made_for).await;
        let answer = answer.map_err(|error| refused_in_the_handshake(error, caller, call));
        self.observer.request_ended(call.as_str(), observe::outcome(&answer), now.mono.elapsed());
        let answer = answer?;
        let presented = caller.session.presented(identity.credential.certificate());
        let made_with = presented.map_or(MadeWith::Token(&token, identity.clock), |presented| {
            MadeWith::Certificate(identity.credential.issuer, presented)
        });
        let read = success(call, &answer, made_with)?;
        Ok((answer, read))
    }

    async fn send(
        &self,
        caller: &Caller<'_>,
        call: Call,
        url: &str,
        body: &[u8],
        now: i64,
    ) -> Result<HttpAnswer, DpsError> {
        let identity = caller.identity;
        let mut request = caller
            .session
            .http
            .request(call.method(), format!("{url}?api-version={}", caller.version))
            .header(ACCEPT, "application/json");
        if let Some(authorization) = identity.credential.authorize(identity.scope, identity.id, now) {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.to_vec());
        }
        read(request.send().await.map_err(|error| no_answer(&error))?).await
    }
}

/// An alert that answers a device's certificate speaks of that one, and not of the server.
fn refused_in_the_handshake(error: DpsError, caller: &Caller<'_>, call: Call) -> DpsError {
    let is_alert = matches!(error, DpsError::Unreachable(Unreachable::Tls(TlsFailure::Alert)));
    let Caller { identity, session, version: _ } = caller;
    match session.presented(identity.credential.certificate()).filter(|_| is_alert) {
        Some(Presented { handshake: Handshake::NotAskedFor, .. }) | None => error,
        Some(Presented { handshake, facts }) => {
            // Without a signature that it takes, the server has seen none.
            let handshake = if handshake == Handshake::Sent { Handshake::Refused } else { handshake };
            DpsError::Unauthorized(Refusal {
                issuer: identity.credential.issuer,
                clock: TokenClock::Right,
                certificate: Some(Box::new(Presented { handshake, facts })),
                call,
                detail: Detail::default(),
            })
        }
    }
}

fn registration_url(identity: Identity<'_>) -> String {
    format!(
        "https://{}/{}/registrations/{}",
        identity.endpoint,
        escape(identity.scope.as_str()),
        escape(identity.id.as_str())
    )
}

fn body(
    id: &RegistrationId,
    payload: Option<&Map<String, Value>>,
    request: Option<&CertificateRequest>,
) -> Vec<u8> {
    let csr = request.map(CertificateRequest::csr);
    // A map of JSON values always serialises.
    serde_json::to_vec(&DeviceRegistration { registration_id: id.as_str(), payload, csr }).unwrap_or_default()
}

/// The operation may have succeeded although a poll failed, so what may pass is tried again a few times:
/// such an error is returned as no failure.
fn give_up_poll(error: DpsError, failures: u32) -> Result<DpsError, DpsError> {
    let may_pass = matches!(
        error,
        DpsError::Unreachable(_)
            | DpsError::Throttled { .. }
            | DpsError::Server { .. }
            | DpsError::Conflict(_)
            | DpsError::ClockOff
    );
    if may_pass && failures <= POLL_FAILURES { Ok(error) } else { Err(error) }
}
