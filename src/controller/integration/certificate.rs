//! A device's certificate, from what was found of its Secret. Pure.

use super::credentials::Credentials;
use super::key_source::KeySource;
use super::unusable::Unusable;
use crate::api::conditions::Reason;
use crate::dps::attestation::certificate::{CertificateProblem, DeviceCertificate, TlsFiles};
use crate::dps::ids::RegistrationId;

/// The type of Secrets with a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

/// So much of another type is shown: it may be any text.
const KIND_MAX: usize = 64;

/// What was found where a device's certificate should be.
pub enum FoundCertificate {
    Missing,
    /// The API server does not let us read it.
    Forbidden,
    Present {
        /// Type of the Secret.
        kind: String,
        /// It carries the label of a Secret that we wrote.
        generated: bool,
        /// Its resourceVersion.
        version: String,
        files: TlsFiles,
    },
}

/// The certificate of the device with this registration id, from the Secret of this name.
///
/// # Errors
/// The first thing that is wrong, without anything of the key.
pub fn resolve(secret: &str, found: FoundCertificate, id: &RegistrationId) -> Result<Credentials, Unusable> {
    let (kind, generated, version, files) = match found {
        FoundCertificate::Missing => {
            let message = format!(
                "Secret {secret:?} with the device's certificate does not exist. It is taken up as soon as it does. With \
                 cert-manager, look at the conditions of the Certificate that has it as spec.secretName."
            );
            return Err(Unusable::passing(Reason::CertificateNotFound, message));
        }
        FoundCertificate::Forbidden => {
            let message = format!("Secret {secret:?} may not be read by the operator; check its RBAC.");
            return Err(Unusable::new(Reason::CertificateNotFound, message));
        }
        FoundCertificate::Present { kind, generated, version, files } => (kind, generated, version, files),
    };
    let invalid = |message| Unusable::new(Reason::CertificateInvalid, message);
    if generated {
        return Err(invalid(format!(
            "Secret {secret:?} was written by this operator for a device; name the Secret that the certificate is issued into."
        )));
    }
    if kind != TLS {
        return Err(invalid(format!(
            "Secret {secret:?} is of type {:?}; a certificate is read from a Secret of type {TLS} only.",
            kind.chars().take(KIND_MAX).collect::<String>()
        )));
    }
    let certificate = DeviceCertificate::read(files, id).map_err(|problem| unusable(secret, &problem))?;
    let source = KeySource { secret: secret.to_owned(), version: Some(version), key: Some(certificate.id()) };
    Ok(Credentials::of_certificate(certificate, source))
}

fn unusable(secret: &str, problem: &CertificateProblem) -> Unusable {
    let message = format!("Secret {secret:?}: {problem}. It is read again when it changes.");
    match problem {
        CertificateProblem::Temporary => Unusable::passing(Reason::CertificateNotFound, message),
        // Tools that write the one after the other.
        CertificateProblem::OtherKey | CertificateProblem::Empty(_) => {
            Unusable::passing(Reason::CertificateInvalid, message)
        }
        _ => Unusable::new(Reason::CertificateInvalid, message),
    }
}
