use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::certificates::Identity;
use crate::error::Error;

/// kubectl with this kubeconfig, without the user's own settings.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    pub(crate) binary: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            // kubectl caches what it knows of a server by host and port, for hours: another control
            // plane on the same port would be taken for the earlier one.
            .env("KUBECACHEDIR", &self.cache)
            .env("KUBERC", "off");
        command
    }

    /// Runs kubectl; returns its stdout, or an error with its stderr.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String, Error> {
        self.run(arguments, None)
    }

    pub(crate) fn apply(&self, manifest: &str) -> Result<String, Error> {
        self.run(&["apply", "--server-side", "-f", "-"], Some(manifest))
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String, Error> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::KubectlMissing)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // When kubectl ends before it has read all, its stderr says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(Error::KubectlMissing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Kubectl {
            arguments: arguments.join(" "),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// How the user of a kubeconfig authenticates.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// The text of a kubeconfig, in JSON, which every YAML parser reads.
pub(crate) fn kubeconfig(server: &str, ca: &Path, user: &str, credentials: &Credentials) -> String {
    let credentials = match credentials {
        Credentials::Certificate(identity) => json!({
            "client-certificate": identity.certificate,
            "client-key": identity.key,
        }),
        Credentials::Token(token) => json!({ "token": token }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "dps-dev",
            "cluster": { "server": server, "certificate-authority": ca },
        }],
        "users": [{ "name": user, "user": credentials }],
        "contexts": [{ "name": "dps-dev", "context": { "cluster": "dps-dev", "user": user } }],
        "current-context": "dps-dev",
    });
    format!("{config:#}\n")
}
