//! How DPS answers a request: the checks in their order, then register, poll or lookup.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::call::{Call, Issuance, Reply};
use super::refusal::Refusal;
use super::scope::{Scope, Verified};
use super::settings::Settings;
use super::throttle::Throttled;
use super::token::{Strictness, Token};
use super::wire::{self, Operation, RegistrationState, RegistrationStatus};
use crate::certificate::{Chain, Thumbprint};
use crate::clock::Moment;
use crate::config::{Config, IdScope, IdScopeCase, Location, Presence, Quotas, Readings, UnknownIdScope};
use crate::ids::Ids;
use crate::issuing_ca::IssuingCa;
use crate::ledger::{KeyUsed, Outcome};
use crate::route::{OperationKind, Route, query_parameter};

/// A request as the service needs it.
pub(crate) struct Request<'a> {
    pub route: &'a Route,
    pub query: &'a str,
    pub host: Option<&'a str>,
    pub authorization: Option<&'a [u8]>,
    /// What the device presented in the TLS handshake.
    pub chain: Option<&'a Chain>,
    pub content_type: Option<&'a str>,
    /// None if the body is larger than [`wire::MAX_BODY`].
    pub body: Option<&'a [u8]>,
}

/// An answer as DPS gives it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub error_code: Option<u32>,
    pub retry_after: Option<Duration>,
    pub location: Option<String>,
    pub outcome: Outcome,
    pub key: Option<KeyUsed>,
    /// The certificate that was issued with the registration.
    pub issued: Option<Thumbprint>,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub readings: Readings,
    pub ids: Ids,
    pub issuing_ca: IssuingCa,
    api_versions: Vec<String>,
    issuance_api_versions: Vec<String>,
    settings: RwLock<Settings>,
    scopes: BTreeMap<String, Mutex<Scope>>,
}

impl Service {
    pub fn of(config: &Config, issuing_ca: IssuingCa) -> Self {
        let scope = |scope: &IdScope| {
            let state = Scope::of(scope, &config.readings);
            (scope.id_scope.clone(), Mutex::new(state))
        };
        Self {
            readings: config.readings.clone(),
            ids: Ids::new(),
            issuing_ca,
            api_versions: config.api_versions.clone(),
            issuance_api_versions: config.issuance_api_versions.clone(),
            settings: RwLock::new(Settings::of(config)),
            scopes: config.id_scopes.iter().map(scope).collect(),
        }
    }

