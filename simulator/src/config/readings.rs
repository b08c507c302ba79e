//! The readings: how the simulator behaves where Azure's public documentation is silent or contradictory.
//!
//! Each default is the behaviour with the best evidence. A client of DPS has to work with the others,
//! too, so each can be chosen. The README explains them.

use std::time::Duration;

use serde::Deserialize;

use super::duration;

/// One setting for each point on which sources differ or are silent.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Readings {
    /// A request for an id scope that does not exist.
    pub unknown_id_scope: UnknownIdScope,
    /// A request without a token, or with one that cannot be read.
    pub missing_token: Unauthorized,
    /// A token that has expired.
    pub expired_token: Unauthorized,
    /// A token signed with a key that was derived a second time.
    pub doubly_derived_key: Unauthorized,
    /// A token made from the keys of an enrollment group that was deleted.
    pub deleted_group: DeletedGroup,
    /// A poll for an operation that DPS does not know, or no longer.
    pub unknown_operation: UnknownOperation,
    /// The call whose answer first says that the enrollment is disabled.
    pub disabled_shown_on: ShownOn,
    /// A second register call while the first operation is still assigning.
    pub concurrent_register: ConcurrentRegister,
    /// A status lookup for a device that never registered.
    pub lookup_of_unknown: LookupOfUnknown,
    /// Whether a status lookup returns the payload of the custom allocation.
    pub lookup_payload: Presence,
    /// What a status lookup answers after the enrollment was disabled.
    pub lookup_after_disable: LookupAfterDisable,
    /// How the requests of a minute are counted.
    pub throttle_window: ThrottleWindow,
    /// Whether a 429 has a `Retry-After`.
    pub throttle_retry_after: Presence,
    /// A request body that does not name the registration.
    pub body_registration_id_missing: Acceptance,
    /// A request body that names another registration than the path.
    pub body_registration_id_differs: Acceptance,
    /// A `payload` that is not a JSON object.
    pub payload_not_object: PayloadNotObject,
    /// Whether upper and lower case of the id scope in the path matter.
    pub id_scope_case: IdScopeCase,
    /// The registration id in answers if it was sent in upper case.
    pub upper_case_registration_id: UpperCaseRegistrationId,
    /// The form of the registration id from which a device key is derived, if it was sent in upper case.
    pub key_derived_from: KeyDerivedFrom,
    /// The substatus of a device that is assigned to a hub again that it was on before.
    pub substatus_on_return: SubstatusOnReturn,
    /// The substatus of a device that registers again at its hub after a move.
    pub substatus_on_repeat: SubstatusOnRepeat,
    /// The `Location` header on a 202.
    pub location: Location,
    /// A signature in which `+`, `/` or `=` are not percent-encoded.
    pub unescaped_signature: Acceptance,
    /// Token fields that DPS does not define.
    pub unknown_token_fields: Acceptance,
    /// A token made with the enrollment's other key than the one the device registered with.
    pub alternate_key: Acceptance,
    /// A certificate that has expired, or is not valid yet.
    pub expired_certificate: Unauthorized,
    /// A certificate of another common name than the registration id.
    pub common_name_differs: CommonNameDiffers,
    /// Whether upper and lower case of the common name matter.
    pub common_name_case: CommonNameCase,
    /// A certificate whose chain reaches no verified CA.
    pub ca_not_verified: Unauthorized,
    /// A request with a certificate for an id scope that does not exist.
    pub unknown_id_scope_with_certificate: UnknownIdScope,
    /// What the hub does with the thumbprint of before when a device registers with a new certificate.
    pub old_thumbprint: OldThumbprint,
    /// What `x509` of a registration has.
    pub x509_result: X509ResultReading,
    /// Whether a certificate is issued to a device that registers over HTTPS.
    pub issuance_over_https: IssuanceOverHttps,
    /// A signing request under an api-version that does not have it.
    pub csr_under_other_version: CsrUnderOtherVersion,
    /// How long after its expiry a token is still accepted.
    #[serde(deserialize_with = "duration::required::deserialize")]
    pub clock_tolerance: Duration,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            unknown_id_scope: UnknownIdScope::NotFound,
            missing_token: Unauthorized::Code401000,
            expired_token: Unauthorized::Code401002,
            doubly_derived_key: Unauthorized::Code401000,
            deleted_group: DeletedGroup::Unauthorized,
            unknown_operation: UnknownOperation::NotFound,
            disabled_shown_on: ShownOn::Register,
            concurrent_register: ConcurrentRegister::Conflict,
            lookup_of_unknown: LookupOfUnknown::NotFound,
            lookup_payload: Presence::Present,
            lookup_after_disable: LookupAfterDisable::Unchanged,
            throttle_window: ThrottleWindow::Sliding,
            throttle_retry_after: Presence::Present,
            body_registration_id_missing: Acceptance::Accepted,
            body_registration_id_differs: Acceptance::Refused,
            payload_not_object: PayloadNotObject::Refused,
            id_scope_case: IdScopeCase::Exact,
            upper_case_registration_id: UpperCaseRegistrationId::Lowered,
            key_derived_from: KeyDerivedFrom::AsSent,
            substatus_on_return: SubstatusOnReturn::LikeAnyMove,
            substatus_on_repeat: SubstatusOnRepeat::InitialAssignment,
            location: Location::Absolute,
            unescaped_signature: Acceptance::Refused,
            unknown_token_fields: Acceptance::Accepted,
            alternate_key: Acceptance::Accepted,
            expired_certificate: Unauthorized::Code401002,
            common_name_differs: CommonNameDiffers::Code401002,
            common_name_case: CommonNameCase::Ignored,
            ca_not_verified: Unauthorized::Code401002,
            unknown_id_scope_with_certificate: UnknownIdScope::Failed,
            old_thumbprint: OldThumbprint::Dropped,
            x509_result: X509ResultReading::Empty,
            issuance_over_https: IssuanceOverHttps::Yes,
            csr_under_other_version: CsrUnderOtherVersion::Ignored,
            clock_tolerance: Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Unauthorized {
    #[serde(rename = "401000")]
    Code401000,
    #[serde(rename = "401002")]
    Code401002,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum CommonNameDiffers {
    #[serde(rename = "401002")]
    Code401002,
    /// 400 with 400004.
    #[serde(rename = "400004")]
    Code400004,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommonNameCase {
    Ignored,
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OldThumbprint {
    /// The hub refuses the certificate of before.
    Dropped,
    /// The hub keeps it as the secondary one.
    Secondary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum X509ResultReading {
    /// An object without fields, as in Microsoft's captured answer.
    Empty,
    /// The certificate and the enrollment group, as in the description of the API.
    Full,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IssuanceOverHttps {
    Yes,
    /// 400 with 400004.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CsrUnderOtherVersion {
    /// As any field that a version does not have.
    Ignored,
    /// 400 with 400004.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Acceptance {
    Accepted,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Presence {
    Present,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownIdScope {
    /// 404 with 404201.
    NotFound,
    /// 200 with status `failed` and errorCode 404201.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeletedGroup {
    /// 401 with 401002, as for any unknown key.
    Unauthorized,
    /// 404 with 404201.
    NotFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownOperation {
    /// 404 with 404201.
    NotFound,
    /// 400 with 400004.
    BadRequest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShownOn {
    /// Register answers 200 with the status at once.
    Register,
    /// Register answers 202; the poll shows the status.
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConcurrentRegister {
    /// 409 with 409203 until the first operation completes.
    Conflict,
    /// 202 with an operation of its own.
    NewOperation,
    /// 412 with 412000.
    PreconditionFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LookupOfUnknown {
    /// 404 with 404201.
    NotFound,
    /// 401 with 401002.
    Unauthorized,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LookupAfterDisable {
    /// The record as it was stored.
    Unchanged,
    /// Status `disabled`.
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ThrottleWindow {
    /// The last 60 seconds; requests that were throttled do not count.
    Sliding,
    /// Minutes one after another; every request counts.
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PayloadNotObject {
    /// 400 with 400004.
    Refused,
    /// As if it had not been sent.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IdScopeCase {
    Exact,
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpperCaseRegistrationId {
    Lowered,
    AsSent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyDerivedFrom {
    AsSent,
    LowerCase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SubstatusOnReturn {
    /// `deviceDataMigrated` or `deviceDataReset`, as for any move.
    LikeAnyMove,
    /// `reprovisionedToInitialAssignment`.
    ReprovisionedToInitialAssignment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SubstatusOnRepeat {
    InitialAssignment,
    /// The substatus of the last move is repeated.
    Unchanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    Absolute,
    Relative,
    Absent,
}
