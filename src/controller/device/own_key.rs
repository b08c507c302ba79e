//! Reads what a device has to prove its identity with by itself.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;

use crate::api::attestation::{DeviceAttestation, SymmetricKey};
use crate::api::names;
use crate::api::references::Referred;
use crate::api::version;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::unusable::Unusable;
use crate::kube_io::error::ApiError;
use crate::kube_io::refs;
use crate::kube_io::write::Writer;

/// A device's own credentials as they were read, or why they cannot be used; and at which version the Secret
/// was that they are in; 0 if there is none, or one that the operator has written.
#[derive(Debug)]
pub struct OwnRead {
    pub credentials: Result<Credentials, Unusable>,
    pub version: u64,
    /// It has our label, so that the watch shows when it changes.
    pub labelled: bool,
}

/// Reads what a device has to prove its identity with by itself.
///
/// # Errors
/// As the API server answers.
pub async fn read_credential(
    writer: &Writer,
    namespace: &str,
    attestation: &DeviceAttestation,
) -> Result<OwnRead, ApiError> {
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, key) in attestation.symmetric_key.iter().flat_map(SymmetricKey::references) {
        wanted.entry(name).or_default().insert(key.to_owned());
    }
    let active_secret = attestation.symmetric_key.as_ref().map(SymmetricKey::active_secret);
    let (mut found, mut labelled) = (BTreeMap::new(), false);
    for (name, keys) in wanted {
        let referred = match writer.read_secret(namespace, name).await {
            Ok(Some(secret)) => {
                labelled |= Some(name) == active_secret && is_labelled(&secret);
                refs::secret(secret, &keys)
            }
            Ok(None) => Referred::Missing,
            Err(ApiError::Forbidden(_)) => Referred::Forbidden,
            Err(error) => return Err(error),
        };
        found.insert(name, referred);
    }
    let active = active_secret.and_then(|name| found.get(name));
    let version = match active {
        Some(Referred::Present { version, generated: false, .. }) => version::parse(Some(version)),
        _ => 0,
    };
    let credentials =
        Credentials::resolve_own(attestation, |name| found.get(name).unwrap_or(&Referred::Missing));
    Ok(OwnRead { credentials, version, labelled })
}

fn is_labelled(secret: &Secret) -> bool {
    let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(names::WATCH_LABEL));
    label.is_some_and(|value| value == "true")
}
