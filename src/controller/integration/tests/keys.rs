//! Group keys that are made up, and the Secrets that hold them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::api::references::Referred;
use crate::dps::attestation::CredentialId;
use crate::dps::attestation::CredentialKind;
use crate::dps::attestation::symmetric_key::EnrollmentKey;

pub fn key(filler: u8) -> String {
    STANDARD.encode([filler; 32])
}

pub fn key_id(filler: u8) -> CredentialId {
    EnrollmentKey::parse(CredentialKind::GroupKey, key(filler).as_bytes()).unwrap().id()
}

pub fn present(data: &[(&str, &str)]) -> Referred {
    let wiped = |(key, text): &(&str, &str)| ((*key).to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
    // Of other data it is another one.
    let version = data.iter().flat_map(|(key, text)| [*key, *text]).collect();
    Referred::Present { data: data.iter().map(wiped).collect(), generated: false, version }
}
