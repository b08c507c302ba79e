//! A fault: what it does to an answer, which requests it hits and how often.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::duration;
use crate::dps::RegistrationStatus;
use crate::route::OperationKind;

/// A fault: which requests it hits, how often, and what it does.
///
/// If several fit a request, the one that was injected first applies.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// Only this id scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_scope: Option<String>,
    /// Only this device; upper and lower case do not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// Only these calls; by default those that the action makes sense for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationKind>,
    /// How many requests it hits; by default all until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<NonZeroU32>,
    /// Hits only every n-th request that fits, beginning with the n-th.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<NonZeroU32>,
    /// Whether DPS carries the request out before the fault. Actions that change a true answer always
    /// do that; the others otherwise replace DPS, which then does not see the request.
    #[serde(default)]
    pub processed: bool,
    pub action: FaultAction,
}

/// What a fault does to an answer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FaultAction {
    /// An error status, with an error body of DPS if there is a code.
    Status {
        status: u16,
        /// The text of the header as it is sent: seconds, a date or something else.
        #[serde(default)]
        retry_after: Option<String>,
        #[serde(default)]
        error_code: Option<u32>,
    },
    /// The true answer, late: the wait comes before DPS sees the request, or after with `processed`.
    Delay {
        #[serde(rename = "for", with = "duration::required")]
        time: Duration,
    },
    /// Exactly this answer.
    Answer {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: RawBody,
    },
    /// 200 with JSON that ends in the middle.
    Malformed,
    /// 200 with the log-in page of a captive portal.
    Html,
    /// The true answer with another content type, or with none.
    ContentType {
        #[serde(default)]
        value: Option<String>,
    },
    /// The true answer, cut off in the middle of the body.
    Truncated,
    /// The connection is reset. With `processed` the answer is lost.
    Reset,
    /// The true answer, so many bytes in a second.
    Slow {
        bytes_per_second: NonZeroU32,
        from: SlowFrom,
    },
    /// 200 with a very large answer.
    Huge {
        bytes: u64,
        of: HugeOf,
    },
    /// 200 with a chunked body that never ends.
    Endless,
    Redirect {
        status: u16,
        location: String,
    },
    /// The true answer with some fields replaced; `null` removes a field.
    Rewrite {
        /// Fields beside `registrationState`.
        #[serde(default)]
        operation: Map<String, Value>,
        /// Fields of `registrationState`, or of the record that a lookup returns.
        #[serde(default)]
        registration_state: Map<String, Value>,
    },
    /// Operations stay `assigning`, even if they have completed.
    Assigning,
    /// Operations complete with this result instead of the true one.
    Outcome {
        status: RegistrationStatus,
        #[serde(default)]
        error_code: Option<u32>,
        #[serde(default)]
        error_message: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RawBody {
    Text(String),
    Base64(String),
}

/// The part of an answer from which on it is sent slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SlowFrom {
    /// With the status line.
    Head,
    /// After the headers.
    Body,
}

/// What a very large answer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HugeOf {
    /// White space, without the JSON after it.
    Space,
    /// Arrays in arrays.
    Nesting,
    /// One header.
    Header,
    /// Compressed white space, which would be 158 times as much.
    Gzip,
}

/// Why a fault is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("action.status: {0} must be from 200 to 599")]
    Status(u16),
    #[error("action: {0:?} cannot stand in a header")]
    Header(String),
    #[error("action.body.base64: not base64")]
    Body,
}

impl Fault {
    /// A fault that hits every device.
    pub fn global(action: FaultAction) -> Self {
        Self {
            id_scope: None,
            registration_id: None,
            operations: Vec::new(),
            times: None,
            every: None,
            processed: false,
            action,
        }
    }

    /// A fault that hits one device, in any id scope.
    pub fn device(registration_id: &str, action: FaultAction) -> Self {
        Self { registration_id: Some(registration_id.to_owned()), ..Self::global(action) }
    }

    /// Hits only this kind of call.
    pub fn on(mut self, operation: OperationKind) -> Self {
        self.operations.push(operation);
        self
    }

    /// Hits this number of requests; 0 is taken as 1.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(NonZeroU32::new(times).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Hits only every n-th request that fits; 0 is taken as 1.
    pub fn every(mut self, every: u32) -> Self {
        self.every = Some(NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Lets DPS carry the request out first.
    pub fn after_processing(mut self) -> Self {
        self.processed = true;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), FaultError> {
        match &self.action {
            FaultAction::Status { status, retry_after, .. } => {
                check_status(*status)?;
                check_header(retry_after.as_deref().unwrap_or_default())
            }
            FaultAction::Redirect { status, location } => {
                check_status(*status)?;
                check_header(location)
            }
            FaultAction::ContentType { value } => check_header(value.as_deref().unwrap_or_default()),
            FaultAction::Answer { status, headers, body } => {
                check_status(*status)?;
                for (name, value) in headers {
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| FaultError::Header(name.clone()))?;
                    check_header(value)?;
                }
                body.bytes().map(drop).ok_or(FaultError::Body)
            }
            _ => Ok(()),
        }
    }
}

impl FaultAction {
    /// An error status without a body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, error_code: None }
    }

    /// 429 with this text as `Retry-After`.
    pub fn throttled(retry_after: &str) -> Self {
        Self::Status { status: 429, retry_after: Some(retry_after.to_owned()), error_code: Some(429_001) }
    }

    /// Replaces one field of `registrationState`.
    pub fn rewrite_state(field: &str, value: Value) -> Self {
        let registration_state = Map::from_iter([(field.to_owned(), value)]);
        Self::Rewrite { operation: Map::new(), registration_state }
    }

    /// 200 with this text as JSON.
    pub fn json(body: &str) -> Self {
        let json = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
        Self::Answer { status: 200, headers: BTreeMap::from([json]), body: RawBody::Text(body.to_owned()) }
    }

    /// Whether DPS has to carry the request out, since the action changes its answer.
    pub(crate) fn needs_answer(&self) -> bool {
        match self {
            Self::Delay { .. }
            | Self::ContentType { .. }
            | Self::Truncated
            | Self::Slow { .. }
            | Self::Rewrite { .. }
            | Self::Assigning
            | Self::Outcome { .. } => true,
            Self::Status { .. }
            | Self::Answer { .. }
            | Self::Malformed
            | Self::Html
            | Self::Reset
            | Self::Huge { .. }
            | Self::Endless
            | Self::Redirect { .. } => false,
        }
    }

    /// The calls that are hit if the fault names none.
    pub(super) fn usual_operations(&self) -> &'static [OperationKind] {
        use OperationKind::{Lookup, Poll, Register};
        match self {
            // Register can answer only with `disabled`; other results are answered to a poll.
            Self::Outcome { status, .. } if *status != RegistrationStatus::Disabled => &[Poll, Lookup],
            _ => &[Register, Poll, Lookup],
        }
    }
}

impl RawBody {
    /// The bytes of the body; none if it should be base64 and is not.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Base64(text) => STANDARD.decode(text).ok(),
        }
    }
}

fn check_status(status: u16) -> Result<(), FaultError> {
    match (200..=599).contains(&status) {
        true => Ok(()),
        false => Err(FaultError::Status(status)),
    }
}

fn check_header(value: &str) -> Result<(), FaultError> {
    HeaderValue::from_str(value).map(drop).map_err(|_| FaultError::Header(value.to_owned()))
}
