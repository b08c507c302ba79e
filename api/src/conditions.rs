//! Condition types and reasons: each exists once, here. `docs/conditions.md` has a paragraph on every reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Types of conditions. `Reconciling` and `Stalled` (kstatus) are present only while true, never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    Ready,
    Registered,
    SecretReady,
    Reconciling,
    Stalled,
    /// Present only while true.
    QuotaInsufficient,
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Registered => "Registered",
            Self::SecretReady => "SecretReady",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::QuotaInsufficient => "QuotaInsufficient",
        }
    }
}

/// Status of a condition as the API server spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    pub fn from_bool(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Why a condition is as it is: a closed set, each with a documented meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Pending,
    Provisioned,
    Queued,
    Registering,
    IntegrationNotFound,
    IntegrationNotReady,
    ServiceUnavailable,
    ReferenceNotAllowed,
    InvalidConfiguration,
    AllocationFailed,
    InvalidResponse,
    Unauthorized,
    Disabled,
    EnrollmentNotFound,
    IdScopeNotFound,
    DuplicateRegistrationId,
    SecretConflict,
    CredentialUnavailable,
    SecretWriteFailed,
    Suspended,
    Registered,
    NeverRegistered,
    Written,
    Missing,
    Available,
    KeySecretNotFound,
    CaBundleNotFound,
    EndpointUnreachable,
    Throttled,
    KeyInvalid,
    CaBundleInvalid,
    HostNotAllowed,
    QuotaInsufficient,
    CertificateNotFound,
    CertificateInvalid,
    CertificateNotYetValid,
    CertificateExpired,
}

impl Reason {
    /// All reasons, for tests and documentation checks.
    pub const ALL: &'static [Self] = &[
        Self::Pending,
        Self::Provisioned,
        Self::Queued,
        Self::Registering,
        Self::IntegrationNotFound,
        Self::IntegrationNotReady,
        Self::ServiceUnavailable,
        Self::ReferenceNotAllowed,
        Self::InvalidConfiguration,
        Self::AllocationFailed,
        Self::InvalidResponse,
        Self::Unauthorized,
        Self::Disabled,
        Self::EnrollmentNotFound,
        Self::IdScopeNotFound,
        Self::DuplicateRegistrationId,
        Self::SecretConflict,
        Self::CredentialUnavailable,
        Self::SecretWriteFailed,
        Self::Suspended,
        Self::Registered,
        Self::NeverRegistered,
        Self::Written,
        Self::Missing,
        Self::Available,
        Self::KeySecretNotFound,
        Self::CaBundleNotFound,
        Self::EndpointUnreachable,
        Self::Throttled,
        Self::KeyInvalid,
        Self::CaBundleInvalid,
        Self::HostNotAllowed,
        Self::QuotaInsufficient,
        Self::CertificateNotFound,
        Self::CertificateInvalid,
        Self::CertificateNotYetValid,
        Self::CertificateExpired,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Provisioned => "Provisioned",
            Self::Queued => "Queued",
            Self::Registering => "Registering",
            Self::IntegrationNotFound => "IntegrationNotFound",
            Self::IntegrationNotReady => "IntegrationNotReady",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::ReferenceNotAllowed => "ReferenceNotAllowed",
            Self::InvalidConfiguration => "InvalidConfiguration",
            Self::AllocationFailed => "AllocationFailed",
            Self::InvalidResponse => "InvalidResponse",
            Self::Unauthorized => "Unauthorized",
            Self::Disabled => "Disabled",
            Self::EnrollmentNotFound => "EnrollmentNotFound",
            Self::IdScopeNotFound => "IdScopeNotFound",
            Self::DuplicateRegistrationId => "DuplicateRegistrationId",
            Self::SecretConflict => "SecretConflict",
            Self::CredentialUnavailable => "CredentialUnavailable",
            Self::SecretWriteFailed => "SecretWriteFailed",
            Self::Suspended => "Suspended",
            Self::Registered => "Registered",
            Self::NeverRegistered => "NeverRegistered",
            Self::Written => "Written",
            Self::Missing => "Missing",
            Self::Available => "Available",
            Self::KeySecretNotFound => "KeySecretNotFound",
            Self::CaBundleNotFound => "CaBundleNotFound",
            Self::EndpointUnreachable => "EndpointUnreachable",
            Self::Throttled => "Throttled",
            Self::KeyInvalid => "KeyInvalid",
            Self::CaBundleInvalid => "CaBundleInvalid",
            Self::HostNotAllowed => "HostNotAllowed",
            Self::QuotaInsufficient => "QuotaInsufficient",
            Self::CertificateNotFound => "CertificateNotFound",
            Self::CertificateInvalid => "CertificateInvalid",
            Self::CertificateNotYetValid => "CertificateNotYetValid",
            Self::CertificateExpired => "CertificateExpired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// True for what only a person can mend: the condition `Stalled` is set. Flux fails a release
    /// the moment it sees it, so everything that may pass by itself is `Reconciling` instead.
    pub fn is_stalled(self) -> bool {
        matches!(
            self,
            Self::ReferenceNotAllowed
                | Self::InvalidConfiguration
                | Self::AllocationFailed
                | Self::InvalidResponse
                | Self::Unauthorized
                | Self::Disabled
                | Self::EnrollmentNotFound
                | Self::IdScopeNotFound
                | Self::DuplicateRegistrationId
                | Self::SecretConflict
                | Self::KeyInvalid
                | Self::CaBundleInvalid
                | Self::HostNotAllowed
                | Self::CertificateInvalid
        )
    }

