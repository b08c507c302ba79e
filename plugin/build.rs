//! Tells the program which commit it is built from; outside of a checkout it is not known.

use std::path::Path;
use std::process::Command;

fn main() {
    // Moves with every commit. A file that is not there would have the program built each time.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        emit(&format!("cargo::rerun-if-changed={log}"));
    } else {
        emit("cargo::rerun-if-changed=build.rs");
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        emit(&format!("cargo::rustc-env=DPS_COMMIT={commit}"));
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// To cargo, which reads what build scripts print.
fn emit(instruction: &str) {
    use std::io::Write as _;
    // If cargo does not listen any more, nothing is left to be told.
    let _ = writeln!(std::io::stdout(), "{instruction}");
}
