//! The error answers of DPS: HTTP status, six-digit code and message.

use std::time::Duration;

use crate::config::Unauthorized;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownPath,
    MethodNotAllowed,
    UnknownApiVersion,
    UnsupportedMediaType,
    /// The body cannot be parsed or validated.
    BadRequest(&'static str),
    Unauthorized(Unauthorized),
    /// The chain of a certificate reaches no verified CA.
    CaNotFound(Unauthorized),
    /// The enrollment, registration, operation or id scope does not exist.
    NotFound(&'static str),
    /// Another operation of this registration is in progress.
    Conflict,
    PreconditionFailed,
    /// The quota is used up; with the time to wait, if DPS sends it.
    Throttled(Option<Duration>),
}

impl Refusal {
    /// A signature that is not from an enrollment key, or a token for another resource.
    pub const WRONG_KEY: Self = Self::Unauthorized(Unauthorized::Code401002);

    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownPath | Self::NotFound(_) => 404,
            Self::MethodNotAllowed => 405,
            Self::UnknownApiVersion | Self::BadRequest(_) => 400,
            Self::UnsupportedMediaType => 415,
            Self::Unauthorized(_) | Self::CaNotFound(_) => 401,
            Self::Conflict => 409,
            Self::PreconditionFailed => 412,
            Self::Throttled(_) => 429,
        }
    }

    pub fn code(&self) -> u32 {
        match self {
            Self::UnknownPath => 404_000,
            Self::MethodNotAllowed => 405_000,
            Self::UnknownApiVersion | Self::BadRequest(_) => 400_004,
            Self::UnsupportedMediaType => 415_000,
            Self::Unauthorized(code) | Self::CaNotFound(code) => match code {
                Unauthorized::Code401000 => 401_000,
                Unauthorized::Code401002 => 401_002,
            },
            Self::NotFound(_) => 404_201,
            Self::Conflict => 409_203,
            Self::PreconditionFailed => 412_000,
            Self::Throttled(_) => 429_001,
        }
    }

    pub fn message(&self) -> &'static str {
        match self {
            Self::UnknownPath => "Resource not found.",
            Self::MethodNotAllowed => "Method not allowed.",
            Self::UnknownApiVersion => "The api-version is missing or not supported.",
            Self::BadRequest(message) | Self::NotFound(message) => message,
            Self::UnsupportedMediaType => "Unsupported media type; use application/json.",
            Self::Unauthorized(_) => "Unauthorized",
            Self::CaNotFound(_) => "CA certificate not found.",
            Self::Conflict | Self::PreconditionFailed => "Precondition failed",
            Self::Throttled(_) => "Too many requests.",
        }
    }
}
