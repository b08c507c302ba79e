//! A real node for a [`ControlPlane`]: kubelet, kube-scheduler, kube-proxy and containerd, in which
//! Pods run. It needs root, and a [`Sandbox`] so that this machine is not changed.

mod cgroups;
mod config;
mod sandbox;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use sandbox::Sandbox;

use crate::certificates::{Identity, NODE_NAME};
use crate::control_plane::ControlPlane;
use crate::error::Error;
use crate::kubectl::Credentials;
use crate::processes::Processes;
use crate::tool::output_of;

/// The address of this machine in a [`Sandbox`], for [`Options::node_address`](crate::Options).
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

/// While the node does not exist yet this fails at once, so it does not wait long afterwards either.
const READY: [&str; 4] = ["wait", "node/dps-node", "--for=condition=Ready", "--timeout=1s"];

/// The programs and images of a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The folder that `dev/build-node` names.
    pub binaries: PathBuf,
    /// The folder with the plugins of the container network interface.
    pub cni_plugins: String,
    /// Archives of the images that Pods may use; one of them is the sandbox's.
    pub images: Vec<PathBuf>,
    /// The control group of the sandbox: [`Sandbox::cgroup`].
    pub cgroup: String,
}

/// A running node. Its processes end when it is dropped; Pods end with their sandbox.
#[derive(Debug)]
pub struct Node {
    processes: Processes,
    options: NodeOptions,
    folder: PathBuf,
}

impl Node {
    /// Starts all components and returns when the node is ready and has the images. The control
    /// plane must have [`NODE_ADDRESS`] and all of its controllers, and this process must run in a
    /// [`Sandbox`].
    pub fn start(control_plane: &ControlPlane, options: NodeOptions) -> Result<Self, Error> {
        let folder = control_plane.directory().join("node");
        for name in ["cni", "kubelet", "pods", "volume-plugins"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        let mut node = Self { processes: Processes::new(control_plane.logs_dir()), options, folder };
        node.start_containerd()?;
        node.start_kubernetes(control_plane)?;
        for image in node.options.images.clone() {
            node.import(&image)?;
        }
        node.processes.await_ready("kubelet", || control_plane.kubectl_ok(&READY))?;
        Ok(node)
    }

    /// Makes the images of an archive known to the kubelet.
    fn import(&self, archive: &Path) -> Result<(), Error> {
        // Without --local containerd also unpacks for platforms that it has no snapshotter for.
        let arguments = ["-n", "k8s.io", "images", "import", "--local", "--snapshotter", "native"];
        output_of("ctr", self.command("ctr").args(arguments).arg(archive)).map(drop)
    }

    /// An error, with the end of its log, when a component is not running.
    pub fn check(&mut self) -> Result<(), Error> {
        self.processes.check()
    }

    fn start_containerd(&mut self) -> Result<(), Error> {
        let cni = self.folder.join("cni");
        self.write("cni/pods.conflist", &config::network())?;
        let runc = self.options.binaries.join("runc");
        let text =
            config::containerd(&self.folder.join("containerd"), &cni, &self.options.cni_plugins, &runc);
        let file = self.write("containerd.toml", &text)?;
        self.launch("containerd", |command| {
            command.arg("--config").arg(file);
        })?;
        let mut version = self.command("ctr");
        version.arg("version");
        self.processes.await_ready("containerd", || output_of("ctr", &mut version))
    }

    fn start_kubernetes(&mut self, control_plane: &ControlPlane) -> Result<(), Error> {
        let certificates = control_plane.certificates();
        // Pods cannot reach the resolvers of this machine.
        self.write("resolv.conf", "")?;
        let file = self
            .write("kubelet.json", &config::kubelet(&self.folder, &certificates.ca, &self.options.cgroup))?;
        let kubeconfig = write_kubeconfig(control_plane, "kubelet", &certificates.node.kubelet)?;
        let folder = self.folder.join("kubelet");
        self.launch("kubelet", |command| {
            command
                .args([format!("--hostname-override={NODE_NAME}"), format!("--node-ip={NODE_ADDRESS}")])
                .arg("--config")
                .arg(file)
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .arg("--root-dir")
                .arg(&folder)
                .arg("--cert-dir")
                .arg(folder.join("pki"));
        })?;
        let file = write_kubeconfig(control_plane, "kube-proxy", &certificates.node.proxy)?;
        let file = self.write("kube-proxy.json", &config::proxy(&file))?;
        self.launch("kube-proxy", |command| {
            command.arg("--config").arg(file);
        })?;
        let file = write_kubeconfig(control_plane, "kube-scheduler", &certificates.node.scheduler)?;
        self.launch("kube-scheduler", |command| {
            command.arg("--kubeconfig").arg(file).args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
        })
    }

    fn launch(&mut self, name: &'static str, describe: impl FnOnce(&mut Command)) -> Result<(), Error> {
        let mut command = self.command(name);
        describe(&mut command);
        self.processes.launch(name, &command)
    }

    /// One of the node's programs, with the folder of all of them in its `PATH`.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.options.binaries.join(name));
        let path = std::env::var("PATH").unwrap_or_default();
        // iptables is in a folder that is not in the path of ordinary users.
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.options.binaries.display()));
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        Ok(path)
    }
}

fn write_kubeconfig(control_plane: &ControlPlane, name: &str, who: &Identity) -> Result<PathBuf, Error> {
    control_plane.write_kubeconfig(name, control_plane.url(), &Credentials::Certificate(who))
}
