//! `dps-dev`: the local control plane from the command line.

mod admin;
mod cli;
mod demo;
mod e2e;
mod reference;
mod story;
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
    // Without a stderr the exit code has to do.
    let _ = writeln!(std::io::stderr(), "dps-dev: {}", chain(error));
}

/// An error and what caused it, in one line if each of them is one.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
