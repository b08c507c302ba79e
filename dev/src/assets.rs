use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;

/// The folder that holds the control plane's binaries.
#[derive(Debug, Clone)]
pub struct Assets {
    folder: PathBuf,
}

impl Assets {
    /// Runs `build-control-plane`: it honours `KUBEBUILDER_ASSETS`, finds what was compiled
    /// before, or compiles, which takes minutes and prints its progress to standard error.
    pub fn locate() -> Result<Self, Error> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build-control-plane");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(Error::file("run", &script))?;
        if !output.status.success() {
            return Err(Error::Assets(format!("build-control-plane ended with {}", output.status)));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        match printed.lines().last() {
            Some(folder) => Ok(Self { folder: PathBuf::from(folder) }),
            None => Err(Error::Assets("build-control-plane named no folder".to_owned())),
        }
    }

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one of `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
