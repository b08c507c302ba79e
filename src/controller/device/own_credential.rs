//! Reads what a device has to prove its identity with by itself.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use crate::api::attestation::{OwnCredential, SymmetricKey};
use crate::api::conditions::Reason;
use crate::api::names;
use crate::api::references::Referred;
use crate::api::version;
use crate::controller::integration::certificate::{self, FoundCertificate};
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::certificate::TlsFiles;
use crate::dps::ids::RegistrationId;
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

/// Reads what the device with this registration id has to prove its identity with by itself. `own`: `None` if it
/// is of a kind that this version does not know.
///
/// # Errors
/// As the API server answers.
pub async fn read_credential(
    writer: &Writer,
    namespace: &str,
    own: Option<&OwnCredential>,
    id: &str,
) -> Result<OwnRead, ApiError> {
    let refused = |why: Unusable| Ok(OwnRead { credentials: Err(why), version: 0, labelled: false });
    let invalid = |message: String| refused(Unusable::new(Reason::InvalidConfiguration, message));
    match (own, RegistrationId::parse(id)) {
        (None, _) => {
            invalid("spec.attestation: set symmetricKey or x509; this version knows no other.".to_owned())
        }
        (Some(OwnCredential::Keys(symmetric)), _) => read_keys(writer, namespace, symmetric).await,
        (Some(OwnCredential::Certificate(secret)), Ok(id)) => {
            read_certificate(writer, namespace, secret, &id).await
        }
        (Some(OwnCredential::Certificate(_)), Err(error)) => {
            invalid(format!("The registration id: {error}."))
        }
    }
}

async fn read_keys(writer: &Writer, namespace: &str, symmetric: &SymmetricKey) -> Result<OwnRead, ApiError> {
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, key) in symmetric.references() {
        wanted.entry(name).or_default().insert(key.to_owned());
    }
    let (mut found, mut labelled) = (BTreeMap::new(), false);
    for (name, keys) in wanted {
        let referred = match writer.read_secret(namespace, name).await {
            Ok(Some(secret)) => {
                labelled |= name == symmetric.active_secret() && is_labelled(&secret);
                refs::secret(secret, &keys)
            }
            Ok(None) => Referred::Missing,
            Err(ApiError::Forbidden(_)) => Referred::Forbidden,
            Err(error) => return Err(error),
        };
        found.insert(name, referred);
    }
    let version = match found.get(symmetric.active_secret()) {
        Some(Referred::Present { version, generated: false, .. }) => version::parse(Some(version)),
        _ => 0,
    };
    let credentials =
        Credentials::resolve_own(symmetric, |name| found.get(name).unwrap_or(&Referred::Missing));
    Ok(OwnRead { credentials, version, labelled })
}

async fn read_certificate(
    writer: &Writer,
    namespace: &str,
    secret: &str,
    id: &RegistrationId,
) -> Result<OwnRead, ApiError> {
    let (mut version, mut labelled) = (0, false);
    let found = match writer.read_secret(namespace, secret).await {
        Ok(Some(secret)) => {
            let generated = refs::is_generated(&secret.metadata);
            version = if generated { 0 } else { version::of(&secret.metadata) };
            labelled = is_labelled(&secret);
            present(secret, generated)
        }
        Ok(None) => FoundCertificate::Missing,
        Err(ApiError::Forbidden(_)) => FoundCertificate::Forbidden,
        Err(error) => return Err(error),
    };
    Ok(OwnRead { credentials: certificate::resolve(secret, found, id), version, labelled })
}

fn present(secret: Secret, generated: bool) -> FoundCertificate {
    let mut data = secret.data.unwrap_or_default();
    let mut file = |key: &str| data.remove(key).map(|bytes| bytes.0);
    let files = TlsFiles {
        certificates: file("tls.crt").unwrap_or_default(),
        key: Zeroizing::new(file("tls.key").unwrap_or_default()),
        authority: file("ca.crt"),
    };
    FoundCertificate::Present {
        kind: secret.type_.unwrap_or_default(),
        generated,
        version: secret.metadata.resource_version.unwrap_or_default(),
        files,
    }
}

fn is_labelled(secret: &Secret) -> bool {
    let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(names::WATCH_LABEL));
    label.is_some_and(|value| value == "true")
}
