//! `kubectl dps`, the plugin, as users run it: its commands against the real operator.

mod changes;
mod rotating;
mod showing;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::world::World;
use crate::world::commands::{REPOSITORY, run};

/// The plugin of this checkout, compiled when it is used for the first time.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    tokio::task::block_in_place(|| PROGRAM.get_or_init(build))
}

fn build() -> PathBuf {
    let mut cargo = Command::new("cargo");
    // With all members selected, so that what the other programs were compiled from is used again.
    cargo.args(["build", "--workspace", "--bin", "kubectl-dps"]);
    cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(REPOSITORY);
    // Build scripts watch what cargo says of this package.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "the plugin does not compile");
    let said = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let mut messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.expect("cargo names the program")
}

/// What a run of it came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it printed; fails unless it succeeded.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it said on stderr; fails unless it ended with this code.
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }
}

/// The plugin with this kubeconfig, and nothing of the environment that it goes by.
fn command(kubeconfig: &Path) -> Command {
    let mut command = Command::new(program());
    for name in ["COLUMNS", "NO_COLOR", "TERM"] {
        command.env_remove(name);
    }
    command.env("KUBECONFIG", kubeconfig).stderr(Stdio::piped());
    command
}

impl World {
    /// The plugin in the world's namespace, with an administrator's rights.
    fn dps(&self, arguments: &[&str]) -> Ran {
        let mut command = command(self.control_plane().admin_kubeconfig());
        Ran::of(&run(command.args(arguments).args(["--namespace", &self.namespace]), ""))
    }
}
