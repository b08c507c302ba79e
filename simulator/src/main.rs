//! `dps-simulator`: the simulator as a program.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    let outcome = Cli::parse().run();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is only the exit code.
            let _ = writeln!(io::stderr(), "dps-simulator: {error}");
            error.exit_code()
        }
    }
}