    pub fn settings(&self) -> Settings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The id scope with exactly this id, locked.
    pub fn scope(&self, id: &str) -> Option<MutexGuard<'_, Scope>> {
        self.scopes.get(id).map(locked)
    }

    /// Answers a request. This waits for nothing but the lock of the id scope, which is held only for
    /// the time of a few hashes, and of two signatures where a certificate is issued.
    pub fn answer(&self, request: &Request<'_>, now: Moment) -> Answer {
        let mut key = None;
        let mut answer = match self.carry_out(request, now, &mut key) {
            Ok(reply) => self.accept(request, reply),
            Err(refusal) => self.refuse(&refusal, now),
        };
        answer.key = key;
        answer
    }

    fn carry_out(
        &self,
        request: &Request<'_>,
        now: Moment,
        key: &mut Option<KeyUsed>,
    ) -> Result<Reply, Refusal> {
        let (id_scope, registration_id) = addressed(request.route)?;
        let issuance = self.issuance(request)?;
        let Some(mut scope) = self.scope_in_path(id_scope) else {
            return self.unknown_id_scope(request, registration_id, now);
        };
        let settings = self.settings();
        self.throttle(&mut scope, request.route, &settings.quotas, now)?;
        let body = readable_body(request)?;
        let verified = self.authenticate(&scope, id_scope, registration_id, request, now)?;
        *key = Some(verified.key.clone());
        let (readings, ids) = (&self.readings, &self.ids);
        let call = Call { registration_id, verified, readings, ids, now, issuance };
        match (request.route.kind, &request.route.operation_id) {
            (OperationKind::Register, _) => call.register(&mut scope, body, &settings),
            (OperationKind::Poll, Some(operation)) => call.poll(&mut scope, operation),
            _ => call.lookup(&mut scope, body),
        }
    }

    /// What the api-version has of issuance; one that is not known is refused.
    fn issuance(&self, request: &Request<'_>) -> Result<Issuance<'_>, Refusal> {
        let version = query_parameter(request.query, "api-version").ok_or(Refusal::UnknownApiVersion)?;
        let is_in = |versions: &[String]| versions.iter().any(|known| known == version);
        let in_version = is_in(&self.issuance_api_versions);
        match in_version || is_in(&self.api_versions) {
            true => Ok(Issuance { ca: &self.issuing_ca, in_version }),
            false => Err(Refusal::UnknownApiVersion),
        }
    }

    fn throttle(
        &self,
        scope: &mut Scope,
        route: &Route,
        quotas: &Quotas,
        now: Moment,
    ) -> Result<(), Refusal> {
        let admitted = match (&route.kind, &route.registration_id) {
            (OperationKind::Poll, Some(device)) => scope
                .polling(device, now.steady, &self.readings)
                .admit(quotas.polls_per_ten_seconds, now.steady),
            _ => scope.registering.admit(quotas.registrations_per_minute, now.steady),
        };
        admitted.map_err(|Throttled(wait)| {
            let told = self.readings.throttle_retry_after == Presence::Present;
            Refusal::Throttled(told.then_some(wait))
        })
    }

    fn authenticate(
        &self,
        scope: &Scope,
        id_scope: &str,
        registration_id: &str,
        request: &Request<'_>,
        now: Moment,
    ) -> Result<Verified, Refusal> {
        if let (None, Some(chain)) = (request.authorization, request.chain) {
            return scope.verify_certificate(registration_id, chain, &self.readings, now);
        }
        let strictness = Strictness {
            unescaped_signature: self.readings.unescaped_signature,
            unknown_fields: self.readings.unknown_token_fields,
        };
        let token = request
            .authorization
            .and_then(|header| std::str::from_utf8(header).ok())
            .and_then(|header| Token::read(header, strictness).ok())
            .ok_or(Refusal::Unauthorized(self.readings.missing_token))?;
        if !token.is_for(id_scope, registration_id) || !token.has_device_policy() {
            return Err(Refusal::WRONG_KEY);
        }
        let tolerance = i64::try_from(self.readings.clock_tolerance.as_secs()).unwrap_or(i64::MAX);
        if token.expiry.saturating_add(tolerance) <= now.wall.as_second() {
            return Err(Refusal::Unauthorized(self.readings.expired_token));
        }
        scope.verify(registration_id, &token, &self.readings)
    }

    fn unknown_id_scope(
        &self,
        request: &Request<'_>,
        registration_id: &str,
        now: Moment,
    ) -> Result<Reply, Refusal> {
        let refusal = Refusal::NotFound("Id scope not found.");
        let reading = match (request.authorization, request.chain) {
            (None, Some(_)) => self.readings.unknown_id_scope_with_certificate,
            _ => self.readings.unknown_id_scope,
        };
        if reading == UnknownIdScope::NotFound {
            return Err(refusal);
        }
        let state = RegistrationState::failed(registration_id, &refusal, now.wall, &self.ids);
        match request.route.kind {
            OperationKind::Lookup => Ok(Reply::Record(state)),
            _ => Ok(Reply::Completed { operation_id: self.ids.operation(), state, issued: None }),
        }
    }

    fn accept(&self, request: &Request<'_>, reply: Reply) -> Answer {
        match reply {
            Reply::Assigning { operation_id, issued } => Answer {
                status: 202,
                body: wire::json(&Operation {
                    operation_id: &operation_id,
                    status: RegistrationStatus::Assigning,
                    registration_state: None,
                }),
                error_code: None,
                retry_after: self.settings().retry_after,
                location: self.location(request),
                outcome: match request.route.kind {
                    OperationKind::Register => Outcome::Started,
                    _ => Outcome::Assigning,
                },
                key: None,
                issued,
            },
            Reply::Completed { operation_id, state, issued } => {
                let operation = Operation {
                    operation_id: &operation_id,
                    status: state.status,
                    registration_state: Some(&state),
                };
                Answer { issued, ..completed(&state, wire::json(&operation)) }
            }
            Reply::Record(state) => completed(&state, wire::json(&state)),
        }
    }

    fn refuse(&self, refusal: &Refusal, now: Moment) -> Answer {
        let (outcome, retry_after) = match refusal {
            // 0 would ask the client to retry at once.
            Refusal::Throttled(wait) => {
                (Outcome::Throttled, wait.map(|wait| wait.max(Duration::from_secs(1))))
            }
            _ => (Outcome::Refused, None),
        };
        Answer {
            status: refusal.status(),
            body: wire::error_body(refusal.code(), refusal.message(), now.wall, &self.ids),
            error_code: Some(refusal.code()),
            retry_after,
            location: None,
            outcome,
            key: None,
            issued: None,
        }
    }

    /// The `Location` header as DPS sends it: it points at the register call, not at the operation.
    fn location(&self, request: &Request<'_>) -> Option<String> {
        let (id_scope, registration_id) = addressed(request.route).ok()?;
        let id = percent_encoding::utf8_percent_encode(registration_id, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/{id_scope}/registrations/{id}/register");
        match self.readings.location {
            Location::Absolute => Some(format!("https://{}{path}", request.host?)),
            Location::Relative => Some(path),
            Location::Absent => None,
        }
    }

    fn scope_in_path(&self, id: &str) -> Option<MutexGuard<'_, Scope>> {
        match self.readings.id_scope_case {
            IdScopeCase::Exact => self.scope(id),
            IdScopeCase::Ignored => {
                let found = self.scopes.iter().find(|(known, _)| known.eq_ignore_ascii_case(id));
                found.map(|(_, scope)| locked(scope))
            }
        }
    }
}

