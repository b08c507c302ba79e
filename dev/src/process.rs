//! Child processes that never outlive this process, however it ends.
//!
//! Each program is started by a small shell guard. The guard leaves a watcher behind and then
//! *becomes* the program (`exec`), so the pid that the standard library knows and the exit status are
//! the program's own. The watcher blocks on a pipe of which this process holds the only writing end:
//! when this process has ended (it returned, panicked or was killed) the kernel closes the pipe and
//! the watcher ends the program. That needs no destructor and, unlike the kernel's parent-death
//! signal, does not depend on the thread that started the program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

/// How often a process is checked for its end; shorter than what a caller would notice.
const POLL: Duration = Duration::from_millis(5);

/// A line on the pipe means that the program has ended and was reaped: its pid may belong to another
/// process by now, so the watcher must not signal it. End of file means that the parent has ended.
/// The watcher ignores the signals of a terminal or a process group, and closes the log so that its
/// readers see the end of it.
const GUARD: &str = r#"
exec 3<&0 </dev/null
guarded=$$
(
    trap '' HUP INT QUIT TERM
    read -r ended <&3 && exit
    kill -TERM "$guarded" || exit
    tries=0
    while [ "$tries" -lt 50 ] && kill -0 "$guarded"; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "$guarded"
) >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// Why a guarded process could not be started, signalled or observed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its log file could not be opened.
    #[error("cannot open the log {}", path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The shell that guards it could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The error of the system.
        source: io::Error,
    },
    /// It could not be waited for, signalled or observed.
    #[error("cannot {action} {program} (pid {pid})")]
    Handle {
        /// The action that failed.
        action: &'static str,
        /// The program.
        program: String,
        /// Its pid.
        pid: u32,
        /// The error of the system.
        source: io::Error,
    },
}

/// A signal that [`Guarded::signal`] sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: asks the process to end.
    Terminate,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGSTOP: suspends the process, as on a machine that hangs.
    Stop,
    /// SIGCONT: continues the process after [`Signal::Stop`].
    Continue,
}

impl From<Signal> for rustix::process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Terminate => Self::TERM,
            Signal::Interrupt => Self::INT,
            Signal::Stop => Self::STOP,
            Signal::Continue => Self::CONT,
        }
    }
}

/// A child process that ends when this process does; dropping it kills it.
#[derive(Debug)]
pub struct Guarded {
    program: String,
    child: Child,
    watcher_pipe: Option<ChildStdin>,
    log: PathBuf,
}

impl Guarded {
    /// Starts `command` with its output appended to `log_file` and nothing on its stdin.
    ///
    /// Program, arguments, environment changes and working directory are taken from `command`; its
    /// stdio settings and `env_clear` are not, because they cannot be read. A program that does not
    /// exist is no error here: it ends with status 127 and a line in the log.
    pub fn spawn(command: &Command, log_file: &Path) -> Result<Self, Error> {
        let log_error = |source| Error::Log { path: log_file.to_owned(), source };
        let log = OpenOptions::new().create(true).append(true).open(log_file).map_err(log_error)?;
        let errors = log.try_clone().map_err(log_error)?;
        Self::spawn_with(command, log.into(), errors.into(), log_file.to_owned())
    }

    /// Starts `command` in the same way, but with the output of this process and without a log.
    pub fn spawn_inheriting_output(command: &Command) -> Result<Self, Error> {
        Self::spawn_with(command, Stdio::inherit(), Stdio::inherit(), PathBuf::new())
    }

    fn spawn_with(command: &Command, out: Stdio, errors: Stdio, log: PathBuf) -> Result<Self, Error> {
        let program = program_name(command);
        let mut child = guard_of(command)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Spawn { program: program.clone(), source })?;
        // Taken out of the child, because waiting for a `Child` closes the pipe it still holds.
        let watcher_pipe = child.stdin.take();
        Ok(Self { program, child, watcher_pipe, log })
    }

    /// The pid of the program itself, also after it ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of its output; empty when the log cannot be read.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines).unwrap_or_default()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// How it ended, or `None` while it runs.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        let status = self.child.try_wait().map_err(|source| self.error("wait for", source))?;
        if status.is_some() {
            self.release_watcher();
        }
        Ok(status)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let status = self.child.wait().map_err(|source| self.error("wait for", source))?;
        self.release_watcher();
        Ok(status)
    }

    /// Waits up to `timeout` for it to end by itself; `None` when it still runs.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends SIGTERM, and SIGKILL when it still runs after `timeout`: the status tells which it was.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::Terminate)?;
        match self.wait_timeout(timeout)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.child.kill().map_err(|source| self.error("kill", source))?;
        self.wait()
    }

    /// Sends a signal; does nothing when the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // The pid of a process that was reaped may belong to another one by now.
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal.into())
            .map_err(|error| self.error("signal", error.into()))
    }

    /// Its resident memory in KiB: `VmRSS` of `/proc/PID/status`, so on Linux only.
    pub fn resident_kib(&self) -> Result<u64, Error> {
        self.memory_kib("VmRSS:")
    }

    /// The most that was resident at a time, in KiB: `VmHWM`.
    pub fn peak_kib(&self) -> Result<u64, Error> {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, which: &str) -> Result<u64, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .map_err(|source| self.error("read the memory of", source))?;
        memory_in(&status, which).ok_or_else(|| {
            self.error("read the memory of", io::Error::other(format!("it has no {which} it has ended")))
        })
    }

    /// The time of a processor that it has used.
    pub fn cpu(&self) -> Result<Duration, Error> {
        cpu_of(&self.pid().to_string()).map_err(|source| self.error("read the processor time of", source))
    }

    fn release_watcher(&mut self) {
        if let Some(mut pipe) = self.watcher_pipe.take() {
            // It fails only when the watcher has ended: then there is no watcher to release.
            let _ = pipe.write_all(b"ended\n");
        }
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Handle { action, program: self.program.clone(), pid: self.pid(), source }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // When killing fails, the closed pipe makes the watcher try it again.
        let _ = self.kill();
    }
}

