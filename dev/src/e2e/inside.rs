//! The process in the sandbox: it starts a cluster, runs the steps and, if one fails, prints the state
//! of the cluster. It removes nothing: what it started ends with it.

use std::fs;
use std::path::Path;

use dps_dev::{NODE_ADDRESS, Sandbox};

use super::cluster::Cluster;
use super::failure::Failure;
use super::handover::Handover;
use super::steps;
use crate::causes::with_causes;
use crate::progress::Progress;

/// The steps that the process outside has printed.
const STEPS_BEFORE: usize = 1;

pub(super) fn run(handover: &Path) -> Result<(), Failure> {
    let text = fs::read(handover)?;
    let handover: Handover =
        serde_json::from_slice(&text).map_err(|error| Failure::Json("the handover", error))?;
    Sandbox::set_up(NODE_ADDRESS)?;
    let mut progress = Progress::resume(STEPS_BEFORE);
    progress.step("Start a cluster: control plane, kubelet, scheduler, proxy, containerd, DNS")?;
    let mut cluster = Cluster::start(handover)?;
    cluster.show(&mut progress, "get nodes -o wide")?;
    progress.done()?;
    steps::run_all(&mut progress, &mut cluster).inspect_err(|_| print_state(&mut progress, &mut cluster))
}

/// Prints what helps to find the cause of a failure.
fn print_state(progress: &mut Progress, cluster: &mut Cluster) {
    // The caller reports the failure of the step; another failure here is ignored.
    let _ = progress.line("");
    for command in [
        "get pods --all-namespaces -o wide",
        "get events --all-namespaces --field-selector type=Warning",
        "get dpsi,pdev --all-namespaces -o wide",
        "logs -n dps-system -l app.kubernetes.io/component=operator --prefix --tail 20",
    ] {
        if let Err(failure) = cluster.show(progress, command) {
            let _ = progress.line(&with_causes(&failure));
        }
    }
    if let Err(failure) = cluster.check() {
        let _ = progress.line(&with_causes(&failure));
    }
}
