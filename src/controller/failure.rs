//! What DPS's errors mean to a user: reason, message, and what is kept of the answer. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::Reason;
use crate::api::device::LastError;
use crate::api::retry::{self, RetryClass};
use crate::dps::attestation::CredentialKind;
use crate::dps::attestation::certificate::CertificateFacts;
use crate::dps::call::Call;
use crate::dps::clock_offset::{Off, TokenClock};
use crate::dps::error::{Detail, DpsError, Refusal};
use crate::dps::tls::{Handshake, Presented};

/// The reason of the device's Ready condition.
pub fn reason(error: &DpsError) -> Reason {
    match error {
        DpsError::Unreachable(_)
        | DpsError::Throttled { .. }
        | DpsError::Server { .. }
        | DpsError::Conflict(_)
        | DpsError::Forgotten(_)
        | DpsError::AllocationInterrupted(_)
        | DpsError::ClockOff => Reason::ServiceUnavailable,
        DpsError::Deadline => Reason::Registering,
        DpsError::Unauthorized(_) => Reason::Unauthorized,
        DpsError::NotFound(_) | DpsError::NotAssigned(_) => Reason::EnrollmentNotFound,
        DpsError::Rejected { .. } => Reason::InvalidConfiguration,
        DpsError::Disabled(_) => Reason::Disabled,
        DpsError::AllocationFailed(_) => Reason::AllocationFailed,
        DpsError::InvalidResponse(_) => Reason::InvalidResponse,
    }
}

/// When what a person has to mend is tried again. What is mended in Azure is not seen from here.
pub const AGAIN: &str = "It is tried again after a minute, later every hour, and at once after a change here or with \
     another value of the annotation reconcile.fluxcd.io/requestedAt.";

/// What happened, what to do and when it is tried again. No times and no counters, so that repeating it
/// writes nothing.
pub fn message(error: &DpsError) -> String {
    let what = match error {
        DpsError::Unreachable(why) => format!("DPS cannot be reached: {}. It is tried again.", why.as_str()),
        DpsError::Throttled { .. } => "DPS throttles: it has had more calls than its quota. It is tried again when DPS allows.".to_owned(),
        DpsError::Server { retry_after: None, .. } => {
            "DPS answered with a server error; it is tried again.".to_owned()
        }
        DpsError::Server { retry_after: Some(_), .. } => "DPS answered with a server error and asks to wait; it is tried again after that time, at most an hour, and at once with another value of the annotation reconcile.fluxcd.io/requestedAt.".to_owned(),
        DpsError::Conflict(_) => "Another operation for this registration is going on; it is tried again.".to_owned(),
        DpsError::Forgotten(_) => {
            "DPS no longer knows the operation that it had begun for this registration; the device is registered again.".to_owned()
        }
        DpsError::Deadline => "DPS took the registration and has not come to its end in the time it was given: five minutes, and as long as it asked to wait, at most an hour. The device is registered again.".to_owned(),
        DpsError::ClockOff => {
            "The clocks of DPS and of the operator are more than five minutes apart; it is tried again with DPS's time.".to_owned()
        }
        DpsError::Unauthorized(refusal) => unauthorized(refusal),
        DpsError::NotFound(_) | DpsError::NotAssigned(_) => {
            "DPS knows no enrollment for this device. Check spec.idScope of the integration, and in Azure that the enrollment group exists.".to_owned()
        }
        DpsError::Rejected { call, detail } => rejected(*call, detail),
        DpsError::Disabled(_) => "The enrollment is disabled in DPS. Enable it there.".to_owned(),
        DpsError::AllocationFailed(detail) => allocation_failed(detail).to_owned(),
        DpsError::AllocationInterrupted(_) => {
            "DPS accepted the device and was interrupted while it assigned a hub; the device is registered again.".to_owned()
        }
        DpsError::InvalidResponse(what) => format!("The answer was not accepted: {}.", what.say()),
    };
    let again = match retry::class_of(reason(error)) {
        RetryClass::Terminal => format!(" {AGAIN}"),
        RetryClass::Transient | RetryClass::Looked => String::new(),
    };
    format!("{what}{again}{}", said_by_dps(error))
}

