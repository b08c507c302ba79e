use std::io;
use std::path::{Path, PathBuf};

use crate::process;

/// Why the control plane could not be brought up or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binaries were neither given nor could they be compiled; `build-control-plane` printed
    /// the cause.
    #[error("the control plane's binaries are missing: {0}")]
    Assets(String),
    /// A file or folder could not be read, written or created.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the certificates")]
    Certificates(#[from] rcgen::Error),
    /// No free port was found.
    #[error("no free port between {first} and {last}")]
    NoFreePort {
        /// The first port that was tried.
        first: u16,
        /// The last port that was tried.
        last: u16,
    },
    /// A component ended or did not become ready in time.
    #[error("{component} {problem}; the end of its log {}:\n{tail}", log.display())]
    Component {
        /// Its name.
        component: &'static str,
        /// What went wrong.
        problem: String,
        /// The file with its log.
        log: PathBuf,
        /// The last lines of the log.
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
        /// Its name.
        program: &'static str,
        /// Its arguments.
        arguments: String,
        /// What it wrote to stderr, or why it could not be run.
        problem: String,
    },
    /// A line of the audit log is not an audit event.
    #[error("line {line} of the audit log is not an event")]
    Audit {
        /// The number of the line, from 1.
        line: usize,
        /// Why it cannot be read.
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
