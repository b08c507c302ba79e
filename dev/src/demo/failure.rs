use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use dps_dev::process;

use crate::admin::AdminError;
use crate::stop::StopSignal;

/// Why the demo ended early, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// By Ctrl-C, a closed terminal or SIGTERM.
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
    /// The simulator has ended or did not become ready.
    #[error("the simulator {problem}; the end of its log {}:\n{tail}", log.display())]
    Simulator { problem: &'static str, log: PathBuf, tail: String },
    #[error("the operator has ended")]
    OperatorEnded,
    #[error("kubectl {command} gave up:\n{printed}\n\nMESSAGE says what is wrong:\n{devices}")]
    Wait { command: String, printed: String, devices: String },
    #[error("the Secret of {device} is not as it should be: {problem}")]
    Secret { device: String, problem: &'static str },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("DPS does not accept the key in the Secret {secret} of {device}")]
    KeyRefused { device: String, secret: String },
    #[error("examples/devices.yaml declares no device {0}, which the demo shows")]
    NoDevice(&'static str),
    /// Another failure, with what helps to find its cause.
    #[error("{failure}\n\nThe end of the operator's log:\n{tail}\n\nAll logs, kept: {}", logs.display())]
    Explained { failure: String, tail: String, logs: PathBuf },
}

/// Fails when the process was told to end.
pub(super) fn check_stop(stop: &StopSignal) -> Result<(), Failure> {
    match stop.received() {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}
