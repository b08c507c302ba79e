//! Why a list or a watch has failed, classified once, with a text for the log. Nothing of a body is
//! passed on that could quote an object, and nothing that a credential plugin has printed.

use std::error::Error;
use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;

use super::deadline::TooLong;
use super::error::refused_right;

/// Longest text of a failed connection.
const TEXT_MAX: usize = 300;

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CauseKind {
    /// 403, or 400: what is asked for makes no sense to the server.
    Refused,
    /// 401.
    Unauthorized,
    /// 404: the kind is not known.
    Unknown,
    /// 410, by HTTP or in the stream.
    Gone,
    /// 429.
    Busy,
    /// 502, 503, 504.
    Unavailable,
    /// Any other status.
    Unexpected,
    /// No answer.
    Unreachable,
    /// The kubeconfig's credentials cannot be had.
    Credentials,
    /// An answer that is none of an API server.
    Unreadable,
    /// An answer of which the rest was not read.
    TooLong,
    /// A stream that ended at once without a word.
    ClosedAtOnce,
    /// A stream that is open and says nothing.
    Silent,
}

impl CauseKind {
    /// Going on from where the watch was cannot help.
    pub fn needs_a_list(self) -> bool {
        matches!(self, Self::Refused | Self::Unknown | Self::Gone | Self::Unreadable | Self::Silent)
    }

    /// The server was away; once it answers to anything it may answer to this, too.
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Unavailable | Self::Unauthorized | Self::Credentials)
    }
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub kind: CauseKind,
    pub text: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Cause {
    /// One that says all by its kind.
    pub fn of(kind: CauseKind) -> Self {
        let text = match kind {
            CauseKind::ClosedAtOnce => "the API server ends the watch at once",
            CauseKind::Silent => {
                "the watch is open and silent, without the bookmarks that an API server sends"
            }
            _ => "an answer that is none of a Kubernetes API server",
        };
        Self { kind, text: text.to_owned(), retry_after: None }
    }

    pub fn status(status: &Status) -> Self {
        let code = status.code;
        let (kind, text) = match code {
            // What kube makes of a line that is no event.
            0 => return Self::of(CauseKind::Unreadable),
            400 | 403 => (CauseKind::Refused, refused_right(&status.message)),
            401 => (
                CauseKind::Unauthorized,
                "the API server does not accept the operator's credentials (401); has its token expired, \
                 or is its ServiceAccount gone?"
                    .to_owned(),
            ),
            404 => (
                CauseKind::Unknown,
                "the API server does not know this kind (404): are its CRDs installed? Those of the operator: \
                 dps-operator crds | kubectl apply --server-side -f -"
                    .to_owned(),
            ),
            410 => {
                (CauseKind::Gone, "the API server no longer has the version to go on from (410)".to_owned())
            }
            429 => (CauseKind::Busy, "the API server asks to wait (429)".to_owned()),
            502..=504 => (CauseKind::Unavailable, format!("the API server is not available ({code})")),
            _ => (CauseKind::Unexpected, format!("the API server answers {code}")),
        };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let retry_after = Some(Duration::from_secs(u64::from(seconds))).filter(|time| !time.is_zero());
        Self { kind, text, retry_after }
    }
}

impl From<&kube::Error> for Cause {
    fn from(error: &kube::Error) -> Self {
        let texts = chain(error);
        match error {
            kube::Error::Api(status) => Self::status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::of(CauseKind::Unreadable),
            _ if texts.is_none() => Self {
                kind: CauseKind::Credentials,
                text:
                    "the credentials of the kubeconfig cannot be had; do its token file or its exec plugin \
                       work?"
                        .to_owned(),
                retry_after: None,
            },
            _ => Self {
                kind: if has::<TooLong>(error) { CauseKind::TooLong } else { CauseKind::Unreachable },
                text: texts.unwrap_or_default(),
                retry_after: None,
            },
        }
    }
}

/// It is such an error, or comes from one.
fn has<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error.is::<E>() || error.source().is_some_and(has::<E>)
}

/// What the error and its sources say, without what is said twice. `None` if it is about credentials:
/// the output of a plugin may hold one.
fn chain(error: &kube::Error) -> Option<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<AuthError>() {
            return None;
        }
        texts.push(error.to_string());
        next = error.source();
    }
    // Outer texts often end with their cause's.
    let said = |n: usize| texts[n + 1..].iter().any(|inner| texts[n].contains(inner.as_str()));
    let own: Vec<&str> = (0..texts.len()).filter(|n| !said(*n)).map(|n| texts[n].as_str()).collect();
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    Some(own.join(": ").chars().map(printable).take(TEXT_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Cause {
        Cause::status(&Status { code, message: message.to_owned(), ..Status::default() })
    }

    #[test]
    fn each_answer_has_its_kind_and_quotes_no_object() {
        let table = [
            (400, CauseKind::Refused),
            (401, CauseKind::Unauthorized),
            (403, CauseKind::Refused),
            (404, CauseKind::Unknown),
            (410, CauseKind::Gone),
            (429, CauseKind::Busy),
            (500, CauseKind::Unexpected),
            (503, CauseKind::Unavailable),
            (504, CauseKind::Unavailable),
            (418, CauseKind::Unexpected),
        ];
        for (code, kind) in table {
            let cause = status(code, "object has data c2VjcmV0");
            assert_eq!(cause.kind, kind, "{code}");
            assert!(!cause.text.contains("c2VjcmV0"), "{}", cause.text);
        }
    }

    #[test]
    fn a_failed_connection_is_named_by_its_innermost_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let cause = Cause::from(&kube::Error::Service(Box::new(refused)));
        assert_eq!(cause.kind, CauseKind::Unreachable);
        assert!(cause.text.contains("connection refused"), "{}", cause.text);
    }

    #[test]
    fn what_a_credential_plugin_prints_is_not_passed_on() {
        let printed = AuthError::AuthExec("dG9rZW4= is printed".to_owned());
        let cause = Cause::from(&kube::Error::Service(Box::new(printed)));
        assert_eq!(cause.kind, CauseKind::Credentials);
        assert!(!cause.text.contains("dG9rZW4="), "{}", cause.text);
    }
}
