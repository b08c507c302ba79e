use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::Guarded;

/// Generous: machines that run tests also compile.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Each probe starts a program, which on a small machine slows down what is starting.
const POLL: Duration = Duration::from_millis(50);
const QUOTED_LINES: usize = 20;

/// The components of a control plane or a node that were started, each with a log of its own.
/// They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Processes {
    logs: PathBuf,
    started: Vec<Started>,
}

#[derive(Debug)]
struct Started {
    component: &'static str,
    process: Guarded,
}

impl Processes {
    /// `logs` is the folder for the logs.
    pub(crate) fn new(logs: PathBuf) -> Self {
        Self { logs, started: Vec::new() }
    }

    /// Starts a component; its log is named after it.
    pub(crate) fn launch(&mut self, component: &'static str, command: &Command) -> Result<(), Error> {
        let process = Guarded::spawn(command, &self.logs.join(format!("{component}.log")))?;
        self.started.push(Started { component, process });
        Ok(())
    }

    pub(crate) fn get(&self, component: &str) -> Option<&Guarded> {
        self.started.iter().find(|it| it.component == component).map(|it| &it.process)
    }

    pub(crate) fn get_mut(&mut self, component: &str) -> Option<&mut Guarded> {
        self.started.iter_mut().find(|it| it.component == component).map(|it| &mut it.process)
    }

    /// Kills one component.
    pub(crate) fn kill(&mut self, component: &str) {
        self.started.retain(|it| it.component != component);
    }

    /// Kills all of them.
    pub(crate) fn kill_all(&mut self) {
        self.started.clear();
    }

    /// An error, with the end of its log, when a component is not running.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        for Started { component, process } in &mut self.started {
            if let Some(status) = process.try_wait()? {
                return Err(failure(component, process, format!("ended ({status})")));
            }
        }
        Ok(())
    }

    /// Asks `probe` until it succeeds. It fails when a component ends meanwhile, or with the end
    /// of this component's log when it takes too long.
    pub(crate) fn await_ready(
        &mut self,
        component: &'static str,
        mut probe: impl FnMut() -> Result<String, Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.check()?;
            let Err(refusal) = probe() else { return Ok(()) };
            if Instant::now() >= deadline {
                let problem = format!("was not ready after {} s: {refusal}", READY_TIMEOUT.as_secs());
                return Err(match self.get(component) {
                    Some(process) => failure(component, process, problem),
                    None => refusal,
                });
            }
            std::thread::sleep(POLL);
        }
    }
}

fn failure(component: &'static str, process: &Guarded, problem: String) -> Error {
    Error::Component {
        component,
        problem,
        log: process.log().to_owned(),
        tail: process.log_tail(QUOTED_LINES),
    }
}
