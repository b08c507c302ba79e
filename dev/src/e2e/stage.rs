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
use crate::story::Story;

pub(super) const SYSTEM: &str = "dps-system";
/// Of the simulator's admin API, in its Pod and here.
const ADMIN_PORT: u16 = 8444;
const FORWARD_TIMEOUT: Duration = Duration::from_secs(20);

/// A cluster with one node, and what the story needs to act on it.
#[derive(Debug)]
pub(super) struct Stage {
    // Fields are dropped in order: the node goes before what it depends on.
    node: Node,
    control_plane: ControlPlane,
    handover: Handover,
}

/// The simulator's counts of requests, which start again with its Pod.
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

impl Stage {
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
        let stage = Self { node, control_plane, handover };
        let dns = checkout().join("dev/node/coredns.yaml");
        stage.kubectl(&["apply", "--server-side", "-f", &dns.to_string_lossy()])?;
        stage.kubectl(&["rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=120s"])?;
        Ok(stage)
    }

    /// Whether cluster and node still run.
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

    /// Shows a kubectl command and what it printed.
    pub(super) fn show(&self, story: &mut Story, command: &str) -> Result<(), Failure> {
        story.shown(&format!("kubectl {command}"))?;
        let arguments: Vec<&str> = command.split(' ').collect();
        story.lines(&self.kubectl(&arguments)?)?;
        Ok(())
    }

    /// Shows a helm command, with the chart of the checkout, and what it says about the release.
    pub(super) fn helm(&self, story: &mut Story, command: &str) -> Result<(), Failure> {
        story.shown(&format!("helm {command}"))?;
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
            let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
            return Err(Failure::Helm { arguments: command.to_owned(), said });
        }
        let said = text(&output.stdout);
        said.lines()
            .filter(|line| line.starts_with("STATUS:") || line.starts_with("release "))
            .try_for_each(|line| story.line(line))?;
        Ok(())
    }

    /// What the simulator was asked so far.
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

    /// Its admin API is on the Pod's loopback, so it is reached as a user reaches it.
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
        // The log is appended to: the next one must not find this line.
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

    /// SIGKILL, which no process can prepare for.
    pub(super) fn kill(&self, pid: Pid) -> Result<(), Failure> {
        kill_process(pid, Signal::KILL)
            .map_err(|error| Failure::Unexpected(format!("cannot kill the process {pid}: {error}")))
    }
}
