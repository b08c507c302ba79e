use std::io::{self, Write};
use std::time::Instant;

/// Prints what is done: numbered steps, the commands that a user would type, and how long it took.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    step: usize,
    step_begin: Instant,
}

impl Progress {
    /// Prints what is going to be done.
    pub fn start(headline: &[&str]) -> io::Result<Self> {
        let now = Instant::now();
        let progress = Self { begin: now, step: 0, step_begin: now };
        let mut out = io::stdout().lock();
        headline.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        out.flush()?;
        Ok(progress)
    }

    /// Continues after `steps` that another process has printed.
    pub fn resume(steps: usize) -> Self {
        let now = Instant::now();
        Self { begin: now, step: steps, step_begin: now }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) -> io::Result<()> {
        self.step += 1;
        self.step_begin = Instant::now();
        let mut out = io::stdout().lock();
        writeln!(out, "\n{:2}. {title}", self.step)?;
        out.flush()
    }

    /// Prints a command as a user would type it.
    pub fn command(&mut self, command: &str) -> io::Result<()> {
        self.line(&format!("$ {command}"))
    }

    pub fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "    {text}")?;
        out.flush()
    }

    pub fn lines(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(line))
    }

    /// Ends the step.
    pub fn done(&mut self) -> io::Result<()> {
        self.line(&format!("done in {:.1} s", self.step_begin.elapsed().as_secs_f64()))
    }

    /// The seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}
