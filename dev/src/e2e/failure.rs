use std::io;
use std::process::ExitStatus;

use dps_dev::process;

use crate::admin::AdminError;

/// Why the end-to-end test ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// By Ctrl-C, a closed terminal or SIGTERM.
    #[error("interrupted; nothing of it is left running")]
    Interrupted,
    #[error("cannot run {0}")]
    Missing(&'static str, #[source] io::Error),
    #[error("{0} ended with {1}: what it says above comes first")]
    Build(&'static str, ExitStatus),
    #[error(
        "there are no plugins of the container network interface in {0}: install containernetworking-plugins"
    )]
    NoNetworkPlugins(&'static str),
    #[error(transparent)]
    Cluster(#[from] dps_dev::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("cannot read or write")]
    Io(#[from] io::Error),
    #[error("cannot read what {0} says")]
    Json(&'static str, #[source] serde_json::Error),
    #[error("helm {arguments} failed:\n{printed}")]
    Helm { arguments: String, printed: String },
    /// A program ran, but its effect is not the expected one.
    #[error("{0}")]
    Unexpected(String),
    /// The process in the sandbox has printed why.
    #[error("the story ended early; all logs, kept: {0}")]
    Inside(String),
}
