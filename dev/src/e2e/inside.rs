//! The process in the sandbox: it starts a cluster, plays the story and, if that fails, says what
//! the cluster looked like. It clears nothing away: what it started ends with it.

use std::fs;
use std::path::Path;

use dps_dev::{NODE_ADDRESS, Sandbox};

use super::failure::Failure;
use super::handover::Handover;
use super::play;
use super::stage::Stage;
use crate::causes::with_causes;
use crate::story::Story;

/// What the process outside has told.
const STEPS_BEFORE: usize = 1;

pub(super) fn run(handover: &Path) -> Result<(), Failure> {
    let text = fs::read(handover)?;
    let handover: Handover =
        serde_json::from_slice(&text).map_err(|error| Failure::Json("the handover", error))?;
    Sandbox::furnish(NODE_ADDRESS)?;
    let mut story = Story::resume(STEPS_BEFORE);
    story.step("Start a cluster: control plane, kubelet, scheduler, proxy, containerd, DNS")?;
    let mut stage = Stage::start(handover)?;
    stage.show(&mut story, "get nodes -o wide")?;
    story.done()?;
    play::all(&mut story, &mut stage).inspect_err(|_| describe(&mut story, &mut stage))
}

/// What somebody would look at first.
fn describe(story: &mut Story, stage: &mut Stage) {
    // The failure itself is told by the caller; here nothing more can be done about another one.
    let _ = story.line("");
    for command in [
        "get pods --all-namespaces -o wide",
        "get events --all-namespaces --field-selector type=Warning",
        "get dpsi,pdev --all-namespaces -o wide",
        "logs -n dps-system -l app.kubernetes.io/component=operator --prefix --tail 20",
    ] {
        if let Err(failure) = stage.show(story, command) {
            let _ = story.line(&with_causes(&failure));
        }
    }
    if let Err(failure) = stage.check() {
        let _ = story.line(&with_causes(&failure));
    }
}
