//! `dps-simulator`: the simulator as a program of its own.

mod cli;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime;

use crate::cli::{Cli, CliError};

fn main() -> ExitCode {
    let outcome = Cli::parse().run();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "dps-simulator: {error}");
            error.exit_code()
        }
    }
}

/// Runs a future to its end.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(work)
}
