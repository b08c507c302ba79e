use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::failure::Failure;

/// The programs that the demo runs, built by cargo.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) operator: PathBuf,
    pub(super) simulator: PathBuf,
}

/// The field of a line of `--message-format json` that is read here.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

impl Binaries {
    /// Builds both; cargo prints its progress to standard error.
    pub(super) fn build(checkout: &Path) -> Result<Self, Failure> {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "-p", "dps-operator", "-p", "dps-simulator", "--bins"])
            // Only cargo knows its target folder.
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(checkout)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        // `cargo run` describes this package in the environment. Build scripts watch some of these
        // variables: with them, cargo would compile half of the dependencies again.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().map_err(Failure::Cargo)?;
        if !output.status.success() {
            return Err(Failure::Build(output.status));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let named = |name| executable(&printed, name).ok_or(Failure::NotBuilt(name));
        Ok(Self { operator: named("dps-operator")?, simulator: named("dps-simulator")? })
    }
}

fn executable(printed: &str, name: &str) -> Option<PathBuf> {
    printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .find(|path| path.file_stem().is_some_and(|stem| stem == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_cargos_messages() {
        let printed = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/target/debug/dps-simulator"}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(printed, "dps-simulator"), Some(PathBuf::from("/target/debug/dps-simulator")));
        assert_eq!(executable(printed, "dps-operator"), None);
    }
}
