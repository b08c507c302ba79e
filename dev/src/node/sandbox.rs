use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::files::Home;
use crate::node::cgroups::Cgroups;
use crate::process::Guarded;
use crate::tool::output_of;

/// A network, mounts and processes of its own: what happens in it is gone with the first process.
/// util-linux's `unshare` ends that process when it is ended itself.
const NAMESPACES: [&str; 7] =
    ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];
/// Folders that container runtimes write to whatever one tells them.
const COVERED: [&str; 4] = ["/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet"];

/// Where a node can run without leaving anything behind on this machine: namespaces, and a control
/// group and a temporary folder that are removed on drop.
#[derive(Debug)]
pub struct Sandbox {
    cgroups: Cgroups,
    home: Home,
    /// Folders that had to be made in order to be covered.
    made: Vec<&'static str>,
}

impl Sandbox {
    /// Why there can be none: it takes root, and a kernel that lets root make namespaces.
    pub fn obstacle() -> Option<String> {
        let mut probe = Command::new("unshare");
        probe.args(NAMESPACES).args(["mount", "-t", "tmpfs", "tmpfs", "/run"]);
        match probe.stdin(Stdio::null()).output() {
            Err(error) => Some(format!("unshare cannot be run: {error}")),
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Some(said.lines().next().unwrap_or("unshare failed").to_owned())
            }
        }
    }

    /// A folder and a control group.
    pub fn create() -> Result<Self, Error> {
        let made = COVERED.into_iter().filter(|folder| !Path::new(folder).exists()).collect();
        let sandbox = Self { cgroups: Cgroups::create()?, home: Home::new(None)?, made };
        for folder in &sandbox.made {
            fs::create_dir_all(folder).map_err(Error::file("create", Path::new(folder)))?;
        }
        Ok(sandbox)
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Leaves the folder behind at the end.
    pub fn keep_directory(&self) {
        self.home.keep();
    }

    /// The control group, for [`NodeOptions::cgroup`](crate::NodeOptions).
    pub fn cgroup(&self) -> &str {
        self.cgroups.name()
    }

    /// Runs `command` in namespaces of its own, with our output. When it ends, or is ended, or we
    /// are gone, everything ends that it has started.
    pub fn spawn(&self, command: &Command) -> Result<Guarded, Error> {
        let mut unshare = Command::new("unshare");
        unshare.args(NAMESPACES).arg("--").arg(command.get_program()).args(command.get_args());
        Ok(Guarded::spawn_in_view(&unshare)?)
    }

    /// To be called first by what [`spawn`](Self::spawn) started: brings up its network with
    /// `address` for this machine, and covers what the runtime would write to elsewhere.
    pub fn furnish(address: Ipv4Addr) -> Result<(), Error> {
        // Pods ask this address for the API server, so it must not be a loopback one; the interface may be.
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"])?;
        let forward = PathBuf::from("/proc/sys/net/ipv4/ip_forward");
        fs::write(&forward, "1").map_err(Error::file("write", &forward))?;
        for folder in COVERED {
            run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])?;
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for folder in &self.made {
            // Where it is not empty, somebody else has begun to use it.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn run(program: &'static str, arguments: &[&str]) -> Result<(), Error> {
    output_of(program, Command::new(program).args(arguments)).map(drop)
}
