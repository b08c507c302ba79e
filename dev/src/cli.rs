use std::error::Error;
use std::io::Write;

use clap::{Parser, Subcommand};
use dps_dev::Assets;

use crate::{demo, e2e, reference, up};

/// A local Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager as plain
/// processes, no containers.
///
/// The first use compiles them, which takes some minutes; KUBEBUILDER_ASSETS can name a folder
/// that has them already.
#[derive(Debug, Parser)]
#[command(name = "dps-dev", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a control plane and keep it until Ctrl-C
    Up(up::Arguments),
    /// Show the operator at work: five devices, a simulated DPS, nothing outside this machine
    Demo(demo::Arguments),
    /// Install the chart on a real node and see it upgraded, killed and removed; needs root
    E2e(e2e::Arguments),
    /// Write the CRDs as a page to read
    Reference(reference::Arguments),
    /// Print the folder with etcd, kube-apiserver, kube-controller-manager and kubectl
    Assets,
}

impl Cli {
    pub fn run(self) -> Result<(), Box<dyn Error>> {
        match self.command {
            Command::Up(arguments) => up::run(arguments),
            Command::Demo(arguments) => demo::run(arguments),
            Command::E2e(arguments) => e2e::run(&arguments),
            Command::Reference(arguments) => reference::run(&arguments),
            Command::Assets => {
                let assets = Assets::locate()?;
                writeln!(std::io::stdout(), "{}", assets.folder().display())?;
                Ok(())
            }
        }
    }
}
