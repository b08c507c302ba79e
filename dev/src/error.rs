use std::io;
use std::path::{Path, PathBuf};

use crate::process;

/// Why the control plane could not be brought up or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binaries are neither given nor could they be compiled; progress and cause were
    /// printed by `build-control-plane`.
    #[error("the control plane's binaries are missing: {0}")]
    Assets(String),
    /// A file or folder of ours could not be handled.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the certificates")]
    Certificates(#[from] rcgen::Error),
    /// No free port was found.
    #[error("no free port between {first} and {last}")]
    NoFreePort {
        /// Lower end of the range that was tried.
        first: u16,
        /// Upper end, included.
        last: u16,
    },
    /// A component ended or did not become ready in time.
    #[error("{component} {problem}; the end of its log {}:\n{tail}", log.display())]
    Component {
        /// Which one.
        component: &'static str,
        /// What it did or failed to do.
        problem: String,
        /// Its whole log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A process could not be started, signalled or waited for.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// kubectl could not be run.
    #[error("cannot run kubectl")]
    KubectlMissing(#[source] io::Error),
    /// kubectl ran and failed.
    #[error("kubectl {arguments} failed: {stderr}")]
    Kubectl {
        /// Its arguments.
        arguments: String,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// A program of the system or of the node failed.
    #[error("{program} {arguments}: {problem}")]
    Tool {
        /// Which one.
        program: &'static str,
        /// Its arguments.
        arguments: String,
        /// What it wrote to stderr, or why it could not be run.
        problem: String,
    },
    /// A line of the audit log is not an audit event.
    #[error("line {line} of the audit log is not an event")]
    Audit {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// For `map_err` on what `std::fs` returns.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
