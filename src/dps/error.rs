//! Everything that can go wrong between us and DPS, classified once.

use std::borrow::Cow;
use std::time::Duration;

use super::attestation::CredentialId;
use super::call::Call;
use super::clock_offset::TokenClock;
use super::scrub::Shown;
use super::tls::{Handshake, Presented, TlsFailure};

/// What DPS said when it refused, without anything that could be secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// HTTP status of the answer.
    pub http_status: Option<u16>,
    /// DPS's six-digit code.
    pub code: Option<i32>,
    pub message: Option<Shown>,
    pub tracking_id: Option<Shown>,
}

/// A token or a certificate that DPS refused (HTTP 401): what it was made from, and what DPS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the credential that signed the token, or the certificate itself.
    pub issuer: CredentialId,
    pub clock: TokenClock,
    /// Of a device with a certificate.
    pub certificate: Option<Box<Presented>>,
    pub call: Call,
    pub detail: Detail,
}

impl Refusal {
    /// True if DPS refused the credential: the clock that the token was made with was right, or DPS has asked
    /// for the certificate.
    pub fn concerns_credential(&self) -> bool {
        let seen = |presented: &Presented| presented.handshake != Handshake::NotAskedFor;
        match self.clock {
            TokenClock::Right | TokenClock::Corrected(_) => self.certificate.as_deref().is_none_or(seen),
            TokenClock::Wrong | TokenClock::Unbelievable(_) => false,
        }
    }
}

#[cfg(test)]
impl Refusal {
    /// A refusal of this credential, whose token was made with the right clock.
    pub fn of(issuer: CredentialId) -> Self {
        let call = Call::Register { payload: false, csr: false };
        Self { issuer, clock: TokenClock::Right, certificate: None, call, detail: Detail::default() }
    }
}

/// Why a host gave no HTTP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    Dns,
    Connect,
    Tls(TlsFailure),
    Timeout,
    /// The connection broke before a whole answer was there.
    Broken,
    /// What answers does not speak HTTP.
    NotHttp,
    /// The proxy cannot be connected to.
    Proxy,
    /// The proxy does not take the user and password that it was given, or wants some (407).
    ProxyLogin,
    /// The proxy opens no connection to the host: any other status.
    ProxyRefusal,
    /// What should be the proxy does not answer as one.
    ProxyBroken,
    /// Nothing was sent.
    NoRandomness,
}

impl Unreachable {
    /// The request may have arrived.
    fn may_have_arrived(self) -> bool {
        match self {
            Self::Timeout | Self::Broken | Self::NotHttp => true,
            Self::Dns
            | Self::Connect
            | Self::Tls(_)
            | Self::Proxy
            | Self::ProxyLogin
            | Self::ProxyRefusal
            | Self::ProxyBroken
            | Self::NoRandomness => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => {
                "its name cannot be resolved; check the integration's spec.hostname and the cluster's DNS"
            }
            Self::Connect => {
                "it cannot be connected to; check the integration's spec.hostname, and what firewall and network policies let through"
            }
            Self::Tls(failure) => failure.as_str(),
            Self::Timeout => "it did not answer in time",
            Self::Broken => "the connection broke before the answer was complete",
            Self::NotHttp => "what answers there does not speak HTTP; check spec.hostname",
            Self::Proxy => "the proxy cannot be connected to; check --dps-proxy",
            Self::ProxyLogin => {
                "the proxy refuses the operator (407); check the user and the password in --dps-proxy"
            }
            Self::ProxyRefusal => {
                "the proxy answers, but opens no connection to it (it answers CONNECT with another status than 200); check that the proxy allows the host and port of spec.hostname and can reach it, and --dps-proxy"
            }
            Self::NoRandomness => "no key can be made for the device: the system gives no random numbers",
            Self::ProxyBroken => {
                "what --dps-proxy names does not answer as an HTTP proxy, or breaks the connection off"
            }
        }
    }
}

/// What was wrong with an answer that came in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    TooLarge,
    NotJson,
    Redirect,
    UnexpectedStatus,
    NoOperationId,
    NoHub,
    HubHostname,
    /// The hub: it is a plain host name.
    HubSuffix(Box<str>),
    RegistrationId,
    DeviceId,
    PayloadTooLarge,
    NoIssuedCertificate,
    IssuedCertificate,
    RegistrationStatus,
}

