use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cgroups::Cgroups;
use crate::directory::Directory;
use crate::error::Error;
use crate::process::Guarded;
use crate::tool::output_of;

/// The options of `unshare` for a network, mounts and processes that end with the first process in
/// them. That process is killed when `unshare` ends.
const NAMESPACES: [&str; 7] =
    ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];
/// Folders that container runtimes write to, whichever folders are configured.
const COVERED: [&str; 4] = ["/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet"];

/// Where a node can run without leaving anything behind on this machine: namespaces, and a control
/// group and a temporary folder that are removed on drop.
#[derive(Debug)]
pub struct Sandbox {
    cgroups: Cgroups,
    directory: Directory,
    /// Folders that had to be made in order to be covered.
    made: Vec<&'static str>,
}

impl Sandbox {
    /// Why there can be no sandbox on this machine, if so: it needs root, and a kernel that lets root
    /// make namespaces.
    pub fn unavailable_because() -> Option<String> {
        let mut probe = Command::new("unshare");
        probe.args(NAMESPACES).args(["mount", "-t", "tmpfs", "tmpfs", "/run"]);
        match probe.stdin(Stdio::null()).output() {
            Err(error) => Some(format!("unshare cannot be run: {error}")),
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let printed = String::from_utf8_lossy(&output.stderr);
                Some(printed.lines().next().unwrap_or("unshare failed").to_owned())
            }
        }
    }

    /// Makes the folder and the control group.
    pub fn create() -> Result<Self, Error> {
        let made = COVERED.into_iter().filter(|folder| !Path::new(folder).exists()).collect();
        let sandbox = Self { cgroups: Cgroups::create()?, directory: Directory::new(None)?, made };
        for folder in &sandbox.made {
            fs::create_dir_all(folder).map_err(Error::file("create", Path::new(folder)))?;
        }
        Ok(sandbox)
    }

    /// The path of the folder.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps the folder at the end.
    pub fn keep_directory(&self) {
        self.directory.keep();
    }

    /// The name of the control group, for [`NodeOptions::cgroup`](crate::NodeOptions).
    pub fn cgroup(&self) -> &str {
        self.cgroups.name()
    }

    /// Runs `command` in namespaces of its own, with the output of this process. Everything that it
    /// has started ends when it ends, is killed, or this process ends.
    pub fn spawn(&self, command: &Command) -> Result<Guarded, Error> {
        let mut unshare = Command::new("unshare");
        unshare.args(NAMESPACES).arg("--").arg(command.get_program()).args(command.get_args());
        Ok(Guarded::spawn_inheriting_output(&unshare)?)
    }

    /// To be called first by the process that [`spawn`](Self::spawn) started: sets up its network
    /// with `address` for this machine, and mounts empty folders over those that the container
    /// runtime writes to.
    pub fn set_up(address: Ipv4Addr) -> Result<(), Error> {
        // Pods reach the API server at this address, so it must not be a loopback address. The
        // interface may be the loopback interface.
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
            // It fails for a folder that another program has begun to use.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn run(program: &'static str, arguments: &[&str]) -> Result<(), Error> {
    output_of(program, Command::new(program).args(arguments)).map(drop)
}