/// What DPS itself said, as the end of a message; empty if it said nothing.
pub fn said_by_dps(error: &DpsError) -> String {
    let said = error.detail().and_then(said);
    said.map(|said| format!(" DPS said: {}.", said.trim_end_matches('.'))).unwrap_or_default()
}

/// What may be wrong with a certificate. What DPS says of it does not tell these apart.
fn certificate_refused(presented: &Presented, call: Call) -> String {
    let CertificateFacts { issuer, last: (last, above), .. } = &presented.facts;
    match presented.handshake {
        Handshake::NotAskedFor => "DPS did not ask for a client certificate in the TLS handshake, so it has not seen the \
             device's. Check spec.hostname of the integration, and that no proxy on the way ends TLS connections."
            .to_owned(),
        Handshake::KeyNotTaken => "DPS takes no signature that the key of the device's certificate can make. Have the \
             certificate issued for another kind of key: ECDSA with P-256, or RSA with 2048 bits."
            .to_owned(),
        Handshake::Refused => format!(
            "The certificate issued by {issuer} with the thumbprints {} was refused in the TLS handshake, which DPS is not \
             known to do: check spec.hostname of the integration and what is on the way.",
            presented.facts.shown_thumbprints(),
        ),
        Handshake::Sent => format!(
            "DPS refused the certificate issued by {issuer} with the thumbprints {}. Either no enrollment has it (an \
             individual enrollment has to hold this very certificate, a group the one of a CA above it); or that CA is not \
             uploaded to the DPS instance or not verified there; or a CA is missing in tls.crt (the last certificate sent is \
             that of {last}, issued by {above}); or an IP filter is in the way.{}",
            presented.facts.shown_thumbprints(),
            if call == Call::Lookup { UNKNOWN_TO_A_LOOKUP } else { "" },
        ),
    }
}

const UNKNOWN_TO_A_LOOKUP: &str = " It was asked where the device is, and may answer so to one that it does not know: for a \
     device that was never registered, set registration.onCreate to Register.";

fn unauthorized(refusal: &Refusal) -> String {
    if let Some(presented) = &refusal.certificate {
        return certificate_refused(presented, refusal.call);
    }
    let key = match refusal.issuer.kind() {
        CredentialKind::GroupKey => {
            "the enrollment group's key is wrong (of another group, or of another DPS instance than spec.idScope names)"
        }
        CredentialKind::IndividualKey | CredentialKind::Certificate => {
            "the key in the Secret that spec.attestation names is not that of the device's individual enrollment"
        }
    };
    let causes = format!(
        "DPS refused the credentials. Either {key}, the enrollment is gone, an IP filter is in the way, or the operator's \
         clock is off."
    );
    let side = |off| match off {
        Off::Behind => "behind",
        Off::Ahead => "ahead of",
    };
    match refusal.clock {
        TokenClock::Right | TokenClock::Wrong if refusal.call == Call::Lookup => format!(
            "{causes} It was asked where the device is, and may answer so to one that it does not know: for a device that \
             was never registered, set registration.onCreate to Register, or register another one with this key."
        ),
        TokenClock::Right | TokenClock::Wrong => causes,
        TokenClock::Corrected(off) => format!(
            "{causes} The clocks of DPS and of the operator are more than five minutes apart (the operator's is {} DPS's); \
             DPS's time was used already.",
            side(off)
        ),
        TokenClock::Unbelievable(off) => format!(
            "DPS refused the credentials, and the operator's clock is more than a day {} the answer's: that is too much to be \
             corrected for. Set the clock of the operator's node; if that one is right, something else answers in DPS's place.",
            side(off)
        ),
    }
}

