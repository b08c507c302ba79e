//! The command line.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dps_operator_api::attestation::KeySlot;
use jiff::SignedDuration;

use crate::cluster::ClusterFlags;
use crate::targets::Target;
use crate::terminal::Colours;

/// What the dps-operator's devices and integrations are doing, and what to do about it.
///
/// It reads and changes objects with your own rights, as kubectl does, and talks to nothing but the API
/// server of your cluster. Exit codes: 0 done; 1 something needs you; 2 the command line is wrong; 3 the
/// cluster cannot be asked.
#[derive(Debug, Parser)]
#[command(name = "kubectl-dps", bin_name = "kubectl dps", disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Everywhere")]
    pub color: Colours,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how integrations and devices stand, and what needs you
    Status(Status),
    /// Say what a reason means and what to do; without one, list them all
    Explain(Explain),
    /// Have the operator try devices at once that it would try later
    Retry(Retry),
    /// Have devices register with DPS once more
    Reprovision(Reprovision),
    /// Start no DPS operation for devices, or for an integration's, until they are resumed
    Suspend(Suspend),
    /// End what suspend has begun
    Resume(Suspend),
    /// Move an integration's devices to its other group key, and follow them
    Rotate(Rotate),
    /// Show the versions of this program, of the API in the cluster, and of the operator
    Version,
    /// Print a script that completes commands in your shell
    Completion {
        /// The shell
        shell: Completes,
    },
}

/// Shells that can be completed for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Completes {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

impl From<Completes> for Shell {
    fn from(shell: Completes) -> Self {
        match shell {
            Completes::Bash => Self::Bash,
            Completes::Zsh => Self::Zsh,
            Completes::Fish => Self::Fish,
            Completes::Powershell => Self::PowerShell,
        }
    }
}

#[derive(Debug, Args)]
pub struct Status {
    /// What to show; everything in the namespace if nothing is named
    #[arg(value_name = "NAME | integration/NAME | device/NAME", conflicts_with = "all_namespaces")]
    pub target: Option<Target>,
    /// Show all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print JSON, for programs
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// End with 1 if something needs you
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// A reason or an event, in upper or lower case
    pub reason: Option<String>,
}

/// Whether to wait until the operator has done it.
#[derive(Clone, Copy, Debug, Args)]
pub struct Waiting {
    /// Wait until the status shows that the operator has taken it up
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most, such as 90s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub timeout: SignedDuration,
}

fn time(text: &str) -> Result<SignedDuration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "write a time such as 90s, 5m or 1h".to_owned())?;
    if parsed.is_negative() { Err("a time cannot be negative".to_owned()) } else { Ok(parsed) }
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["targets", "all", "failed"])))]
pub struct Retry {
    /// Devices, or integration/NAME
    #[arg(value_name = "NAME | integration/NAME")]
    pub targets: Vec<Target>,
    /// All devices of the namespace
    #[arg(long)]
    pub all: bool,
    /// Those that failed: a person has to change something
    #[arg(long)]
    pub failed: bool,
    /// With --all or --failed: of all namespaces
    #[arg(short = 'A', long, conflicts_with = "targets")]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Reprovision {
    /// Devices
    #[arg(value_name = "NAME", required = true)]
    pub targets: Vec<Target>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Suspend {
    /// Devices, or integration/NAME
    #[arg(value_name = "NAME | integration/NAME", required = true)]
    pub targets: Vec<Target>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["to", "pause", "resume"])))]
pub struct Rotate {
    /// The integration
    pub integration: Target,
    /// The slot whose key is to be used
    #[arg(long, value_name = "SLOT", ignore_case = true)]
    pub to: Option<Slot>,
    /// Hold a rotation that goes on; devices in flight are finished
    #[arg(long)]
    pub pause: bool,
    /// Let a rotation go on that was held
    #[arg(long)]
    pub resume: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with_all = ["pause", "resume"])]
    pub yes: bool,
    /// Do not wait for its end; it goes on without this program
    #[arg(long, conflicts_with_all = ["pause", "resume"])]
    pub no_follow: bool,
    /// How long to follow it at most
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    pub timeout: SignedDuration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Slot {
    Primary,
    Secondary,
}

impl From<Slot> for KeySlot {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::Primary => Self::Primary,
            Slot::Secondary => Self::Secondary,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = [
            "retry",
            "retry a --all",
            "retry a -A",
            "reprovision",
            "rotate factory",
            "rotate factory --to primary --pause",
            "rotate factory --pause --yes",
            "status a -A",
            "status pod/a",
            "suspend a --timeout never",
        ];
        for line in refused {
            let words = std::iter::once("kubectl-dps").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
        let taken =
            ["status", "status -A", "retry --failed -A", "rotate dpsi/factory --to Secondary -y", "explain"];
        for line in taken {
            let words = std::iter::once("kubectl-dps").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
