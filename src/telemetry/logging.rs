//! Logs go to standard error, as text or JSON.

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// A `--log-level` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {level:?} is not a level (error, warn, info, debug, trace) or a list of target=level, \
     or logging has been started already"
)]
pub struct BadLevel {
    level: String,
}

/// Starts logging.
///
/// # Errors
/// When the level cannot be read.
pub fn start(level: &str, json: bool) -> Result<(), BadLevel> {
    let bad = || BadLevel { level: level.to_owned() };
    let filter = EnvFilter::try_new(directives(level)).map_err(|_| bad())?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(false);
    let started = if json { logs.json().flatten_event(true).try_init() } else { logs.try_init() };
    started.map_err(|_| bad())
}

/// `debug` and `trace` are meant for the operator: at those levels HTTP and Kubernetes libraries
/// print parts of requests and answers, which only somebody who names them should get.
fn directives(level: &str) -> String {
    match level.trim().to_ascii_lowercase().as_str() {
        verbose @ ("debug" | "trace") => format!("info,dps_operator={verbose}"),
        _ => level.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_levels_are_for_the_operator_and_not_for_its_libraries() {
        assert_eq!(directives("trace"), "info,dps_operator=trace");
        assert_eq!(directives("Debug"), "info,dps_operator=debug");
        assert_eq!(directives("warn"), "warn");
        assert_eq!(directives("info,hyper=debug"), "info,hyper=debug");
    }
}
