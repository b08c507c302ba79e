use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dps_dev::{ControlPlane, Guarded};

use super::failure::Failure;
use super::fleet::{ConnectionString, Device};
use super::simulator::Simulator;
use super::stop::Stop;
use crate::causes::with_causes;
use crate::checkout::checkout;
use crate::story::Story;

const NAMESPACE: &str = "dps-system";
const SERVICE_ACCOUNT: &str = "dps-operator";
/// Between two looks at whether somebody pressed Ctrl-C.
const ATTENTION: Duration = Duration::from_millis(100);
/// For the operator to finish what is in flight.
const GRACE: Duration = Duration::from_secs(5);
const QUOTED_LINES: usize = 20;

/// What runs during the demo. Dropping it ends everything.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    // Fields are dropped in order: each goes before what it depends on.
    operator: Option<Guarded>,
    pub(super) simulator: Simulator,
    pub(super) control_plane: ControlPlane,
    stop: &'a Stop,
}

impl<'a> Stage<'a> {
    pub(super) fn new(control_plane: ControlPlane, simulator: Simulator, stop: &'a Stop) -> Self {
        Self { operator: None, simulator, control_plane, stop }
    }

    /// Under its ServiceAccount's token: it may do what its ClusterRole says and nothing else.
    pub(super) fn start_operator(&mut self, binary: &Path) -> Result<(), Failure> {
        let kubeconfig = self.control_plane.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT)?;
        let mut command = Command::new(binary);
        command
            .args(["run", "--http-addr", "127.0.0.1:0", "--allowed-dps-hosts", &self.simulator.host()])
            .env("KUBECONFIG", kubeconfig);
        // Everything is on this machine: a proxy, or a setting meant for another operator, would
        // only be in the way.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_uppercase();
            if text.ends_with("_PROXY") || text.starts_with("DPS_OPERATOR_") {
                command.env_remove(name);
            }
        }
        self.operator = Some(Guarded::spawn(&command, &self.operator_log())?);
        self.stop.check()
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

    /// Shows a short command, runs it in the checkout and shows what it printed.
    pub(super) fn kubectl(&self, story: &mut Story, command: &str) -> Result<(), Failure> {
        self.stop.check()?;
        story.shown(&format!("kubectl {command}"))?;
        let arguments: Vec<String> = command.split(' ').map(in_checkout).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        story.lines(&self.control_plane.kubectl_ok(&arguments)?)?;
        Ok(())
    }

    /// Shows a command that may take long, runs it and shows what it printed.
    pub(super) fn kubectl_until_done(&mut self, story: &mut Story, command: &str) -> Result<(), Failure> {
        story.shown(&format!("kubectl {command}"))?;
        let said = self.wait_quietly(command)?;
        story.lines(&said)?;
        Ok(())
    }

    /// Runs `kubectl wait …`; ends early when somebody presses Ctrl-C or a process is gone.
    pub(super) fn wait_quietly(&mut self, command: &str) -> Result<String, Failure> {
        let log = self.control_plane.logs_dir().join("kubectl-wait.log");
        let mut kubectl = self.control_plane.kubectl();
        kubectl.args(command.split(' '));
        let mut process = Guarded::spawn(&kubectl, &log)?;
        let status = loop {
            self.look_after()?;
            if let Some(status) = process.wait_timeout(ATTENTION)? {
                break status;
            }
        };
        let said = process.log_tail(QUOTED_LINES);
        // The log is appended to: the next one must not repeat this.
        fs::remove_file(&log)?;
        if status.success() {
            return Ok(said);
        }
        let devices = self.control_plane.kubectl_ok(&["get", "dpsi,pdev", "-n", "fleet", "-o", "wide"])?;
        Err(Failure::Wait { command: command.to_owned(), said, devices })
    }

    /// Whether everything still runs and nobody wants it to end.
    pub(super) fn look_after(&mut self) -> Result<(), Failure> {
        self.stop.check()?;
        self.control_plane.check()?;
        self.simulator.check()?;
        match self.operator.as_mut().is_none_or(Guarded::is_running) {
            true => Ok(()),
            false => Err(Failure::OperatorEnded),
        }
    }

    /// Ends everything, the operator as gently as in a cluster.
    pub(super) fn clear(self) -> Result<(), Failure> {
        let Self { operator, simulator, control_plane, stop: _ } = self;
        if let Some(mut operator) = operator {
            operator.terminate(GRACE)?;
        }
        drop(simulator);
        Ok(control_plane.stop()?)
    }

    /// Keeps the logs and adds to `failure` what the operator said last.
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

/// Commands name files as somebody in the checkout does; the demo may have been started elsewhere.
fn in_checkout(argument: &str) -> String {
    let path = checkout().join(argument);
    match argument.contains('/') && path.is_file() {
        true => path.to_string_lossy().into_owned(),
        false => argument.to_owned(),
    }
}