    /// True while nothing is wrong and the work only takes long.
    pub fn takes_long(self) -> bool {
        matches!(self, Self::Queued | Self::Registering)
    }

    /// True while work is waiting or being retried: the condition `Reconciling` is set.
    pub fn is_reconciling(self) -> bool {
        matches!(
            self,
            Self::Queued
                | Self::Registering
                | Self::IntegrationNotFound
                | Self::IntegrationNotReady
                | Self::ServiceUnavailable
                | Self::CredentialUnavailable
                | Self::SecretWriteFailed
                | Self::KeySecretNotFound
                | Self::CaBundleNotFound
                | Self::EndpointUnreachable
                | Self::Throttled
                | Self::CertificateNotFound
                | Self::CertificateNotYetValid
                | Self::CertificateExpired
        )
    }
}

/// A list of conditions under construction. Transition times are taken over from the conditions
/// that are there now and move only when a status changes.
pub struct Conditions<'a> {
    before: &'a [Condition],
    generation: i64,
    now: Timestamp,
    after: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub fn new(before: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        Self { before, generation, now, after: Vec::new() }
    }

    pub fn set(&mut self, kind: ConditionType, status: ConditionStatus, reason: Reason, message: &str) {
        let since = find(self.before, kind)
            .filter(|old| old.status == status.as_str())
            .map_or_else(|| Time(self.now), |old| old.last_transition_time.clone());
        self.after.push(Condition {
            type_: kind.as_str().to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(self.generation),
            last_transition_time: since,
        });
    }

    /// Adds `Stalled` or `Reconciling`, whichever the reason calls for.
    pub fn set_progress(&mut self, reason: Reason, message: &str) {
        if reason.is_stalled() {
            self.set(ConditionType::Stalled, ConditionStatus::True, reason, message);
        } else if reason.is_reconciling() {
            self.set(ConditionType::Reconciling, ConditionStatus::True, reason, message);
        }
    }

    pub fn finish(self) -> Vec<Condition> {
        self.after
    }
}

/// The condition of one type, if present.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// The reason of one condition, if it is present and known to this version.
pub fn reason_of(conditions: &[Condition], kind: ConditionType) -> Option<Reason> {
    find(conditions, kind).and_then(|condition| Reason::parse(&condition.reason))
}

/// True when the condition is present with status `True`.
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(60).unwrap();
        let mut conditions = Conditions::new(&[], 1, first);
        conditions.set(ConditionType::Ready, ConditionStatus::False, Reason::Queued, "a");
        let before = conditions.finish();

        let mut same = Conditions::new(&before, 2, later);
        same.set(ConditionType::Ready, ConditionStatus::False, Reason::Registering, "b");
        assert_eq!(same.finish()[0].last_transition_time.0, first);

        let mut other = Conditions::new(&before, 2, later);
        other.set(ConditionType::Ready, ConditionStatus::True, Reason::Provisioned, "c");
        assert_eq!(other.finish()[0].last_transition_time.0, later);
    }

    #[test]
    fn no_reason_is_both_stalled_and_reconciling_and_each_survives_a_round_trip() {
        for reason in Reason::ALL {
            assert!(!(reason.is_stalled() && reason.is_reconciling()), "{reason:?}");
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn every_reason_has_a_paragraph() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conditions.md");
        let page = std::fs::read_to_string(page).unwrap();
        let missing: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| !page.contains(&format!("\n### {}\n", reason.as_str())))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
