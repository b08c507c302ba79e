//! The operator's binary: the TLS provider comes first, then everything else.

use std::process::ExitCode;

use dps_operator::{app, cli::Cli, process};

/// Gives memory back after a re-list, which the system's allocator does not (docs/design.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Two libraries speak TLS here, and each would otherwise guess a provider of its own.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    // Before anything secret is read. Without them it works as well.
    let kernel =
        [process::dump_no_core(), process::open_as_many_files_as_allowed(), process::use_no_huge_pages()];
    for done in kernel {
        if let Err(error) = done {
            app::report(&error);
        }
    }
    match app::main(Cli::read().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            app::report(&*error);
            ExitCode::FAILURE
        }
    }
}
