//! The operator's process: started, ended, killed, and what it shows by HTTP and in its log.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::time::Duration;

use dps_dev::{Error, Guarded, Signal};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use super::clock::Clock;
use super::proxy::Proxies;
use super::waiting::until;
use super::{POLL, World};

/// Namespace of the operators' ServiceAccounts; each is named after the namespace it works in.
pub const ACCOUNTS: &str = "operators";
const LAST_LINES: usize = 60;
const SHUTDOWN: Duration = Duration::from_secs(20);

/// What the chart gives for leader election: one Lease, by its name.
fn lease_rights(name: &str) -> Value {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": ACCOUNTS},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name],
             "verbs": ["get", "update"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": ACCOUNTS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS}],
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
}

/// What was answered to a request for a page.
pub struct Page {
    pub status: u16,
    pub text: String,
}

/// What a process of the operator shows by HTTP and in its log.
pub struct Replica<'a> {
    world: &'a World,
    log: PathBuf,
}

impl Replica<'_> {
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a line with this text.
    pub async fn wait_log(&self, text: &str) {
        let logged =
            until(self.world.patience, POLL, async || self.log().contains(text).then_some(()).ok_or(()));
        logged.await.unwrap_or_else(|()| panic!("never logged: {text}\n{}", self.world.operator_log_tail()));
    }

    pub async fn page(&self, path: &str) -> Page {
        const SERVING: &str = "serving probes and metrics address=";
        self.wait_log(SERVING).await;
        let log = self.log();
        let address = log.rsplit(SERVING).next().and_then(|rest| rest.split_whitespace().next());
        let url = format!("http://{}{path}", address.expect("the line ends with the address"));
        let answer = reqwest::get(url).await.expect("the operator answers");
        Page { status: answer.status().as_u16(), text: answer.text().await.expect("the page is text") }
    }

    /// The value of one series; none if it is not there.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.page("/metrics").await.text;
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until everything has been read.
    pub async fn wait_synced(&self) {
        let ready = until(self.world.patience, POLL, async || {
            let page = self.page("/readyz").await;
            if page.status == 200 { Ok(()) } else { Err(page.text) }
        });
        ready.await.unwrap_or_else(|text| panic!("never ready: {text}"));
    }
}