/// What can be wrong with a request depends on what it carried, and on what DPS says of it.
fn rejected(call: Call, detail: &Detail) -> String {
    let status = detail.http_status.unwrap_or(400);
    match (status, call) {
        (400 | 413 | 422, Call::Register { csr: true, .. }) => {
            "DPS refused the request as invalid. Check that the device's enrollment has a certificate policy, which \
             spec.certificate of the integration needs, and spec.payload if there is one."
                .to_owned()
        }
        (400 | 413 | 422, Call::Register { payload: true, csr: false }) => {
            "DPS refused the request as invalid. Check spec.payload.".to_owned()
        }
        (400 | 413 | 422, Call::Register { payload: false, csr: false } | Call::Poll | Call::Lookup) => {
            "DPS refused the request as invalid, although nothing in it can be set here. Check spec.hostname of the \
             integration, and whether a proxy changes requests; otherwise report it with the tracking id."
                .to_owned()
        }
        (401..=403 | 451, _) => format!(
            "The request was forbidden (HTTP {status}), which DPS itself does not say. Check spec.hostname of the integration, \
             and what a firewall, a proxy or the instance's network settings let through."
        ),
        _ => format!(
            "The request was refused with HTTP {status}, which DPS does not say of a well-formed one. Check spec.hostname of \
             the integration, and whether a proxy answers or changes requests."
        ),
    }
}

/// Codes that speak of the hub's refusal: a hub was chosen, and does not accept DPS.
fn allocation_failed(detail: &Detail) -> &'static str {
    match detail.code {
        Some(400_209 | 401_000..=403_999) => {
            "DPS accepted the device, but cannot use the hub that is linked to it: the link's access policy key may be \
             stale, or the hub gone. Renew the link under \"Linked IoT hubs\" of the DPS instance."
        }
        _ => {
            "DPS could not assign a hub. Check the hubs linked to the DPS instance and its allocation policy."
        }
    }
}

/// Code and message; the tracking id is different each time and stands in `lastError`.
fn said(detail: &Detail) -> Option<String> {
    match (detail.code, detail.message.as_ref()) {
        (Some(code), Some(message)) => Some(format!("{code} {message}")),
        (Some(code), None) => Some(code.to_string()),
        (None, Some(message)) => Some(message.to_string()),
        (None, None) => None,
    }
}

