//! Wiring: settings, client, loop, shutdown.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::api;
use crate::cli::{Command, LogFormat, RunArgs};
use crate::engine;
use crate::kube_io::client;
use crate::telemetry::logging;

/// Does what the command line asks for.
///
/// # Errors
/// Anything that a person has to mend before it can be done.
pub fn main(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Crds { directory } => crds(directory.as_deref()),
        Command::Run(args) => {
            logging::start(&args.log_level, args.log_format == LogFormat::Json)?;
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&args))
        }
    }
}

fn crds(directory: Option<&Path>) -> Result<(), Box<dyn Error>> {
    for (name, crd) in api::crds()? {
        let yaml = serde_saphyr::to_string(&crd)?;
        match directory {
            Some(directory) => std::fs::write(directory.join(name), yaml)?,
            None => write!(std::io::stdout(), "---\n{yaml}")?,
        }
    }
    Ok(())
}

async fn run(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    let config = Arc::new(args.config()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let client = client::connect(args.context.as_deref()).await?;
    let version = env!("CARGO_PKG_VERSION");
    info!(version, namespaces = ?config.watch_namespaces, "starting");
    let (stop, stopped) = watch::channel(false);
    let mut engine = tokio::spawn(engine::run(config, client, stopped));
    tokio::select! {
        ended = &mut engine => ended?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The loop may have ended by itself already.
    let _ = stop.send(true);
    if !engine.is_finished() {
        engine.await?;
    }
    info!("stopped");
    Ok(())
}

/// One line for a person: what went wrong and what caused it.
pub fn report(error: &(dyn Error + 'static)) {
    let mut line = format!("dps-operator: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat their cause in their own text.
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    // Nothing is left to be done if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
