//! Who may use whom: the table of CONTRIBUTING.md, checked by reading the `use` lines.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder or file, and the only things of ours it may use. The longest entry that fits counts.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api/", &["api"]),
    ("clock.rs", &[]),
    ("config.rs", &["dps::host"]),
    ("dps/", &["clock", "dps"]),
    ("fleet/", &["api", "dps::key", "fleet"]),
    ("schedule/", &["api", "dps::ids", "schedule"]),
    ("controller/mod.rs", &[]),
    // Pure: what is decided, rendered and read back.
    ("controller/", &["api", "controller", "dps", "fleet", "schedule"]),
    // Thin: what is done.
    ("controller/device/act.rs", &["api", "clock", "controller", "dps", "fleet", "kube_io"]),
    ("kube_io/", &["api", "clock", "kube_io", "schedule::backoff", "telemetry"]),
    (
        "engine/",
        &["api", "clock", "config", "controller", "dps", "engine", "fleet", "kube_io", "schedule", "telemetry"],
    ),
    ("telemetry/", &["telemetry"]),
    ("cli.rs", &["config", "dps::host"]),
    ("app.rs", &["api", "cli", "clock", "config", "engine", "kube_io", "telemetry"]),
    ("lib.rs", &[]),
    ("main.rs", &[]),
];

/// Words that have no place in pure code: clients, clocks, tasks, logs.
const IMPURE: &[&str] = &[
    "tokio::spawn",
    "tokio::sync",
    "async fn",
    ".await",
    "tracing::",
    "Timestamp::now",
    "Instant::now",
    "kube::Client",
    "reqwest",
];

const PURE: &[&str] = &[
    "api/",
    "fleet/",
    "schedule/",
    "dps/answer.rs",
    "dps/error.rs",
    "dps/key.rs",
    "dps/sas.rs",
    "controller/device/decide/",
    "controller/device/facts.rs",
    "controller/device/registered.rs",
    "controller/device/failure.rs",
    "controller/device/formats.rs",
    "controller/device/secret/",
    "controller/device/settings.rs",
    "controller/device/status.rs",
    "controller/events.rs",
    "kube_io/lease/decide.rs",
    "controller/integration/",
];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| {
            name.ends_with(".rs")
                && !name.contains("tests")
                && !["api/compatibility.rs", "api/rules.rs"].contains(&name.as_str())
        })
        .map(|(name, path)| (name, without_tests(&fs::read_to_string(path).unwrap())))
        .collect()
}

fn without_tests(source: &str) -> String {
    source.split("\n#[cfg(test)]").next().unwrap().to_owned()
}

/// Paths behind `crate::`, with `crate::fleet::{hash, record}` taken apart one level deep.
fn uses(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in source.split("crate::").skip(1) {
        let path: String =
            part.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        let inner = part[path.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        match inner.filter(|_| path.ends_with("::") || path.is_empty()) {
            Some(names) => found.extend(names.split(',').map(|name| format!("{path}{}", name.trim()))),
            None => found.push(path),
        }
    }
    found
}

fn allowed(file: &str) -> &'static [&'static str] {
    let fitting = MAY_USE.iter().filter(|(prefix, _)| file.starts_with(prefix));
    fitting.max_by_key(|(prefix, _)| prefix.len()).unwrap_or_else(|| panic!("{file} is not in the table")).1
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        for path in uses(&source) {
            let fits = allowed(&file).iter().any(|may| path == *may || path.starts_with(&format!("{may}::")));
            if !fits {
                wrong.push(format!("{file} uses {path}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn pure_modules_have_no_client_no_clock_no_task_and_no_log() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        if PURE.iter().any(|prefix| file.starts_with(prefix)) {
            wrong.extend(
                IMPURE.iter().filter(|word| source.contains(**word)).map(|word| format!("{file}: {word}")),
            );
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_in_contributing_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contributing = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let missing: Vec<_> = MAY_USE
        .iter()
        .map(|(file, _)| format!("`src/{file}`"))
        .filter(|name| !contributing.contains(name.as_str()))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_forbidden_use_would_be_found() {
    assert_eq!(uses("use crate::kube_io::write::Writer;"), ["kube_io::write::Writer"]);
    assert_eq!(uses("use crate::{clock, engine};"), ["clock", "engine"]);
    assert_eq!(uses("use crate::fleet::{hash, record};"), ["fleet::hash", "fleet::record"]);
}
