use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use dps_dev::{ControlPlane, Guarded, NODE_ADDRESS, Node, NodeOptions, Options, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::handover::Handover;
use crate::admin;
use crate::checkout::checkout;
use crate::progress::Progress;

pub(super) const SYSTEM: &str = "dps-system";
/// The port of the simulator's admin API, in its Pod and on this machine.
const ADMIN_PORT: u16 = 8444;
const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster with one node, and what the steps need to act on it.
#[derive(Debug)]
pub(super) struct Cluster {
    // Fields are dropped in order: the node goes before what it depends on.
    node: Node,
    control_plane: ControlPlane,
    handover: Handover,
}

/// The simulator's counts of requests, which start at 0 when its Pod is replaced.
#[derive(Debug, Deserialize)]
pub(super) struct Totals {
    pub(super) register: u64,
}

/// The key in a Secret that the operator wrote, and the device that it is for.
pub(super) struct DeviceKey {
    pub(super) id_scope: String,
    pub(super) registration_id: String,
    pub(super) key: String,
}

/// A request to the simulator's admin API: method and path, and the body.
struct AdminRequest {
    line: &'static str,
    body: String,
}

impl Cluster {
    pub(super) fn start(handover: Handover) -> Result<Self, Failure> {
        let control_plane = ControlPlane::start(Options {
            directory: Some(handover.directory.join("cluster")),
            controller_manager_flags: vec!["--controllers=*".to_owned()],
            node_address: Some(NODE_ADDRESS),
            ..Options::default()
        })?;
        let mut images = Vec::new();
        for entry in fs::read_dir(&handover.images)? {
            images.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|it| it == "tar")));
        }
        let node = Node::start(
            &control_plane,
            NodeOptions {
                binaries: handover.node.clone(),
                cni_plugins: handover.network_plugins.clone(),
                images,
                cgroup: handover.cgroup.clone(),
            },
        )?;
        let cluster = Self { node, control_plane, handover };
        let dns = checkout().join("dev/node/coredns.yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", &dns.to_string_lossy()])?;
        cluster.kubectl(&[
            "rollout",
            "status",
            "-n",
            "kube-system",
            "deployment/coredns",
            "--timeout=120s",
        ])?;
        Ok(cluster)
    }

    /// Fails if a component does not run any more.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.control_plane.check()?;
        Ok(self.node.check()?)
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String, Failure> {
        Ok(self.control_plane.kubectl_ok(arguments)?)
    }

    pub(super) fn apply_in(&self, namespace: &str, manifest: &str) -> Result<String, Failure> {
        let file = self.control_plane.directory().join("manifest.yaml");
        fs::write(&file, manifest)?;
        self.kubectl(&["apply", "--server-side", "-n", namespace, "-f", &file.to_string_lossy()])
    }

    /// Runs a kubectl command; prints it and its output.
    pub(super) fn show(&self, progress: &mut Progress, command: &str) -> Result<(), Failure> {
        progress.command(&format!("kubectl {command}"))?;
        let arguments: Vec<&str> = command.split(' ').collect();
        progress.lines(&self.kubectl(&arguments)?)?;
        Ok(())
    }

    /// Runs a helm command with the chart of the checkout; prints it and the state of the release.
    pub(super) fn helm(&self, progress: &mut Progress, command: &str) -> Result<(), Failure> {
        progress.command(&format!("helm {command}"))?;
        let home = self.control_plane.directory().join("helm");
        let arguments: Vec<String> = command
            .split(' ')
            .map(|argument| match argument {
                "charts/dps-operator" => self.handover.chart.to_string_lossy().into_owned(),
                "dev/node/values.yaml" => checkout().join(argument).to_string_lossy().into_owned(),
                other => other.to_owned(),
            })
            .collect();
        let output = Command::new(&self.handover.helm)
            .args(&arguments)
            .env("KUBECONFIG", self.control_plane.admin_kubeconfig())
            .env("HELM_CONFIG_HOME", &home)
            .env("HELM_CACHE_HOME", &home)
            .env("HELM_DATA_HOME", &home)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::Missing("helm", error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            let printed = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
            return Err(Failure::Helm { arguments: command.to_owned(), printed });
        }
        let printed = text(&output.stdout);
        printed
            .lines()
            .filter(|line| line.starts_with("STATUS:") || line.starts_with("release "))
            .try_for_each(|line| progress.line(line))?;
        Ok(())
    }

    /// The simulator's counts of requests so far.
    pub(super) fn totals(&self) -> Result<Totals, Failure> {
        let request = AdminRequest { line: "GET /v1/ledger/totals", body: String::new() };
        let answers = self.ask_simulator(&[request])?;
        let text = answers.first().map(String::as_str).unwrap_or_default();
        serde_json::from_str(text).map_err(|error| Failure::Json("the simulator", error))
    }

    /// The registration ids of the devices whose key the hub would not accept.
    pub(super) fn refused(&self, keys: &[DeviceKey]) -> Result<Vec<String>, Failure> {
        let requests: Vec<AdminRequest> = keys
            .iter()
            .map(|key| AdminRequest {
                line: "POST /v1/check-device-key",
                body: json!({
                    "idScope": key.id_scope, "registrationId": key.registration_id, "key": key.key,
                })
                .to_string(),
            })
            .collect();
        let answers = self.ask_simulator(&requests)?;
        let accepted = |answer: &str| {
            serde_json::from_str::<Value>(answer).is_ok_and(|it| it["accepted"] == json!(true))
        };
        let refused = keys.iter().zip(answers).filter(|(_, answer)| !accepted(answer));
        Ok(refused.map(|(key, _)| key.registration_id.clone()).collect())
    }

    /// The admin API listens on loopback in its Pod, so a port is forwarded, as a user would do.
    fn ask_simulator(&self, requests: &[AdminRequest]) -> Result<Vec<String>, Failure> {
        let log = self.control_plane.logs_dir().join("port-forward.log");
        let ports = ADMIN_PORT.to_string();
        let mut command = self.control_plane.kubectl();
        command.args(["port-forward", "-n", SYSTEM, "deployment/dps-operator-simulator", &ports]);
        let mut forward = Guarded::spawn(&command, &log)?;
        let ready = eventually(FORWARD_TIMEOUT, || {
            let ready = forward.log_tail(5).contains("Forwarding from 127.0.0.1");
            (ready || !forward.is_running()).then_some(ready)
        });
        if ready != Some(true) {
            return Err(Failure::Unexpected(format!("kubectl port-forward: {}", forward.log_tail(5))));
        }
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
        let answers: Result<Vec<String>, _> =
            requests.iter().map(|request| admin::call(server, request.line, &request.body)).collect();
        drop(forward);
        // The next call appends to the log, and must not find this line in it.
        fs::remove_file(&log)?;
        Ok(answers?)
    }

    /// The pid of the operator in a Pod: processes of the node are visible here.
    pub(super) fn operator_in(&self, pod_uid: &str) -> Result<Pid, Failure> {
        let found = fs::read_dir("/proc")?.flatten().find_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            (name.trim() == "dps-operator" && cgroup.contains(pod_uid)).then_some(pid)
        });
        found.ok_or_else(|| Failure::Unexpected(format!("no process dps-operator in the Pod {pod_uid}")))
    }

    /// Sends SIGKILL, which a process cannot handle.
    pub(super) fn kill(&self, pid: Pid) -> Result<(), Failure> {
        kill_process(pid, Signal::KILL)
            .map_err(|error| Failure::Unexpected(format!("cannot kill the process {pid}: {error}")))
    }
}
