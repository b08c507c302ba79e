//! Doors for the fuzz targets to what reads answers, which is seen in this folder only.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;

use super::answer::{Assignment, HttpAnswer, Reader};
use super::attestation::{CredentialId, CredentialKind};
use super::call::Call;
use super::clock_offset::ClockOffset;
use super::error::DpsError;
use super::ids::RegistrationId;
use super::issuance::CertificateRequest;
use super::refusal::{MadeWith, success};
use super::wire::{Operation, RegistrationState};
use crate::clock::Now;

/// An answer as it came.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What an answer means to the client. `None`: the operation goes on.
pub(crate) fn read(
    call: Call,
    answer: Answer,
    id: &RegistrationId,
    hub_suffixes: &[String],
) -> Option<Result<Assignment, DpsError>> {
    read_of(call, answer, id, hub_suffixes, None)
}

fn read_of(
    call: Call,
    answer: Answer,
    id: &RegistrationId,
    hub_suffixes: &[String],
    request: Option<&CertificateRequest>,
) -> Option<Result<Assignment, DpsError>> {
    let Answer { status, headers, body } = answer;
    let kind = CredentialKind::GroupKey;
    let issuer = CredentialId::parse(kind, "00000000000000aa")?;
    let at = Now { wall: Timestamp::UNIX_EPOCH, mono: Instant::now() };
    let clock = ClockOffset::default();
    let token = clock.basis(issuer, at.wall.as_second(), at.mono);
    let answer = HttpAnswer { status, headers, body, at };
    let reader = Reader { id, kind, hub_suffixes, request, status };
    match call {
        Call::Lookup => Some(
            success::<RegistrationState>(call, &answer, MadeWith::Token(&token, &clock))
                .and_then(|state| reader.lookup(state)),
        ),
        Call::Register { .. } | Call::Poll => {
            match success::<Operation>(call, &answer, MadeWith::Token(&token, &clock)) {
                Ok(operation) => reader.operation(operation),
                Err(error) => Some(Err(error)),
            }
        }
    }
}

/// What an answer means to a registration that asked for a certificate for this key, in PEM.
pub(crate) fn read_issued(
    body: Vec<u8>,
    id: &RegistrationId,
    key: &str,
    hub_suffixes: &[String],
) -> Option<Result<Assignment, DpsError>> {
    let call = Call::Register { payload: false, csr: true };
    let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body };
    let request = CertificateRequest::of_key(id, key);
    read_of(call, answer, id, hub_suffixes, Some(&request))
}

/// The wait that the headers ask for.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    super::retry_after::parse(headers, now)
}
