use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::failure::Failure;

/// The programs that the demo shows, as cargo built them.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) operator: PathBuf,
    pub(super) simulator: PathBuf,
}

/// A line of `--message-format json`, as far as it concerns us.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

impl Binaries {
    /// Builds both; cargo shows its progress on our stderr.
    pub(super) fn build(checkout: &Path) -> Result<Self, Failure> {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "-p", "dps-operator", "-p", "dps-simulator", "--bins"])
            // Asking cargo is the only way to know its target folder.
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(checkout)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        // `cargo run` describes our own package in the environment. Build scripts watch some of
        // these variables: passed on, they would have half of the dependencies compiled again.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().map_err(Failure::Cargo)?;
        if !output.status.success() {
            return Err(Failure::Build(output.status));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let named = |name| executable(&said, name).ok_or(Failure::NotBuilt(name));
        Ok(Self { operator: named("dps-operator")?, simulator: named("dps-simulator")? })
    }
}

fn executable(said: &str, name: &str) -> Option<PathBuf> {
    said.lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .find(|path| path.file_stem().is_some_and(|stem| stem == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_cargos_messages() {
        let said = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/target/debug/dps-simulator"}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(said, "dps-simulator"), Some(PathBuf::from("/target/debug/dps-simulator")));
        assert_eq!(executable(said, "dps-operator"), None);
    }
}
