use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// What the demo says: numbered steps, the commands that a user would type, how long it took.
#[derive(Debug)]
pub(super) struct Story {
    begin: Instant,
    step: usize,
    step_begin: Instant,
}

impl Story {
    pub(super) fn begin() -> io::Result<Self> {
        let now = Instant::now();
        let mut out = io::stdout().lock();
        writeln!(out, "dps-operator demo: five devices get their hub and their credentials.")?;
        writeln!(out, "Everything runs on this machine; no cloud account, no containers, no root.")?;
        out.flush()?;
        Ok(Self { begin: now, step: 0, step_begin: now })
    }

    /// Begins the next step.
    pub(super) fn step(&mut self, title: &str) -> io::Result<()> {
        self.step += 1;
        self.step_begin = Instant::now();
        let mut out = io::stdout().lock();
        writeln!(out, "\n{:2}. {title}", self.step)?;
        out.flush()
    }

    /// A command as it would be typed.
    pub(super) fn shown(&mut self, command: &str) -> io::Result<()> {
        self.line(&format!("$ {command}"))
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "    {text}")?;
        out.flush()
    }

    pub(super) fn lines(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(line))
    }

    /// The step is over.
    pub(super) fn done(&mut self) -> io::Result<()> {
        self.line(&format!("done in {:.1} s", self.step_begin.elapsed().as_secs_f64()))
    }

    /// What somebody with a terminal may try now; the lines can be pasted as they are.
    pub(super) fn invite(&mut self, kubeconfig: &Path, assets: &Path, log: &Path) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\nThat took {:.0} s. Now look around, in another terminal:\n", self.seconds())?;
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

    pub(super) fn end(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\nDemo finished after {:.0} s; nothing of it is left running.", self.seconds())?;
        out.flush()
    }

    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}
