//! Wiring: settings, client, loop, shutdown.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cli::{self, Command, LogFormat, RunArgs};
use crate::config::LeaseSettings;
use crate::engine::{self, Orders};
use crate::kube_io::tenure::Tenure;
use crate::kube_io::{client, lease};
use crate::telemetry::server::{self, Purpose};
use crate::telemetry::{Telemetry, logging, panic};
use crate::{api, clock};

/// Time that calls in flight get at the end.
const GRACE: Duration = Duration::from_secs(8);
/// Time that they get where another replica takes over, which should not have to wait.
const HANDOVER: Duration = Duration::from_secs(1);

/// A deadline that no process lives to see.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Does what the command line asks for.
///
/// # Errors
/// Anything that a person has to mend before it can be done.
pub fn main(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Crds { directory } => crds(directory.as_deref()),
        Command::Docs => Ok(print(&cli::page())?),
        Command::Run(args) => {
            logging::start(&args.log_level, args.log_format == LogFormat::Json)?;
            panic::end_the_process();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let ended = runtime.block_on(run(&args));
            // Names that are being resolved would be waited for without limit.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended
        }
    }
}

fn crds(directory: Option<&Path>) -> Result<(), Box<dyn Error>> {
    for (name, crd) in api::crds::all()? {
        let yaml = serde_saphyr::to_string(&crd)?;
        match directory {
            Some(directory) => std::fs::write(directory.join(name), yaml)?,
            None => print(&format!("---\n{yaml}"))?,
        }
    }
    Ok(())
}

/// Prints. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

async fn run(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    let config = Arc::new(args.config()?);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let telemetry = Arc::new(Telemetry::new()?);
    // Without a lease there is no other replica, and this one leads without end.
    let without_end = clock::now().mono + FOREVER;
    let (lead, leads) = watch::channel(config.lease.is_none().then_some(without_end));
    let tenure = Tenure::new(leads.clone());
    let server = client::connect(args.context.as_deref(), tenure, telemetry.clone()).await?;
    let version = env!("CARGO_PKG_VERSION");
    let namespaces = match config.watch_namespaces.join(", ") {
        none if none.is_empty() => "all".to_owned(),
        some => some,
    };
    info!(version, namespaces, "starting");
    if args.shows_a_password() {
        warn!(
            "--dps-proxy holds a password, which all who may list processes or read the Pod see: take it from \
             a Secret, by the environment variable DPS_OPERATOR_DPS_PROXY"
        );
    }
    if let Some(address) = config.http_addr {
        let address = server::start(Purpose::ProbesAndMetrics, address, telemetry.clone())?;
        info!(%address, "serving probes and metrics");
    }
    if let Some(address) = config.probe_addr {
        let address = server::start(Purpose::Probes, address, telemetry.clone())?;
        info!(%address, "serving probes");
    }
    let (stop, stopped) = watch::channel(false);
    let (resign, resigned) = watch::channel(false);
    let grace = if config.lease.is_some() { HANDOVER } else { GRACE };
    let lease = config.lease.as_ref().map(|lease| election_settings(lease, &server.client));
    let mut election = tokio::spawn(elect(server.client.clone(), lease, lead, resigned));
    let orders = Orders { lead: leads, stop: stopped, grace };
    let mut engine = tokio::spawn(engine::run(config, server, orders, telemetry));
    tokio::select! {
        ended = &mut engine => ended??,
        // What is not sent yet is not sent any more: all tasks end with the process.
        lost = &mut election => return Ok(lost??),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The loop may have ended by itself already.
    let _ = stop.send(true);
    if !engine.is_finished() {
        engine.await??;
    }
    let _ = resign.send(true);
    election.await??;
    info!("stopped");
    Ok(())
}

/// Takes part in the election; without a lease there is none, and only the end is waited for.
async fn elect(
    client: Client,
    lease: Option<lease::ElectionSettings>,
    lead: watch::Sender<Option<Instant>>,
    mut end: watch::Receiver<bool>,
) -> Result<(), lease::LeaseLost> {
    match lease {
        Some(settings) => lease::run(client, settings, lead, end).await,
        None => {
            // A sender that is dropped counts as the end, too.
            let _ = end.wait_for(|end| *end).await;
            drop(lead);
            Ok(())
        }
    }
}

fn election_settings(lease: &LeaseSettings, client: &Client) -> lease::ElectionSettings {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "dps-operator".to_owned());
    let now = clock::now().wall.as_nanosecond();
    lease::ElectionSettings {
        namespace: lease.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
        name: lease.name.clone(),
        // A container that starts again in the same Pod is another candidate.
        identity: format!("{host}_{:x}-{now:x}", std::process::id()),
    }
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
    let _ = writeln!(io::stderr(), "{}", cli::without_passwords(&line));
}
