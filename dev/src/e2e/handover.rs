use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the process that builds hands over to the one in the sandbox.
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
