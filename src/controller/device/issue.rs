//! Asks cert-manager for a device's certificate, unless what is there is not the device's.

use super::issuance::{Ask, Trouble, Wanted, shown};
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Writer;

/// A Certificate that is not as it should be.
#[derive(Debug)]
pub enum IssueError {
    /// A person should know.
    Trouble(Trouble),
    /// The namespace is being deleted: nothing to be done, ever.
    Terminating,
    /// May pass.
    Unavailable,
}

impl From<ApiError> for IssueError {
    fn from(error: ApiError) -> Self {
        let why = match error {
            ApiError::Terminating => return Self::Terminating,
            // Changed or gone between our read and our write.
            ApiError::Conflict | ApiError::Unavailable => return Self::Unavailable,
            ApiError::NotFound => return Self::Trouble(Trouble::NotInstalled),
            ApiError::Forbidden(why) => why,
            ApiError::Invalid(fields) => format!("its fields {fields}"),
        };
        Self::Trouble(Trouble::Refused(why))
    }
}

/// Creates or changes the Certificate.
///
/// # Errors
/// If it is not as it should be.
pub async fn issue(writer: &Writer, wanted: &Wanted, ask: Ask) -> Result<(), IssueError> {
    let (namespace, name) = (wanted.namespace.as_str(), wanted.name.as_str());
    if ask == Ask::Create {
        leave_other_secret(writer, wanted).await?;
        match writer.create_certificate(namespace, &wanted.object()).await {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let Some(found) = writer.read_certificate(namespace, name).await? else {
        return Err(IssueError::Unavailable);
    };
    match wanted.ask(Some(shown(&found))) {
        Ask::Nothing => Ok(()),
        Ask::Change => {
            if found.spec.secret_name != wanted.spec.secret_name {
                leave_other_secret(writer, wanted).await?;
            }
            let patch = wanted.patch(found.metadata.uid.as_deref());
            match writer.patch_certificate(namespace, name, &patch).await {
                // It has been deleted since.
                Err(ApiError::NotFound) => Err(IssueError::Unavailable),
                patched => Ok(patched?),
            }
        }
        Ask::Create => Err(IssueError::Trouble(Trouble::OtherCertificate)),
    }
}

/// Fails if a Secret is in the place that cert-manager has not issued for this Certificate: it would write over it.
async fn leave_other_secret(writer: &Writer, wanted: &Wanted) -> Result<(), IssueError> {
    let issued_for = writer.issued_for(&wanted.namespace, &wanted.name).await?;
    match issued_for {
        Some(certificate) if certificate.as_deref() != Some(wanted.name.as_str()) => {
            Err(IssueError::Trouble(Trouble::OtherSecret))
        }
        Some(_) | None => Ok(()),
    }
}
