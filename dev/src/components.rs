//! The command line of each component.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::assets::Assets;
use crate::certificates::{Certificates, SERVICE_RANGE};
use crate::directory::Directory;
use crate::error::Error;
use crate::options::Options;
use crate::ports;

/// Each request is logged once, when its answer was sent; a watch also when it begins.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [{"level": "Metadata"}]
}
"#;

/// The controllers of a cluster that affect an operator. A further `--controllers` flag adds to
/// these.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,\
                           serviceaccount-controller,clusterrole-aggregation-controller";

/// One of the processes a control plane consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

impl Component {
    /// The name of its binary, and of its log without the ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
    controller_manager: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Self, Error> {
        let [etcd, etcd_peer, api_server, controller_manager] = ports::free()?;
        Ok(Self { etcd, etcd_peer, api_server, controller_manager })
    }

    pub(crate) fn api_server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    pub(crate) fn controller_manager_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.controller_manager)
    }
}

/// What the command lines depend on.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) assets: Assets,
    pub(crate) ports: Ports,
    pub(crate) certificates: Certificates,
    pub(crate) audit_policy: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) etcd_data: PathBuf,
    pub(crate) controller_manager_kubeconfig: PathBuf,
}

impl Plan {
    pub(crate) fn new(
        options: Options,
        assets: Assets,
        directory: &Directory,
        certificates: Certificates,
    ) -> Result<Self, Error> {
        Ok(Self {
            options,
            assets,
            ports: Ports::free()?,
            certificates,
            audit_policy: directory.write("audit-policy.json", AUDIT_POLICY)?,
            audit_log: directory.logs().join("audit.log"),
            etcd_data: directory.join("etcd"),
            controller_manager_kubeconfig: directory.join("controller-manager.kubeconfig"),
        })
    }

    pub(crate) fn command(&self, component: Component) -> Command {
        let mut command = Command::new(self.assets.binary(component.name()));
        match component {
            Component::Etcd => self.etcd(&mut command),
            Component::ApiServer => self.api_server(&mut command),
            Component::ControllerManager => self.controller_manager(&mut command),
        }
        command
    }

    fn etcd(&self, command: &mut Command) {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        command
            .args(["--name", "etcd", "--log-level", "warn"])
            .arg(path_flag("--data-dir", &self.etcd_data))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("etcd={peer}")])
            // A fleet of 100,000 with its history would reach the default of 2 GiB.
            .args(["--quota-backend-bytes", "8589934592"]);
        if !self.options.durable {
            command.arg("--unsafe-no-fsync");
        }
    }

    fn api_server(&self, command: &mut Command) {
        let Certificates { ca, server, service_account_key, .. } = &self.certificates;
        let public_key = &self.certificates.service_account_public_key;
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd))
            .arg(format!("--secure-port={}", self.ports.api_server))
            .args(self.api_server_address())
            .arg(path_flag("--tls-cert-file", &server.certificate))
            .arg(path_flag("--tls-private-key-file", &server.key))
            .arg(path_flag("--client-ca-file", ca))
            .arg(path_flag("--service-account-key-file", public_key))
            .arg(path_flag("--service-account-signing-key-file", service_account_key))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-cluster-ip-range={SERVICE_RANGE}"))
            .arg(path_flag("--audit-policy-file", &self.audit_policy))
            .arg(path_flag("--audit-log-path", &self.audit_log))
            // A rotation would remove events that a reader has not read yet.
            .arg("--audit-log-maxsize=0")
            .args(&self.options.api_server_flags);
    }

    /// Where the API server listens, and what it needs for a node.
    fn api_server_address(&self) -> Vec<OsString> {
        let Some(address) = self.options.node_address else {
            return [
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--authorization-mode=RBAC",
            ]
            .map(Into::into)
            .into();
        };
        // Logs and port forwarding go through the kubelet, which checks the client's certificate.
        let kubelet_client = &self.certificates.admin;
        vec![
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={address}").into(),
            "--authorization-mode=Node,RBAC".into(),
            // There is no DNS that knows the node's name.
            "--kubelet-preferred-address-types=InternalIP".into(),
            path_flag("--kubelet-client-certificate", &kubelet_client.certificate),
            path_flag("--kubelet-client-key", &kubelet_client.key),
        ]
    }

    fn controller_manager(&self, command: &mut Command) {
        let Certificates { ca, server, service_account_key, .. } = &self.certificates;
        command
            .arg(path_flag("--kubeconfig", &self.controller_manager_kubeconfig))
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg(path_flag("--service-account-private-key-file", service_account_key))
            .arg(path_flag("--root-ca-file", ca))
            .args(["--use-service-account-credentials=true", "--leader-elect=false"])
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={}", self.ports.controller_manager))
            // The API server's certificate is for the same host, so that the certificate can be
            // verified when `/healthz` is called.
            .arg(path_flag("--tls-cert-file", &server.certificate))
            .arg(path_flag("--tls-private-key-file", &server.key))
            // One of the controllers that a node needs creates this folder.
            .arg(path_flag("--flex-volume-plugin-dir", &self.etcd_data.with_file_name("volume-plugins")))
            .args(&self.options.controller_manager_flags);
    }
}

fn path_flag(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push("=");
    argument.push(path);
    argument
}
