//! Answers of the API server that are not success, classified once. Texts of the server are not
//! passed on where they could quote an object.

use kube::core::Status;

/// What an error means for the object at hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 409 on a write: somebody else wrote, the object is another one, or it exists already.
    #[error("conflict")]
    Conflict,
    /// 404.
    #[error("not found")]
    NotFound,
    /// 403 because the namespace is being deleted.
    #[error("the namespace is being deleted")]
    Terminating,
    /// 403. The server's message names verbs and resources only.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// 422: the fields that were refused, never their values.
    #[error("refused: {0}")]
    Invalid(String),
    /// Anything that may pass: no answer, 429, 5xx.
    #[error("the API server did not answer as expected")]
    Unavailable,
}

impl From<&kube::Error> for ApiError {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of(status),
            _ => Self::Unavailable,
        }
    }
}

impl ApiError {
    fn of(status: &Status) -> Self {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        match status.code {
            409 => Self::Conflict,
            404 => Self::NotFound,
            403 if causes.clone().any(|cause| cause.reason == "NamespaceTerminating") => Self::Terminating,
            403 => Self::Forbidden(status.message.clone()),
            400 | 413 | 422 => {
                let fields: Vec<_> =
                    causes.map(|cause| cause.field.as_str()).filter(|f| !f.is_empty()).collect();
                Self::Invalid(if fields.is_empty() { "the object".to_owned() } else { fields.join(", ") })
            }
            _ => Self::Unavailable,
        }
    }
}