impl Invalid {
    /// What was wrong, and what to do about it where that is not plain.
    pub fn say(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::HubSuffix(hub) => {
                return Cow::Owned(format!(
                    "the assigned hub {} is not under an allowed suffix; if it is yours, add it to --allowed-hub-suffixes (the chart's allowedHubSuffixes)",
                    hub
                ));
            }
            Self::TooLarge => {
                "the answer is larger than 256 KiB, or has more than 64 headers or 16 KiB of them"
            }
            Self::NotJson => {
                "the answer is not the JSON that DPS sends; a proxy or a login page may answer in its place: check the integration's spec.hostname, and --dps-proxy"
            }
            Self::Redirect => "the answer is a redirect, which is never followed",
            Self::UnexpectedStatus => "the HTTP status is none that DPS uses here",
            Self::NoOperationId => "the answer names no operation",
            Self::NoHub => "the device is said to be assigned, but no hub or device id is named",
            Self::HubHostname => "the assigned hub is not a plain host name",
            Self::RegistrationId => "the answer names another registration id",
            Self::DeviceId => "the answer names another device id",
            Self::PayloadTooLarge => "the returned payload is larger than 32 KiB",
            Self::NoIssuedCertificate => {
                "DPS was asked for a certificate and has issued none; does the enrollment name a certificate policy?"
            }
            Self::IssuedCertificate => {
                "the certificate that DPS has issued is none for this device and its key"
            }
            Self::RegistrationStatus => "the registration's status is none that DPS uses",
        })
    }
}

/// A call to DPS that did not end with an assignment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpsError {
    #[error("DPS cannot be reached: {}", .0.as_str())]
    Unreachable(Unreachable),
    #[error("DPS throttles")]
    Throttled { retry_after: Option<Duration>, detail: Detail },
    #[error("DPS answered with a server error")]
    Server { retry_after: Option<Duration>, detail: Detail },
    #[error("another operation for this registration is going on")]
    Conflict(Detail),
    #[error("DPS no longer knows the operation")]
    Forgotten(Detail),
    #[error("the operation did not end within its time limit")]
    Deadline,
    /// The next token is made for DPS's time.
    #[error("DPS refused a token that was made with a wrong clock")]
    ClockOff,
    #[error("DPS refused the credentials")]
    Unauthorized(Refusal),
    #[error("DPS knows no such enrollment or id scope")]
    NotFound(Detail),
    /// Of lookups: DPS knows no registration, or one that has no hub.
    #[error("the device is not assigned to a hub")]
    NotAssigned(Detail),
    #[error("DPS refused the request")]
    Rejected { call: Call, detail: Detail },
    #[error("the enrollment is disabled")]
    Disabled(Detail),
    /// DPS accepted the device.
    #[error("DPS could not assign a hub")]
    AllocationFailed(Detail),
    /// DPS accepted the device; the cause may pass by itself.
    #[error("DPS was interrupted while it assigned a hub")]
    AllocationInterrupted(Detail),
    #[error("DPS gave an answer that cannot be accepted: {}", .0.say())]
    InvalidResponse(Invalid),
}

impl DpsError {
    /// What DPS said, if it said anything.
    pub fn detail(&self) -> Option<&Detail> {
        match self {
            Self::Throttled { detail, .. } | Self::Server { detail, .. } => Some(detail),
            Self::Unauthorized(refusal) => Some(&refusal.detail),
            Self::Conflict(detail)
            | Self::Forgotten(detail)
            | Self::NotFound(detail)
            | Self::NotAssigned(detail)
            | Self::Rejected { detail, .. }
            | Self::Disabled(detail)
            | Self::AllocationFailed(detail)
            | Self::AllocationInterrupted(detail) => Some(detail),
            Self::Unreachable(_) | Self::Deadline | Self::ClockOff | Self::InvalidResponse(_) => None,
        }
    }

    /// True if a registration that ended like this may have taken effect, as far as the error alone tells.
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Unreachable(why) => why.may_have_arrived(),
            Self::Server { .. }
            | Self::Conflict(_)
            | Self::Forgotten(_)
            | Self::Deadline
            | Self::Disabled(_)
            | Self::AllocationFailed(_)
            | Self::AllocationInterrupted(_)
            | Self::InvalidResponse(_) => true,
            Self::Throttled { .. }
            | Self::ClockOff
            | Self::Unauthorized(_)
            | Self::NotFound(_)
            | Self::NotAssigned(_)
            | Self::Rejected { .. } => false,
        }
    }

    /// The wait that DPS itself asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
