//! What each command asks of the cluster, and prints.

mod change;
mod explain;
mod rotate;
mod status;
mod version;

use std::io;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use crate::cli::{Cli, Command};
use crate::cluster::{Cluster, Kind, now};
use crate::failure::{Failure, Outcome};
use crate::targets::Target;
use crate::terminal::Output;

/// Between two looks at an object that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

pub async fn run(cli: Cli) -> Result<Outcome, Failure> {
    let Cli { cluster: flags, color, command } = cli;
    let output = Output::new(color);
    match command {
        Command::Explain(arguments) => return explain::run(&output, arguments.reason.as_deref()),
        Command::Completion { shell } => return completion(&output, shell.into()),
        Command::Version => return version::run(&output, &flags).await,
        _ => {}
    }
    let cluster = Cluster::of(&flags).await?;
    match command {
        Command::Status(arguments) => status::run(&cluster, &output, &arguments).await,
        Command::Retry(arguments) => change::retry(&cluster, &output, &arguments).await,
        Command::Reprovision(arguments) => change::reprovision(&cluster, &output, &arguments).await,
        Command::Suspend(arguments) => change::suspend(&cluster, &output, &arguments, true).await,
        Command::Resume(arguments) => change::suspend(&cluster, &output, &arguments, false).await,
        Command::Rotate(arguments) => rotate::run(&cluster, &output, &arguments).await,
        Command::Explain(_) | Command::Completion { .. } | Command::Version => Ok(Outcome::Fine),
    }
}

fn completion(output: &Output, shell: Shell) -> Result<Outcome, Failure> {
    let mut script = io::Cursor::new(Vec::new());
    // The program's own name: that is what a shell sees.
    let mut command = Cli::command().bin_name("kubectl-dps");
    clap_complete::generate(shell, &mut command, "kubectl-dps", &mut script);
    output.raw(&String::from_utf8_lossy(script.get_ref()))?;
    Ok(Outcome::Fine)
}

/// When waiting ends.
fn deadline(timeout: SignedDuration) -> Timestamp {
    now().saturating_add(timeout).unwrap_or(Timestamp::MAX)
}

/// Looks at an object again and again until it is as wanted; `None` if time is up before, or it is gone.
async fn wait_for<K: Kind>(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    deadline: Timestamp,
    wanted: impl Fn(&K) -> bool,
) -> Result<Option<K>, Failure> {
    loop {
        match cluster.find::<K>(namespace, name).await? {
            Some(object) if wanted(&object) => return Ok(Some(object)),
            None => return Ok(None),
            Some(_) if now() >= deadline => return Ok(None),
            Some(_) => sleep(PAUSE).await,
        }
    }
}

/// The name of an integration, where nothing else can be meant.
fn integration_name(target: &Target) -> Result<&str, Failure> {
    match target {
        Target::Named(name) | Target::Integration(name) => Ok(name),
        Target::Device(name) => {
            Err(Failure::Usage(format!("device/{name} is a device; name its integration instead.")))
        }
    }
}
