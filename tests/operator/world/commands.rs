//! Programs that users run, too: kubectl, and what judges or renders objects.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dps_dev::ControlPlane;
use serde_json::{Value, json};

use super::World;
use super::manifests::merged;

pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(REPOSITORY).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A Go program that `dev/build-tool` compiles when it is used for the first time.
pub fn tool(name: &str) -> PathBuf {
    let mut build = Command::new(Path::new(REPOSITORY).join("dev/build-tool"));
    let output = run(build.arg(name).stderr(Stdio::inherit()), "");
    assert!(output.status.success(), "dev/build-tool {name} failed");
    let said = String::from_utf8(output.stdout).expect("paths are UTF-8");
    said.lines().last().expect("dev/build-tool names the program").into()
}

/// Runs it to its end with this on its stdin.
pub fn run(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // What ends before it has read everything says why on its stderr.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("stdin is a pipe"), input.as_bytes());
    tokio::task::block_in_place(|| child.wait_with_output()).expect("its end can be waited for")
}

/// kubectl as an administrator, with this on its stdin.
pub fn kubectl(control_plane: &ControlPlane, arguments: &[&str], manifest: &str) -> Output {
    run(control_plane.kubectl().args(arguments).stderr(Stdio::piped()), manifest)
}

impl World {
    /// kubectl in the world's namespace, with this on its stdin.
    pub fn kubectl(&self, arguments: &[&str], manifest: &str) -> Output {
        kubectl(self.control_plane(), &[&["--namespace", &self.namespace], arguments].concat(), manifest)
    }

    /// What it printed; fails unless it succeeded.
    pub fn kubectl_ok(&self, arguments: &[&str], manifest: &str) -> String {
        succeeded(&self.kubectl(arguments, manifest))
    }
}

/// What a command printed; fails unless it succeeded.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A manifest for kubectl.
pub fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// An object of one of our kinds.
pub fn manifest(kind: &str, object: Value) -> Value {
    merged(json!({"apiVersion": "dps-operator.io/v1alpha1", "kind": kind}), object)
}
