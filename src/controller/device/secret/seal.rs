//! The seal of a generated Secret: it covers every annotation that is read back, and the data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use super::annotation;
use crate::api::names;
use crate::controller::integration::credentials::Credentials;
use crate::dps::attestation::seal::{Seal, Statement};

/// Annotations that are believed under the seal. Whose the Secret is, `judge` tells by other marks.
const SEALED: [&str; 6] = [
    names::REGISTRATION,
    names::REGISTERED_HASH,
    names::RENDERED_HASH,
    names::CREDENTIAL_FINGERPRINT,
    names::MANAGED_KEYS,
    names::ASSIGNMENT,
];

/// What is sealed. `data`: the value under a key; keys of others are not ours to seal.
pub(super) fn statement<'a>(
    annotations: &'a BTreeMap<String, String>,
    data: impl Fn(&str) -> Option<&'a [u8]>,
) -> Statement {
    let value = |key: &str| annotations.get(key).map(String::as_bytes);
    let managed = annotations.get(names::MANAGED_KEYS).map(String::as_str).unwrap_or_default();
    let values = managed.split(',').filter(|key| !key.is_empty()).map(data);
    Statement::of("secret", SEALED.map(value).into_iter().chain(values))
}

/// True if the operator wrote annotations and data as they are, with a key that is still at hand.
pub fn is_sealed(secret: &Secret, credentials: &Credentials) -> bool {
    let (Some(seal), Some(annotations)) =
        (annotation(secret, names::SEAL).and_then(Seal::parse), secret.metadata.annotations.as_ref())
    else {
        return false;
    };
    let data = |key: &str| Some(secret.data.as_ref()?.get(key)?.0.as_slice());
    credentials.have_sealed(&statement(annotations, data), &seal)
}