/// The time of a processor that this process has used.
///
/// # Errors
/// Where there is no `/proc`.
pub fn own_cpu() -> io::Result<Duration> {
    cpu_of("self")
}

/// User and system time of `/proc/PID/stat`, the twelfth and thirteenth field after the program's name, which
/// may contain anything (proc(5)).
fn cpu_of(pid: &str) -> io::Result<Duration> {
    /// Linux shows programs a clock of 100 Hz, however fast its own is.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().skip(11).take(2));
    let ticks: Option<Vec<u32>> = fields.and_then(|fields| fields.map(|field| field.parse().ok()).collect());
    match ticks.as_deref() {
        Some([user, system]) => Ok(TICK * (user + system)),
        _ => Err(io::Error::other("its times are not where they should be")),
    }
}

fn program_name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned()
}

fn guard_of(command: &Command) -> Command {
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guard.env(name, value),
            None => guard.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guard.current_dir(folder);
    }
    // In a process group of its own it does not get Ctrl-C of the terminal: this process ends it.
    guard.process_group(0);
    guard
}

fn memory_in(status: &str, which: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn tail(path: &Path, lines: usize) -> io::Result<String> {
    const WINDOW: u64 = 64 * 1024;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::wait::eventually;

    const LONG: Duration = Duration::from_secs(10);

    fn log_of(test: &str) -> PathBuf {
        let unique = format!("dps-dev-process-{}-{test}.log", std::process::id());
        std::env::temp_dir().join(unique)
    }

    fn shell(script: &str, log: &Path) -> Guarded {
        Guarded::spawn(Command::new("sh").args(["-c", script]), log).unwrap()
    }

    fn wait_for_line(process: &Guarded, line: &str) {
        eventually(LONG, || (process.log_tail(1) == line).then_some(())).unwrap();
    }

    #[test]
    fn pid_status_output_and_environment_are_the_programs_own() {
        let log = log_of("own");
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ $COLOUR; echo oops >&2; exit 7"]).env("COLOUR", "red blue");

        let mut process = Guarded::spawn(&command, &log).unwrap();
        let status = process.wait().unwrap();

        assert_eq!(status.code(), Some(7));
        assert_eq!(process.log_tail(9), format!("{} red blue\noops", process.pid()));
        assert_eq!(process.log_tail(1), "oops");
        assert!(!process.is_running());
        process.resident_kib().unwrap_err();
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn terminate_asks_first() {
        let log = log_of("asks");
        let mut process = shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done", &log);
        wait_for_line(&process, "up");
        assert!(process.is_running());
        assert!(process.resident_kib().unwrap() > 0);

        let status = process.terminate(LONG).unwrap();

        assert_eq!(status.code(), Some(3));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn terminate_kills_what_does_not_listen() {
        let log = log_of("deaf");
        let mut process = shell("trap '' TERM; echo up; while :; do sleep 0.01; done", &log);
        wait_for_line(&process, "up");

        let status = process.terminate(Duration::from_millis(100)).unwrap();

        assert_eq!(status.signal(), Some(9));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_stopped_process_goes_on_when_told() {
        let log = log_of("stopped");
        let mut process = shell("while :; do sleep 0.01; done", &log);
        let stopped = |process: &Guarded| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
            status.contains("T (stopped)")
        };

        process.signal(Signal::Stop).unwrap();
        eventually(LONG, || stopped(&process).then_some(())).unwrap();
        process.signal(Signal::Continue).unwrap();
        eventually(LONG, || (!stopped(&process)).then_some(())).unwrap();

        assert!(process.is_running());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_that_computes_uses_processor_time() {
        let log = log_of("busy");
        let process = shell("while :; do :; done", &log);
        let used = Duration::from_millis(50);

        eventually(LONG, || (process.cpu().unwrap() >= used).then_some(())).unwrap();

        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_missing_program_shows_in_status_and_log() {
        let log = log_of("missing");
        let mut process = Guarded::spawn(&Command::new("/no/such/program"), &log).unwrap();

        let status = process.wait().unwrap();

        assert_eq!(status.code(), Some(127));
        assert!(process.log_tail(1).contains("/no/such/program"));
        std::fs::remove_file(log).unwrap();
    }
}
