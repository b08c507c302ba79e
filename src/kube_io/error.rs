//! Answers of the API server that are not success, classified once. Texts of the server are not
//! passed on where they could quote an object.

use kube::core::Status;

/// What an error means for the object at hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 409 on a write: the object has changed, is another one, or exists already.
    #[error("conflict")]
    Conflict,
    /// 404.
    #[error("not found")]
    NotFound,
    /// 403 because the namespace is being deleted.
    #[error("the namespace is being deleted")]
    Terminating,
    /// 403. Which right is missing, or that a rule of the cluster forbids it.
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
    /// What a person should look at, if a further try alone will hardly help.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden(_) => Some("is the operator's RBAC complete?"),
            Self::Invalid(_) => Some(
                "are the CRDs those of this version? Compare them: dps-operator crds | kubectl diff -f -",
            ),
            Self::Conflict | Self::NotFound | Self::Terminating | Self::Unavailable => None,
        }
    }

    fn of(status: &Status) -> Self {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        match status.code {
            409 => Self::Conflict,
            404 => Self::NotFound,
            403 if causes.clone().any(|cause| cause.reason == "NamespaceTerminating") => Self::Terminating,
            403 => Self::Forbidden(refused_right(&status.message)),
            400 | 413 | 422 => {
                let fields: Vec<_> =
                    causes.map(|cause| cause.field.as_str()).filter(|f| !f.is_empty()).collect();
                Self::Invalid(if fields.is_empty() { "the object".to_owned() } else { fields.join(", ") })
            }
            _ => Self::Unavailable,
        }
    }
}

/// RBAC's own texts name a user, a verb and a resource. Admission rules answer 403 with free text
/// that may quote the object, so of those nothing is passed on.
pub(super) fn refused_right(message: &str) -> String {
    let plain = message.len() <= 400 && message.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let rbac = message.contains(" is forbidden: User \"") && message.contains("\" cannot ");
    let owner = message.contains("is forbidden: cannot set an ownerRef on a resource you can't delete")
        || message.contains("is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to");
    if plain && (rbac || owner) {
        message.to_owned()
    } else {
        "a rule of the cluster forbids it; the API server's audit log shows which".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::refused_right;

    #[test]
    fn only_texts_that_cannot_quote_an_object_are_passed_on() {
        let rbac = r#"secrets is forbidden: User "system:serviceaccount:a:b" cannot create resource "secrets" in API group "" in the namespace "x""#;
        assert_eq!(refused_right(rbac), rbac);
        let admission = "admission webhook denied the request: data c2VjcmV0 is not allowed";
        assert!(!refused_right(admission).contains("c2VjcmV0"));
        assert!(!refused_right(&format!("{rbac}\n{admission}")).contains("c2VjcmV0"));
    }
}
