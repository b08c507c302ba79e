//! How long to wait after a failure (docs/conditions.md, retry classes).

use std::time::Duration;

use super::backoff::doubling;
use super::conditions::Reason;

/// How a failure is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// May pass by itself: 5 s doubling to 10 min.
    Transient,
    /// A person has to change something: 1 min doubling to 1 h.
    Terminal,
    /// A person has to change something that is cheap to look at and that no watch shows: every 5 s.
    Looked,
}

/// The one place that decides how failures are retried.
pub fn class_of(reason: Reason) -> RetryClass {
    match reason {
        Reason::ServiceUnavailable | Reason::Registering | Reason::CredentialUnavailable => {
            RetryClass::Transient
        }
        Reason::SecretConflict | Reason::SecretWriteFailed => RetryClass::Looked,
        Reason::Pending
        | Reason::Provisioned
        | Reason::Queued
        | Reason::IntegrationNotFound
        | Reason::IntegrationNotReady
        | Reason::ReferenceNotAllowed
        | Reason::InvalidConfiguration
        | Reason::AllocationFailed
        | Reason::InvalidResponse
        | Reason::Unauthorized
        | Reason::Disabled
        | Reason::EnrollmentNotFound
        | Reason::IdScopeNotFound
        | Reason::DuplicateRegistrationId
        | Reason::Suspended
        | Reason::Registered
        | Reason::NeverRegistered
        | Reason::Written
        | Reason::Missing
        | Reason::Available
        | Reason::KeySecretNotFound
        | Reason::CaBundleNotFound
        | Reason::EndpointUnreachable
        | Reason::Throttled
        | Reason::KeyInvalid
        | Reason::CaBundleInvalid
        | Reason::HostNotAllowed
        | Reason::QuotaInsufficient
        | Reason::CertificateNotFound
        | Reason::CertificateInvalid
        | Reason::CertificateNotYetValid
        | Reason::CertificateExpired => RetryClass::Terminal,
    }
}

/// The shortest wait after failure number `attempts`: 5 s doubling to 10 min for what may pass, 1 min
/// doubling to 1 h for what a person has to mend, 5 s for what is only looked at.
pub fn least(class: RetryClass, attempts: u32) -> Duration {
    let (first, cap) = match class {
        RetryClass::Transient => (Duration::from_secs(5), Duration::from_secs(600)),
        RetryClass::Terminal => (Duration::from_secs(60), Duration::from_secs(3600)),
        RetryClass::Looked => (Duration::from_secs(5), Duration::from_secs(5)),
    };
    doubling(first, attempts, cap)
}

/// The wait after failure number `attempts`: the shortest one, to which up to a quarter is added, spread by
/// `seed` so that a fleet does not retry in step and a restart computes the same.
pub fn wait(class: RetryClass, attempts: u32, seed: u64) -> Duration {
    let doubled = least(class, attempts);
    let share = u32::try_from((seed ^ u64::from(attempts).wrapping_mul(0x9e37_79b9)) % 1000).unwrap_or(0);
    doubled + doubled / 4 * share / 1000
}

/// Attempts are recorded in status at 1, 2, 4, 8 and so on.
pub fn is_recorded(attempts: u32) -> bool {
    attempts.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_cap_and_never_gain_more_than_a_quarter() {
        for (class, first, cap) in
            [(RetryClass::Transient, 5, 600), (RetryClass::Terminal, 60, 3600), (RetryClass::Looked, 5, 5)]
        {
            for attempts in 1..40_u32 {
                let base = (first << (attempts - 1).min(20)).min(cap);
                for seed in [0, 1, 999, u64::MAX] {
                    let got = wait(class, attempts, seed).as_secs_f64();
                    assert!(
                        got >= f64::from(base) && got <= f64::from(base) * 1.25,
                        "{class:?} {attempts} {got}"
                    );
                }
            }
        }
    }

    #[test]
    fn seeds_spread_the_fleet() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|seed| wait(RetryClass::Transient, 3, seed * 7919)).collect();
        assert!(waits.len() > 50);
    }
}