impl World {
    /// The operator that was started last.
    pub fn first_replica(&self) -> Replica<'_> {
        Replica { world: self, log: self.log.clone() }
    }

    /// One that was started as a second.
    pub fn replica(&self, process: &Guarded) -> Replica<'_> {
        Replica { world: self, log: process.log().to_owned() }
    }

    /// Starts it with the rights of its account.
    pub async fn start_operator(&mut self) {
        assert!(self.operator.is_none(), "the operator runs already");
        self.operator = Some(self.spawn_operator(&self.log, &[], self.proxies.as_ref()));
    }

    /// Another one with the same rights, which ends with the value that is returned. No proxy is between it
    /// and the API server.
    pub async fn second_operator(&self) -> Guarded {
        self.second_operator_with(&[]).await
    }

    /// The same, with other values of these flags.
    pub async fn second_operator_with(&self, flags: &[(&str, &str)]) -> Guarded {
        self.spawn_operator(&self.second_log(), flags, None)
    }

    /// The same, with proxies of its own.
    pub async fn second_operator_through(&self, proxies: &Proxies) -> Guarded {
        self.spawn_operator(&self.second_log(), &[], Some(proxies))
    }

    fn second_log(&self) -> PathBuf {
        self.log.with_extension("second.log")
    }

    fn spawn_operator(&self, log: &Path, other: &[(&str, &str)], proxies: Option<&Proxies>) -> Guarded {
        let namespaces: Vec<&str> = if self.cluster_wide {
            Vec::new()
        } else {
            [&self.namespace].into_iter().chain(&self.further_namespaces).map(String::as_str).collect()
        };
        let hosts: Vec<String> = [self.host()].into_iter().chain(self.further_hosts.clone()).collect();
        let (namespaces, hosts) = (namespaces.join(","), hosts.join(","));
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.most_a_minute.fetch_add(self.registrations_per_minute as usize, Ordering::Relaxed);
        let rate = self.registrations_per_minute.to_string();
        let usual = [
            ("--watch-namespaces", namespaces.as_str()),
            ("--allowed-dps-hosts", &hosts),
            ("--registrations-per-minute", &rate),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_dps-operator"));
        command.args(["run", "--log-level", self.log_level, "--http-addr", "127.0.0.1:0"]);
        for (flag, value) in usual {
            let differs = other.iter().find(|(name, _)| *name == flag);
            command.args([flag, differs.map_or(value, |(_, value)| value)]);
        }
        if let Some(proxy) = &self.dps_proxy {
            command.args(["--dps-proxy", proxy]);
        }
        if self.cert_manager {
            command.arg("--cert-manager");
        }
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        if self.leader_elect {
            command.args(["--leader-elect", "--lease-name", &self.namespace, "--lease-namespace", ACCOUNTS]);
        }
        let started = tokio::task::block_in_place(|| -> Result<Guarded, Error> {
            if self.leader_elect {
                self.control_plane.apply(&lease_rights(&self.namespace).to_string())?;
            }
            let kubeconfig = match proxies {
                Some(proxies) => proxies.kubeconfig(&self.control_plane, ACCOUNTS, &self.namespace),
                None => self.control_plane.service_account_kubeconfig(ACCOUNTS, &self.namespace)?,
            };
            Ok(Guarded::spawn(command.env("KUBECONFIG", kubeconfig), log)?)
        });
        let started = started.expect("the operator starts");
        if let Some(proxies) = proxies {
            proxies.process.is(started.pid());
        }
        started
    }

    /// Operators that are started from now on go by a clock of their own.
    pub fn set_up_clock(&mut self) {
        self.clock = Some(Clock::new(&self.log));
    }

    /// SIGTERM; waits for its end.
    pub async fn stop_operator(&mut self) -> ExitStatus {
        let mut operator = self.operator.take().expect("the operator runs");
        tokio::task::block_in_place(|| operator.terminate(SHUTDOWN)).expect("the operator can be ended")
    }

    /// Sends a signal that does not end it.
    pub async fn signal_operator(&mut self, signal: Signal) {
        let operator = self.operator.as_mut().expect("the operator runs");
        tokio::task::block_in_place(|| operator.signal(signal)).expect("it can be signalled");
    }

    /// Waits until it has ended by itself.
    pub async fn operator_ended(&mut self) -> ExitStatus {
        let mut operator = self.operator.take().expect("the operator runs");
        let ended = tokio::task::block_in_place(|| operator.wait_timeout(self.patience));
        ended.expect("it can be waited for").expect("the operator never ended")
    }

    /// SIGTERM only; the caller waits.
    pub fn ask_operator_to_end(&mut self) -> Guarded {
        let mut operator = self.operator.take().expect("the operator runs");
        tokio::task::block_in_place(|| operator.signal(Signal::Terminate)).expect("it can be signalled");
        operator
    }

    /// From now on it may have so many descriptors open.
    pub fn limit_descriptors(&self, most: u64) {
        let operator = self.operator.as_ref().expect("the operator runs");
        let pid = i32::try_from(operator.pid()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(pid, Resource::Nofile, limit).expect("its limits can be set");
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

    /// Everything that operators of this world have logged, other than second ones.
    pub fn operator_log(&self) -> String {
        read(&self.log)
    }

    /// Everything that all operators of this world have logged.
    pub fn all_logs(&self) -> String {
        [self.operator_log(), read(&self.second_log())].concat()
    }

    pub fn operator_log_tail(&self) -> String {
        let log = self.operator_log();
        // What libraries say at this level would hide it.
        let own = |line: &&str| line.contains(" dps_operator") || line.contains("panicked");
        let lines: Vec<&str> = log.lines().filter(own).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

/// Empty if there is no such file.
fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}
