use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dps_dev::{ControlPlane, Guarded};

use super::failure::{Failure, check_stop};
use super::fleet::{ConnectionString, Device};
use super::simulator::Simulator;
use crate::causes::with_causes;
use crate::checkout::checkout;
use crate::progress::Progress;
use crate::stop::StopSignal;

const NAMESPACE: &str = "dps-system";
const SERVICE_ACCOUNT: &str = "dps-operator";
/// How often a stop signal is looked for.
const POLL: Duration = Duration::from_millis(100);
/// How long the operator may take to finish its open calls.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const QUOTED_LINES: usize = 20;

/// The processes of the demo. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    // Fields are dropped in order: each process ends before those that it depends on.
    operator: Option<Guarded>,
    pub(super) simulator: Simulator,
    pub(super) control_plane: ControlPlane,
    stop: &'a StopSignal,
}

impl<'a> Setup<'a> {
    pub(super) fn new(control_plane: ControlPlane, simulator: Simulator, stop: &'a StopSignal) -> Self {
        Self { operator: None, simulator, control_plane, stop }
    }

    /// Starts the operator with the token of its ServiceAccount: it may do what its ClusterRole says
    /// and nothing else.
    pub(super) fn start_operator(&mut self, binary: &Path) -> Result<(), Failure> {
        let kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT)?;
        let mut command = Command::new(binary);
        command
            .args(["run", "--http-addr", "127.0.0.1:0", "--allowed-dps-hosts", &self.simulator.host()])
            .env("KUBECONFIG", kubeconfig);
        // A proxy could not reach the simulator on this machine, and settings in the environment are
        // meant for another operator.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_uppercase();
            if text.ends_with("_PROXY") || text.starts_with("DPS_OPERATOR_") {
                command.env_remove(name);
            }
        }
        self.operator = Some(Guarded::spawn(&command, &self.operator_log())?);
        check_stop(self.stop)
    }

    pub(super) fn operator_log(&self) -> PathBuf {
        self.control_plane.logs_dir().join("operator.log")
    }

    pub(super) fn check_key(&self, device: &Device, connection: &ConnectionString) -> Result<(), Failure> {
        match self.simulator.accepts(device.id_scope(), device.id(), connection.key())? {
            true => Ok(()),
            false => Err(Failure::KeyRefused {
                device: device.id().to_owned(),
                secret: device.secret_name().to_owned(),
            }),
        }
    }

    /// Prints a short command, runs it in the checkout and prints its output.
    pub(super) fn kubectl(&self, progress: &mut Progress, command: &str) -> Result<(), Failure> {
        check_stop(self.stop)?;
        progress.command(&format!("kubectl {command}"))?;
        let arguments: Vec<String> = command.split(' ').map(in_checkout).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        progress.lines(&self.control_plane.kubectl_ok(&arguments)?)?;
        Ok(())
    }

    /// Prints a command that may take long, runs it and prints its output.
    pub(super) fn kubectl_until_done(
        &mut self,
        progress: &mut Progress,
        command: &str,
    ) -> Result<(), Failure> {
        progress.command(&format!("kubectl {command}"))?;
        let printed = self.wait_quietly(command)?;
        progress.lines(&printed)?;
        Ok(())
    }

    /// Runs `kubectl wait …`; fails early on a stop signal or when a process has ended.
    pub(super) fn wait_quietly(&mut self, command: &str) -> Result<String, Failure> {
        let log = self.control_plane.logs_dir().join("kubectl-wait.log");
        let mut kubectl = self.control_plane.kubectl();
        kubectl.args(command.split(' '));
        let mut process = Guarded::spawn(&kubectl, &log)?;
        let status = loop {
            self.check()?;
            if let Some(status) = process.wait_timeout(POLL)? {
                break status;
            }
        };
        let printed = process.log_tail(QUOTED_LINES);
        // The next call appends to the log, and must not find this output in it.
        fs::remove_file(&log)?;
        if status.success() {
            return Ok(printed);
        }
        let devices = self.control_plane.kubectl_ok(&["get", "dpsi,pdev", "-n", "fleet", "-o", "wide"])?;
        Err(Failure::Wait { command: command.to_owned(), printed, devices })
    }

    /// Fails on a stop signal or when a process has ended.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        check_stop(self.stop)?;
        self.control_plane.check()?;
        self.simulator.check()?;
        match self.operator.as_mut().is_none_or(Guarded::is_running) {
            true => Ok(()),
            false => Err(Failure::OperatorEnded),
        }
    }

    /// Ends all processes, the operator with SIGTERM, as a cluster does.
    pub(super) fn shut_down(self) -> Result<(), Failure> {
        let Self { operator, simulator, control_plane, stop: _ } = self;
        if let Some(mut operator) = operator {
            operator.terminate(STOP_TIMEOUT)?;
        }
        drop(simulator);
        Ok(control_plane.stop()?)
    }

    /// Keeps the logs and adds to `failure` what the operator printed last.
    pub(super) fn explain(self, failure: &Failure) -> Failure {
        self.control_plane.keep_directory();
        Failure::Explained {
            failure: with_causes(failure),
            tail: match &self.operator {
                Some(operator) => operator.log_tail(QUOTED_LINES),
                None => "(it had not been started)".to_owned(),
            },
            logs: self.control_plane.logs_dir(),
        }
    }
}

/// Commands name files relative to the checkout; the demo may have been started elsewhere.
fn in_checkout(argument: &str) -> String {
    let path = checkout().join(argument);
    match argument.contains('/') && path.is_file() {
        true => path.to_string_lossy().into_owned(),
        false => argument.to_owned(),
    }
}
