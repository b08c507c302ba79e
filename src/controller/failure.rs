//! What DPS's errors mean to a user: reason, message, and what is kept of the answer. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::Reason;
use crate::api::device::LastError;
use crate::dps::error::{Detail, DpsError};

/// The reason of the device's Ready condition.
pub fn reason(error: &DpsError) -> Reason {
    match error {
        DpsError::Unreachable(_)
        | DpsError::Throttled { .. }
        | DpsError::Server { .. }
        | DpsError::Conflict(_)
        | DpsError::ClockOff => Reason::ServiceUnavailable,
        DpsError::Deadline => Reason::Registering,
        DpsError::Unauthorized(_) => Reason::Unauthorized,
        DpsError::NotFound(_) => Reason::EnrollmentNotFound,
        DpsError::Rejected(_) => Reason::InvalidConfiguration,
        DpsError::Disabled(_) => Reason::Disabled,
        DpsError::AllocationFailed(_) => Reason::AllocationFailed,
        DpsError::InvalidResponse(_) => Reason::InvalidResponse,
    }
}

/// What happened and what to do. No times and no counters, so that repeating it writes nothing.
pub fn message(error: &DpsError) -> String {
    let what = match error {
        DpsError::Unreachable(why) => format!("DPS cannot be reached: {}. It is tried again.", why.as_str()),
        DpsError::Throttled { .. } => "DPS throttles; the registration is tried again when it allows.".to_owned(),
        DpsError::Server { .. } => "DPS answered with a server error; it is tried again.".to_owned(),
        DpsError::Conflict(_) => "Another operation for this registration is going on; it is tried again.".to_owned(),
        DpsError::Deadline => "DPS has been at the registration for five minutes without an end; it is asked again.".to_owned(),
        DpsError::ClockOff => {
            "The clocks of DPS and of the operator are more than five minutes apart; it is tried again with DPS's time.".to_owned()
        }
        DpsError::Unauthorized(detail) => unauthorized(detail),
        DpsError::NotFound(_) => {
            "DPS knows no enrollment for this device. Check spec.idScope and that the enrollment group exists.".to_owned()
        }
        DpsError::Rejected(_) => "DPS refused the request as invalid. Check spec.payload.".to_owned(),
        DpsError::Disabled(_) => "The enrollment is disabled in DPS. Enable it there.".to_owned(),
        DpsError::AllocationFailed(_) => {
            "DPS could not assign a hub. Check the hubs linked to the DPS instance and its allocation policy.".to_owned()
        }
        DpsError::InvalidResponse(what) => format!("The answer was not accepted: {}.", what.as_str()),
    };
    match error.detail().and_then(said) {
        Some(said) => format!("{what} DPS said: {}.", said.trim_end_matches('.')),
        None => what,
    }
}

fn unauthorized(detail: &Detail) -> String {
    let skew = match detail.clock_skew {
        Some(_) => " The clocks of DPS and of the operator are more than five minutes apart.",
        None => "",
    };
    format!(
        "DPS refused the credentials. Either the enrollment group's key is wrong, the enrollment is gone, an IP \
         filter is in the way, or the operator's clock is off.{skew}"
    )
}

/// Code and message; the tracking id is different each time and stands in `lastError`.
fn said(detail: &Detail) -> Option<String> {
    match (detail.code, detail.message.as_deref()) {
        (Some(code), Some(message)) => Some(format!("{code} {message}")),
        (Some(code), None) => Some(code.to_string()),
        (None, Some(message)) => Some(message.to_owned()),
        (None, None) => None,
    }
}

/// What `status.lastError` keeps. The time is always there: the wait after a restart counts from it.
pub fn last_error(error: &DpsError, now: Timestamp) -> LastError {
    let detail = error.detail().cloned().unwrap_or_default();
    LastError {
        http_status: detail.http_status.map(i32::from),
        code: detail.code,
        message: detail.message,
        tracking_id: detail.tracking_id,
        time: Some(Time(now)),
    }
}
