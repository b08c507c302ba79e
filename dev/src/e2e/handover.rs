use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the process in the sandbox has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) directory: PathBuf,
    pub(super) cgroup: String,
    pub(super) node: PathBuf,
    pub(super) network_plugins: String,
    pub(super) images: PathBuf,
    pub(super) helm: PathBuf,
    pub(super) chart: PathBuf,
}
