//! What keeps a command from doing what it was asked to, and how the program ends.

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

/// Why a command failed. `docs/kubectl-dps.md` has the exit codes.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A person has to do something about it.
    #[error("{0}")]
    NeedsYou(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The cluster cannot be asked.
    #[error("{0}")]
    Cluster(String),
    /// What was printed could not be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// How a command ended that did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    /// With `--exit-code` only: it was found that something needs a person.
    NeedsYou,
}

impl Failure {
    /// Who reads the output has had enough: not worth a word.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code of the program.
pub fn code(result: &Result<Outcome, Failure>) -> ExitCode {
    let code = match result {
        Ok(Outcome::Fine) => 0,
        Ok(Outcome::NeedsYou) | Err(Failure::NeedsYou(_)) => 1,
        Err(Failure::Usage(_)) => 2,
        Err(Failure::Cluster(_)) => 3,
        Err(failure) => u8::from(!failure.is_closed_pipe()),
    };
    ExitCode::from(code)
}

/// What was asked of the API server.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub verb: &'static str,
    /// `provisioneddevices.dps-operator.io`, for example.
    pub resource: &'a str,
    /// All namespaces, or the cluster, if there is none.
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
}

impl Asked<'_> {
    fn place(&self) -> String {
        self.namespace.map_or_else(|| "in all namespaces".to_owned(), |name| format!("in namespace {name}"))
    }

    /// What the API server's refusal means for the person.
    pub fn failed(&self, error: &kube::Error) -> Failure {
        let kube::Error::Api(status) = error else { return unreachable(error) };
        let Self { verb, resource, name, .. } = self;
        match (status.code, name) {
            (401, _) => Failure::Cluster(format!(
                "The cluster does not know who you are ({}). Log in again, or choose another --context.",
                status.message
            )),
            (403, _) if status.message.contains(" cannot ") || status.message.is_empty() => {
                Failure::Cluster(format!(
                    "You have no right to {verb} {resource} {}. Ask for a Role with the verb \"{verb}\" on {resource}, or \
                 try another namespace with -n.",
                    self.place()
                ))
            }
            (404, Some(name)) if status.message.contains(&format!("\"{name}\"")) => {
                Failure::NeedsYou(format!("There is no {resource} \"{name}\" {}.", self.place()))
            }
            (404, _) => Failure::Cluster(format!(
                "This cluster does not know {resource}: the operator's CRDs are not installed, or it is another \
                 cluster. \"kubectl config current-context\" shows which one it is."
            )),
            (400..=499, Some(_)) => {
                Failure::NeedsYou(format!("The API server refused it: {}", status.message))
            }
            _ => Failure::Cluster(format!("The API server could not {verb} {resource}: {}", status.message)),
        }
    }
}

/// The API server gave no answer that can be used.
pub fn unreachable(error: &kube::Error) -> Failure {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Many say what their source says, too.
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        source = cause.source();
    }
    Failure::Cluster(format!(
        "The cluster cannot be reached: {said}. \"kubectl cluster-info\" shows whether kubectl can."
    ))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn said(code: u16, message: &str, name: Option<&str>) -> (String, String) {
        let asked = Asked {
            verb: "list",
            resource: "provisioneddevices.dps-operator.io",
            namespace: Some("fleet"),
            name,
        };
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        let failure = asked.failed(&kube::Error::Api(Box::new(status)));
        let text = failure.to_string();
        (format!("{:?}", code_of(failure)), text)
    }

    fn code_of(failure: Failure) -> ExitCode {
        code(&Err(failure))
    }

    #[test]
    fn what_the_api_server_refuses_is_said_with_what_to_do() {
        let (needs_you, cluster) = (format!("{:?}", ExitCode::from(1)), format!("{:?}", ExitCode::from(3)));
        let forbidden = "provisioneddevices is forbidden: User \"eve\" cannot list resource";
        let cases = [
            (401, "Unauthorized", None, &cluster, "Log in again"),
            (
                403,
                forbidden,
                None,
                &cluster,
                "no right to list provisioneddevices.dps-operator.io in namespace fleet",
            ),
            (403, "denied by policy", Some("press-01"), &needs_you, "denied by policy"),
            (404, "\"press-01\" not found", Some("press-01"), &needs_you, "There is no"),
            (
                404,
                "the server could not find the requested resource",
                None,
                &cluster,
                "CRDs are not installed",
            ),
            (422, "idScope is fixed", Some("factory"), &needs_you, "idScope is fixed"),
            (500, "etcd", Some("factory"), &cluster, "etcd"),
        ];
        for (status, message, name, wanted, part) in cases {
            let (code, text) = said(status, message, name);
            assert_eq!(&code, wanted, "{status}: {text}");
            assert!(text.contains(part), "{status}: {text}");
        }
    }

    #[test]
    fn a_reader_that_has_had_enough_is_no_failure() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(format!("{:?}", code_of(closed)), format!("{:?}", ExitCode::SUCCESS));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(format!("{:?}", code_of(full)), format!("{:?}", ExitCode::from(1)));
    }
}
