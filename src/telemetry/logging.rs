//! Logs go to standard error, as text or JSON.

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// A `--log-level` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {level:?} is not a level (error, warn, info, debug, trace) or a list of target=level")]
pub struct BadLevel {
    level: String,
}

/// Starts logging. Libraries log at most at `info` unless a target is named, since below that they
/// show whole requests.
///
/// # Errors
/// When the level cannot be read.
pub fn start(level: &str, json: bool) -> Result<(), BadLevel> {
    let bad = || BadLevel { level: level.to_owned() };
    let filter = EnvFilter::try_new(level).map_err(|_| bad())?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(false);
    let started = if json { logs.json().flatten_event(true).try_init() } else { logs.try_init() };
    started.map_err(|_| bad())
}
