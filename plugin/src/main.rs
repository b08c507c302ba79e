//! `kubectl dps`: what the operator's devices and integrations are doing, and what to do about it.
//! docs/kubectl-dps.md is for people.

mod cli;
mod cluster;
mod commands;
mod failure;
mod model;
mod targets;
mod terminal;
mod text;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::failure::{Failure, Outcome, code};
use crate::terminal::note;

fn main() -> ExitCode {
    let result = run(Cli::parse());
    if let Err(failure) = &result
        && !failure.is_closed_pipe()
    {
        note(&format!("error: {failure}"));
    }
    code(&result)
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    // Before the first connection: otherwise what speaks TLS would guess a provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::Cluster("TLS cannot be set up.".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Cluster(format!("The program cannot start: {error}")))?;
    runtime.block_on(commands::run(cli))
}
