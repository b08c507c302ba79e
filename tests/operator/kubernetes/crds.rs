//! What kubectl and the API server make of manifests: each rule of the CRDs refuses one with words
//! that help, and lets its siblings pass without a warning.
//!
//! `tests/manifests/accepted` and `refused` hold a file for each case. Where a file has two
//! documents, the second is an update of the first. A refused one begins with `# expect:` and the
//! words that the user has to read.

use std::path::{Path, PathBuf};

use dps_dev::ControlPlane;
use serde_json::Value;

use crate::world::commands::kubectl;
use crate::world::{INTEGRATION, PATIENCE, Setup, World, control_plane};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(MANIFESTS).join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// As kubectl has it: a server-side dry run asks the API server and leaves nothing behind.
enum DryRun {
    None,
    Server,
}

/// What kubectl says: `Ok` when it succeeds and nothing draws a warning.
fn apply(
    control_plane: &ControlPlane,
    namespace: &str,
    manifest: &str,
    dry_run: DryRun,
) -> Result<(), String> {
    let dry_run = match dry_run {
        DryRun::None => "--dry-run=none",
        DryRun::Server => "--dry-run=server",
    };
    let arguments = ["apply", "--namespace", namespace, dry_run, "--warnings-as-errors", "-f", "-"];
    let output = kubectl(control_plane, &arguments, manifest);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Applies all but the last document for good and tries the last one.
fn judge(control_plane: &ControlPlane, namespace: &str, text: &str) -> Result<(), String> {
    match text.split_once("\n---\n") {
        Some((old, new)) => {
            apply(control_plane, namespace, old, DryRun::None).expect("the first document is accepted");
            apply(control_plane, namespace, new, DryRun::Server)
        }
        None => apply(control_plane, namespace, text, DryRun::Server),
    }
}

/// Judges all files of a folder on as many threads as help; returns what is wrong with which.
fn complaints(
    world: &World,
    folder: &str,
    complaint: impl Fn(&str, Result<(), String>) -> Option<String> + Sync,
) -> Vec<String> {
    let (files, control_plane, namespace) = (files(folder), world.control_plane(), &world.namespace);
    let halves = files.split_at(files.len() / 2);
    let examine = |files: &[PathBuf]| -> Vec<String> {
        let one = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap();
            let said = complaint(&text, judge(control_plane, namespace, &text))?;
            Some(format!("{}: {said}", path.file_name().unwrap().to_string_lossy()))
        };
        files.iter().filter_map(one).collect()
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| examine(halves.1));
            let mut complaints = examine(halves.0);
            complaints.extend(other.join().unwrap());
            complaints
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valid_manifests_are_accepted_without_a_warning() {
    let world = World::without_operator(Setup::default()).await;

    let complaints = complaints(&world, "accepted", |_, verdict| verdict.err());

    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_break_a_rule_are_refused_with_the_expected_message() {
    let world = World::without_operator(Setup::default()).await;

    let complaints = complaints(&world, "refused", |text, verdict| {
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
        let expected = expected.expect("a refused manifest begins with `# expect: `");
        match verdict {
            Ok(()) => Some("was accepted".to_owned()),
            Err(said) if said.contains(expected) => None,
            Err(said) => Some(format!("expected {expected:?}, got {said}")),
        }
    });

    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Fields of a schema without a description, by their path.
fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().unwrap_or_default().trim().is_empty() {
            found.push(path.clone());
        }
        undescribed(field, &path, found);
        undescribed(&field["items"], &format!("{path}[]"), found);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_explains_every_field() {
    let control_plane = control_plane::shared().await;

    for kind in ["provisioneddevices", "dpsintegrations"] {
        let crd = format!("{kind}.dps-operator.io");
        let crd = control_plane.kubectl_ok(&["get", "crd", &crd, "-o", "json"]).unwrap();
        let crd: Value = serde_json::from_str(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            undescribed(&schema[part], &format!("{kind}.{part}"), &mut found);
        }
        assert!(found.is_empty(), "{found:#?}");
    }
    let explained = [
        ("pdev", "One device that is registered through DPS"),
        ("pdev.spec.registrationId", "Immutable"),
        ("pdev.spec.secret.labels", "win over inherited ones"),
        ("pdev.status.lastError.trackingId", "Azure support"),
        ("dpsi.spec.attestation.symmetricKey.primaryKeyRef", "base64 as the portal shows it"),
    ];
    for (path, words) in explained {
        // A fresh API server publishes the descriptions of a new kind some moments after the kind.
        let explain = || control_plane.kubectl_ok(&["explain", path]).ok();
        let said = dps_dev::eventually(PATIENCE, explain).unwrap();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{path}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_get_shows_readiness_hub_and_counters() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    world.wait_counters(INTEGRATION, |devices| devices["assigned"] == 1).await;
    let get = |arguments: &[&str]| {
        let arguments = [&["get", "-n", &world.namespace], arguments].concat();
        let said = world.control_plane().kubectl_ok(&arguments).unwrap();
        said.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };

    let devices = get(&["pdev"]);
    let integrations = get(&["dpsi"]);
    let both = get(&["dps"]);
    let wide = get(&["pdev", "-o", "wide"]);

    assert_eq!(devices[0], ["NAME", "READY", "STATUS", "HUB", "AGE"]);
    let hub = device["status"]["assignedHub"].as_str().unwrap();
    assert_eq!(devices[1][..4], ["truck-1", "True", "Provisioned", hub]);
    assert_eq!(
        integrations[0],
        ["NAME", "READY", "STATUS", "DEVICES", "ASSIGNED", "FAILED", "ROTATION", "AGE"]
    );
    assert_eq!(integrations[1][..6], [INTEGRATION, "True", "Available", "1", "1", "0"]);
    assert!(both.len() >= 4, "the category shows both kinds");
    let columns = [
        "REGISTRATION-ID",
        "INTEGRATION",
        "INTEGRATION-NAMESPACE",
        "SECRET",
        "KEY",
        "LAST-REG",
        "CERT-EXPIRES",
        "MESSAGE",
    ];
    assert_eq!(wide[0][5..], columns);
}