/// What `status.lastError` keeps. The time is always there: the wait after a restart counts from it.
pub fn last_error(error: &DpsError, now: Timestamp) -> LastError {
    let detail = error.detail().cloned().unwrap_or_default();
    LastError {
        http_status: detail.http_status.map(i32::from),
        code: detail.code,
        message: detail.message.map(String::from),
        tracking_id: detail.tracking_id.map(String::from),
        time: Some(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dps::attestation::CredentialId;
    use crate::dps::error::{Invalid, Unreachable};

    fn status(http_status: u16) -> Detail {
        Detail { http_status: Some(http_status), ..Detail::default() }
    }

    fn refused(call: Call) -> DpsError {
        let issuer = CredentialId::parse(CredentialKind::GroupKey, "0000000000000001").unwrap();
        DpsError::Unauthorized(Refusal { call, ..Refusal::of(issuer) })
    }

    #[test]
    fn what_a_person_has_to_mend_says_how_it_is_tried_at_once_and_what_may_pass_does_not_ask_for_it() {
        let register = Call::Register { payload: true, csr: false };
        for error in [
            refused(register),
            refused(Call::Lookup),
            DpsError::NotFound(status(404)),
            DpsError::NotAssigned(status(404)),
            DpsError::Rejected { call: register, detail: status(400) },
            DpsError::Disabled(Detail::default()),
            DpsError::AllocationFailed(Detail::default()),
            DpsError::InvalidResponse(Invalid::NoHub),
        ] {
            assert!(message(&error).contains(AGAIN), "{error:?}");
        }
        for error in [
            DpsError::Unreachable(Unreachable::Dns),
            DpsError::Throttled { retry_after: None, detail: status(429) },
            DpsError::Server { retry_after: None, detail: status(500) },
            DpsError::Server { retry_after: Some(Duration::from_secs(3600)), detail: status(503) },
            DpsError::Conflict(status(409)),
            DpsError::Forgotten(status(404)),
            DpsError::AllocationInterrupted(Detail::default()),
            DpsError::ClockOff,
            DpsError::Deadline,
        ] {
            let message = message(&error);
            assert!(!message.contains(AGAIN) && message.contains("again"), "{message}");
        }
    }

    #[test]
    fn what_was_refused_is_named_by_what_the_request_carried_and_by_the_status() {
        let with_payload = Call::Register { payload: true, csr: false };
        let without = Call::Register { payload: false, csr: false };
        for (http_status, call, check, not) in [
            (400, with_payload, "spec.payload", "spec.hostname"),
            (413, with_payload, "spec.payload", "spec.hostname"),
            (400, without, "spec.hostname", "spec.payload"),
            (400, Call::Poll, "spec.hostname", "spec.payload"),
            (422, Call::Lookup, "spec.hostname", "spec.payload"),
            (403, with_payload, "firewall", "spec.payload"),
            (451, Call::Lookup, "firewall", "spec.payload"),
            (405, with_payload, "HTTP 405", "spec.payload"),
            (415, without, "HTTP 415", "firewall"),
        ] {
            let message = message(&DpsError::Rejected { call, detail: status(http_status) });
            assert!(message.contains(check) && !message.contains(not), "{http_status} {call:?}: {message}");
        }
    }

    #[test]
    fn what_a_call_came_to_is_named_by_what_dps_knows_of_it() {
        for (error, says) in [
            (DpsError::Conflict(status(409)), "Another operation for this registration"),
            (DpsError::Forgotten(status(404)), "no longer knows the operation"),
            (DpsError::NotFound(status(404)), "no enrollment"),
            (DpsError::Deadline, "as long as it asked to wait"),
            (refused(Call::Lookup), "set registration.onCreate to Register"),
            (refused(Call::Register { payload: false, csr: false }), "the operator's clock is off"),
        ] {
            assert!(message(&error).contains(says), "{}", message(&error));
        }
        assert!(!message(&refused(Call::Poll)).contains("registration.onCreate"));
    }

    #[test]
    fn a_refusal_says_how_far_off_the_clock_is_and_what_was_done_about_it() {
        for (clock, says) in [
            (
                TokenClock::Corrected(Off::Behind),
                "the operator's is behind DPS's); DPS's time was used already",
            ),
            (
                TokenClock::Corrected(Off::Ahead),
                "the operator's is ahead of DPS's); DPS's time was used already",
            ),
            (TokenClock::Unbelievable(Off::Behind), "more than a day behind the answer's"),
            (TokenClock::Unbelievable(Off::Ahead), "more than a day ahead of the answer's"),
        ] {
            let issuer = CredentialId::parse(CredentialKind::GroupKey, "0000000000000001").unwrap();
            let message = message(&DpsError::Unauthorized(Refusal { clock, ..Refusal::of(issuer) }));
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn a_hub_that_refuses_dps_is_told_apart_from_a_device_that_gets_none() {
        let (link, policy) = ("Renew the link", "allocation policy");
        for (code, check, not) in [
            (Some(400_209), link, policy),
            (Some(401_001), link, policy),
            (Some(401_002), link, policy),
            (Some(403_006), link, policy),
            (Some(400_207), policy, link),
            (Some(404_001), policy, link),
            (None, policy, link),
        ] {
            let message = message(&DpsError::AllocationFailed(Detail { code, ..Detail::default() }));
            assert!(message.contains(check) && !message.contains(not), "{code:?}: {message}");
        }
    }
}
