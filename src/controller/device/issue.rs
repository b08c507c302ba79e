//! Asks cert-manager for a device's certificate, unless what is there is somebody else's.

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
        // cert-manager would write over it.
        let issued_for = writer.issued_for(namespace, name).await?;
        if issued_for.is_some_and(|certificate| certificate.as_deref() != Some(name)) {
            return Err(IssueError::Trouble(Trouble::OtherSecret));
        }
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
            let patch = wanted.patch(found.metadata.uid.as_deref());
            Ok(writer.patch_certificate(namespace, name, &patch).await?)
        }
        Ask::Create => Err(IssueError::Trouble(Trouble::OtherCertificate)),
    }
}
