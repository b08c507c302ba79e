//! The command line, and the start and end of the process.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dps_simulator::config::{ConfigError, loopback};
use dps_simulator::{Config, Running, Simulator};
use serde_json::json;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const EXAMPLE: &str = include_str!("../example.yaml");
const DEFAULT_PORT: u16 = 8443;
const DEFAULT_ADMIN_PORT: u16 = 8444;

/// A simulator of the device API of Azure IoT Hub Device Provisioning Service.
///
/// Serves register, poll and status lookup over HTTPS for symmetric-key enrollments, and an admin
/// API over plain HTTP on loopback that shows every request and injects faults.
///
/// To start:  dps-simulator --print-default-config > dps.yaml;  dps-simulator --config dps.yaml
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub struct Cli {
    /// The configuration, in YAML
    #[arg(
        long,
        value_name = "FILE",
        env = "DPS_SIMULATOR_CONFIG",
        required_unless_present = "print_default_config"
    )]
    config: Option<PathBuf>,

    /// Print an example configuration with comments, and exit
    #[arg(long)]
    print_default_config: bool,

    /// Where devices connect; port 0 takes a free one [default: the file's, or 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Where the admin API is [default: the file's, or 127.0.0.1:8444]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,

    /// Write {"address", "adminAddress", "caFile"} here as JSON when ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Why the program failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{}: {source}", file.display())]
    Config { file: PathBuf, source: ConfigError },
    #[error("{}: tls.directory: must be given, or clients have no CA to trust", file.display())]
    NoCaFile { file: PathBuf },
    #[error(transparent)]
    Start(#[from] dps_simulator::Error),
    #[error("cannot write {}: {source}", file.display())]
    ReadyFile { file: PathBuf, source: io::Error },
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl CliError {
    /// 2 for an error in the configuration, as for a wrong command line.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config { .. } | Self::NoCaFile { .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl Cli {
    /// Runs until the work is done, or until SIGINT or SIGTERM.
    pub fn run(self) -> Result<(), CliError> {
        let Some(file) = self.config.as_deref().filter(|_| !self.print_default_config) else {
            return io::stdout().write_all(EXAMPLE.as_bytes()).map_err(CliError::Output);
        };
        let config = self.configuration(file)?;
        log_to_stderr();
        let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
        runtime.block_on(serve(config, self.ready_file.as_deref()))
    }

    fn configuration(&self, file: &Path) -> Result<Config, CliError> {
        let file = file.to_owned();
        let mut config = match Config::from_file(&file) {
            Ok(config) => config,
            Err(source) => return Err(CliError::Config { file, source }),
        };
        if config.tls.directory.is_none() && config.tls.certificate.is_none() {
            return Err(CliError::NoCaFile { file });
        }
        config.listen = self.listen.or(config.listen).or(Some(loopback(DEFAULT_PORT)));
        config.admin = self.admin.or(config.admin).or(Some(loopback(DEFAULT_ADMIN_PORT)));
        Ok(config)
    }
}

async fn serve(config: Config, ready_file: Option<&Path>) -> Result<(), CliError> {
    // Before the process announces itself, so that no signal has its default action.
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
    let running = Simulator::start(config).await?;
    announce(&running, ready_file)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    running.shutdown().await;
    Ok(())
}

/// Writes the ready file first, so that it is there when the line is printed.
fn announce(running: &Running, ready_file: Option<&Path>) -> Result<(), CliError> {
    let ca = running.ca_file().map(|file| file.display().to_string());
    let admin = running.admin_address().map(|address| address.to_string());
    if let Some(file) = ready_file {
        let address = running.address().to_string();
        let text = json!({"address": address, "adminAddress": admin, "caFile": ca}).to_string();
        write_atomically(file, &text)
            .map_err(|source| CliError::ReadyFile { file: file.to_owned(), source })?;
    }
    writeln!(
        io::stdout(),
        "ready: devices at {}, admin API at http://{}, CA in {}",
        running.url(),
        admin.as_deref().unwrap_or("-"),
        ca.as_deref().unwrap_or("-"),
    )
    .map_err(CliError::Output)
}

/// A reader of the file never sees a part of it.
fn write_atomically(file: &Path, text: &str) -> io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, file)
}

/// `RUST_LOG` sets the level. No secret is logged at any level.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
