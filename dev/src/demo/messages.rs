use std::io::{self, Write};
use std::path::Path;

use crate::progress::Progress;

pub(super) fn start() -> io::Result<Progress> {
    Progress::start(&[
        "dps-operator demo: five devices get their hub and their credentials.",
        "Everything runs on this machine; no cloud account, no containers, no root.",
    ])
}

/// Prints what can be tried in another terminal; the lines can be pasted as they are.
pub(super) fn show_hints(
    progress: &Progress,
    kubeconfig: &Path,
    assets: &Path,
    log: &Path,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\nThat took {:.0} s. Now look around, in another terminal:\n", progress.seconds())?;
    writeln!(out, "  export KUBECONFIG=\"{}\"", kubeconfig.display())?;
    writeln!(out, "  export PATH=\"{}:$PATH\"", assets.display())?;
    writeln!(out, "\n  # Delete a Secret: it is back at once, without a call to DPS.")?;
    writeln!(out, "  kubectl delete secret press-01-hub -n fleet; kubectl get secrets -n fleet")?;
    writeln!(out, "\n  # Suspend a device: it keeps what it has, and DPS is not called for it.")?;
    writeln!(
        out,
        "  kubectl patch pdev oven-02 -n fleet --type merge -p '{{\"spec\":{{\"suspend\":true}}}}'; \
         kubectl get pdev -n fleet"
    )?;
    writeln!(out, "\n  # What else a device can say:")?;
    writeln!(out, "  kubectl explain pdev.spec")?;
    writeln!(out, "\nThe operator's log: {}", log.display())?;
    writeln!(out, "Ctrl-C ends the demo and removes everything.")?;
    out.flush()
}

pub(super) fn end(progress: &Progress) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\nDemo finished after {:.0} s; nothing of it is left running.", progress.seconds())?;
    out.flush()
}