fn locked(scope: &Mutex<Scope>) -> MutexGuard<'_, Scope> {
    scope.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer with a registration that is not in progress.
fn completed(state: &RegistrationState, body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        body,
        error_code: state.error_code,
        retry_after: None,
        location: None,
        outcome: state.status.into(),
        key: None,
        issued: None,
    }
}

/// The id scope and the registration id in the path; other requests are refused.
fn addressed(route: &Route) -> Result<(&str, &str), Refusal> {
    match (route.kind, &route.id_scope, &route.registration_id) {
        (OperationKind::Other, ..) if route.known_path => Err(Refusal::MethodNotAllowed),
        (OperationKind::Other, ..) => Err(Refusal::UnknownPath),
        (_, Some(id_scope), Some(registration_id)) => Ok((id_scope, registration_id)),
        _ => Err(Refusal::UnknownPath),
    }
}

/// The body, if the call has one. Some clients send a body with a poll, too, which is ignored.
fn readable_body<'a>(request: &Request<'a>) -> Result<&'a [u8], Refusal> {
    if request.route.kind == OperationKind::Poll {
        return Ok(&[]);
    }
    let media_type = request.content_type.and_then(|value| value.split(';').next());
    if !media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::UnsupportedMediaType);
    }
    request.body.ok_or(Refusal::BadRequest("The request is larger than 96 KB."))
}

impl From<RegistrationStatus> for Outcome {
    fn from(status: RegistrationStatus) -> Self {
        match status {
            RegistrationStatus::Unassigned => Self::Unassigned,
            RegistrationStatus::Assigning => Self::Assigning,
            RegistrationStatus::Assigned => Self::Assigned,
            RegistrationStatus::Failed => Self::Failed,
            RegistrationStatus::Disabled => Self::Disabled,
        }
    }
}
