//! Logs go to standard error, as text or JSON.

use std::io::stderr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A `--log-level` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {level:?} is not a level (error, warn, info, debug, trace, off) or a list such as \
     info,dps_operator::dps=trace"
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
    let filter = EnvFilter::try_new(directives(level).ok_or_else(bad)?).map_err(|_| bad())?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(false);
    let started = if json { logs.json().flatten_event(true).try_init() } else { logs.try_init() };
    started.map_err(|_| bad())
}

/// `debug` and `trace` are meant for the operator: at those levels HTTP and Kubernetes libraries
/// print parts of requests and answers, which only a user who names them should get. That the API server
/// is away is logged by `kube_io::watch`, once and with its cause, and not by kube for each request; what
/// is wrong with a certificate stands in the condition of the integration that uses it.
fn directives(level: &str) -> Option<String> {
    let level = level.trim();
    if level.contains('=') {
        return Some(level.to_owned());
    }
    let level = level.parse::<LevelFilter>().ok()?;
    let libraries = level.min(LevelFilter::INFO);
    Some(format!("{libraries},kube_client::client=off,rustls_platform_verifier=off,dps_operator={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_levels_are_for_the_operator_and_not_for_its_libraries() {
        assert_eq!(
            directives("trace").as_deref(),
            Some("info,kube_client::client=off,rustls_platform_verifier=off,dps_operator=trace")
        );
        assert_eq!(
            directives("warn").as_deref(),
            Some("warn,kube_client::client=off,rustls_platform_verifier=off,dps_operator=warn")
        );
        assert_eq!(
            directives("off").as_deref(),
            Some("off,kube_client::client=off,rustls_platform_verifier=off,dps_operator=off")
        );
        assert_eq!(directives("info,hyper=debug").as_deref(), Some("info,hyper=debug"));
        assert_eq!(directives("verbose"), None);
    }
}
