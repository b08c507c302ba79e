//! `dps-dev`: the local control plane from the command line.

mod admin;
mod causes;
mod checkout;
mod cli;
mod demo;
mod e2e;
mod progress;
mod reference;
mod stop;
mod up;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn report(error: &dyn Error) {
    // Without a standard error there is only the exit code.
    let _ = writeln!(std::io::stderr(), "dps-dev: {}", causes::with_causes(error));
}
