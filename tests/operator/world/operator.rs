//! The operator's process: started, ended, killed, listened to.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use dps_dev::{Error, Guarded, Signal};

use super::World;

/// Namespace of the operators' ServiceAccounts; each is named after the namespace it works in.
pub const ACCOUNTS: &str = "operators";
const LAST_LINES: usize = 60;
const SHUTDOWN: Duration = Duration::from_secs(20);

impl World {
    /// Starts it with the rights of its account.
    pub async fn start_operator(&mut self) {
        assert!(self.operator.is_none(), "the operator runs already");
        self.operator = Some(self.spawn_operator(&self.log.clone()));
    }

    /// Another one with the same rights, which ends with the value that is returned.
    pub async fn second_operator(&self) -> Guarded {
        self.spawn_operator(&self.log.with_extension("second.log"))
    }

    fn spawn_operator(&self, log: &Path) -> Guarded {
        let namespaces: Vec<&str> = if self.cluster_wide {
            Vec::new()
        } else {
            [&self.namespace].into_iter().chain(&self.guests).map(String::as_str).collect()
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_dps-operator"));
        command
            .args(["run", "--log-level", self.log_level])
            .args(["--watch-namespaces", &namespaces.join(",")])
            .args(["--allowed-dps-hosts", &self.host()])
            .args(["--registrations-per-minute", &self.registrations_per_minute.to_string()]);
        if let Some(proxy) = &self.dps_proxy {
            command.args(["--dps-proxy", proxy]);
        }
        let started = tokio::task::block_in_place(|| -> Result<Guarded, Error> {
            let kubeconfig = self.control_plane.service_account_kubeconfig(ACCOUNTS, &self.namespace)?;
            Ok(Guarded::spawn(command.env("KUBECONFIG", kubeconfig), log)?)
        });
        started.expect("the operator starts")
    }

    /// SIGTERM; waits for its end.
    pub async fn stop_operator(&mut self) -> ExitStatus {
        let mut operator = self.operator.take().expect("the operator runs");
        tokio::task::block_in_place(|| operator.terminate(SHUTDOWN)).expect("the operator can be ended")
    }

    /// SIGTERM only; the caller waits.
    pub fn ask_operator_to_end(&mut self) -> Guarded {
        let mut operator = self.operator.take().expect("the operator runs");
        tokio::task::block_in_place(|| operator.signal(Signal::Terminate)).expect("it can be signalled");
        operator
    }

    /// SIGKILL.
    pub async fn kill_operator(&mut self) {
        let mut operator = self.operator.take().expect("the operator runs");
        tokio::task::block_in_place(|| operator.kill()).expect("the operator can be killed");
    }

    pub async fn restart_operator(&mut self) {
        self.stop_operator().await;
        self.start_operator().await;
    }

    /// Whether it has not ended by itself.
    pub fn operator_runs(&mut self) -> bool {
        self.operator.as_mut().is_some_and(Guarded::is_running)
    }

    /// Everything that all operators of this world have logged.
    pub fn operator_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn operator_log_tail(&self) -> String {
        let log = self.operator_log();
        // What libraries say at this level would hide it.
        let own = |line: &&str| line.contains(" dps_operator") || line.contains("panicked");
        let lines: Vec<&str> = log.lines().filter(own).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}
