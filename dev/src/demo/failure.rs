use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use dps_dev::process;

use crate::admin::AdminError;

/// Why the demo did not get to its end, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Ctrl-C, a closed terminal, SIGTERM.
    #[error("interrupted; nothing of the demo is left running")]
    Interrupted,
    #[error("cannot run cargo: install Rust from https://rustup.rs/ and try again")]
    Cargo(#[source] io::Error),
    #[error("cargo build ended with {0}: what it says above comes first")]
    Build(ExitStatus),
    #[error("cargo built no {0}: is Cargo.toml as it was?")]
    NotBuilt(&'static str),
    #[error(transparent)]
    ControlPlane(#[from] dps_dev::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("cannot read or write")]
    Io(#[from] io::Error),
    #[error("cannot read what {0} says")]
    Json(&'static str, #[source] serde_json::Error),
    /// It is not there any more, or never came up.
    #[error("the simulator {problem}; the end of its log {}:\n{tail}", log.display())]
    Simulator { problem: &'static str, log: PathBuf, tail: String },
    #[error("the operator has ended")]
    OperatorEnded,
    #[error("kubectl {command} gave up:\n{said}\n\nMESSAGE says what is wrong:\n{devices}")]
    Wait { command: String, said: String, devices: String },
    #[error("the Secret of {device} is not as it should be: {problem}")]
    Secret { device: String, problem: &'static str },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("DPS does not accept the key in the Secret {secret} of {device}")]
    KeyRefused { device: String, secret: String },
    #[error("examples/devices.yaml declares no device {0}, which the demo shows")]
    NoDevice(&'static str),
    /// With what somebody needs to find the cause.
    #[error("{failure}\n\nThe end of the operator's log:\n{tail}\n\nAll logs, kept: {}", logs.display())]
    Explained { failure: String, tail: String, logs: PathBuf },
}
