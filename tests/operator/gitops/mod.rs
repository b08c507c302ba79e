//! What GitOps tools see: how their own programs judge our objects, that nothing which was declared is
//! ever changed, and fleets that come and go.

mod health;
mod ownership;
mod pruning;
mod rendered_examples;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::world::World;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(REPOSITORY).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// A Go program that `dev/build-tool` compiles when it is used for the first time.
fn tool(name: &str) -> PathBuf {
    let mut build = Command::new(Path::new(REPOSITORY).join("dev/build-tool"));
    let output = run(build.arg(name).stderr(Stdio::inherit()), "");
    assert!(output.status.success(), "dev/build-tool {name} failed");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().last().expect("dev/build-tool names the program").into()
}

/// Runs it to its end with this on its stdin.
fn run(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // What ends before it has read everything says why on its stderr.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    tokio::task::block_in_place(|| child.wait_with_output()).unwrap()
}

/// kubectl in the world's namespace, as the user of the manifests.
fn kubectl(world: &World, arguments: &[&str], manifest: &str) -> Output {
    let mut kubectl = world.control_plane().kubectl();
    kubectl.args(["--namespace", &world.namespace]).args(arguments).stderr(Stdio::piped());
    run(&mut kubectl, manifest)
}

/// What it printed; fails unless it was content.
fn kubectl_ok(world: &World, arguments: &[&str], manifest: &str) -> String {
    let output = kubectl(world, arguments, manifest);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A manifest for kubectl.
fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn manifest(kind: &str, object: Value) -> Value {
    crate::world::manifests::merged(json!({"apiVersion": "dps-operator.io/v1alpha1", "kind": kind}), object)
}
