//! The properties of the control plane that tests, demo and benchmarks rely on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use dps_dev::audit::{Event, Request};
use dps_dev::{Component, ControlPlane, Error, Guarded, Options, Signal, eventually};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SOON: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(120);

/// A static is never dropped: its processes must end nevertheless.
static SHARED: LazyLock<Result<ControlPlane, String>> =
    LazyLock::new(|| ControlPlane::start(Options::default()).map_err(|error| error.to_string()));

const WIDGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
"#;

fn shared() -> Outcome<&'static ControlPlane> {
    SHARED.as_ref().map_err(|error| error.as_str().into())
}

/// An empty folder for one test, outside the system's temporary folder.
fn scratch(name: &str) -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Starts `dps-dev up` with its temporary folder in `temporary`; returns when it is ready.
fn up(temporary: &Path, log: &Path) -> Outcome<Guarded> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dps-dev"));
    command.arg("up").env("TMPDIR", temporary).env_remove("DPS_DEV_KEEP");
    let mut process = Guarded::spawn(&command, log)?;
    let ready = eventually(START, || {
        let printed = process.log_tail(20);
        (printed.contains("Ctrl-C ends it") || !process.is_running()).then_some(printed)
    });
    match ready {
        Some(printed) if process.is_running() => {
            assert!(printed.contains("export KUBECONFIG="), "{printed}");
            Ok(process)
        }
        other => Err(format!("dps-dev up did not become ready: {other:?}").into()),
    }
}

/// Waits for the watchers, too, which end a moment after the processes that they watch.
fn assert_nothing_runs_in(folder: &Path) {
    let gone = eventually(SOON, || processes_in(folder).is_empty().then_some(()));
    assert!(gone.is_some(), "still running: {:#?}", processes_in(folder));
}

/// The command lines of all processes that name `folder`.
fn processes_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(&*folder.to_string_lossy()))
        .collect()
}

fn folders_in(folder: &Path) -> Outcome<Vec<PathBuf>> {
    Ok(fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?)
}

#[test]
fn rbac_refuses_an_unprivileged_service_account_and_the_audit_log_shows_it() {
    let control_plane = shared().unwrap();
    control_plane.kubectl_ok(&["create", "serviceaccount", "visitor"]).unwrap();
    let kubeconfig = control_plane.service_account_kubeconfig("default", "visitor").unwrap();

    let refused = control_plane.kubectl_as(&kubeconfig, &["get", "secrets"]).unwrap_err();

    assert!(refused.to_string().contains("Forbidden"), "{refused}");
    let visitor = "system:serviceaccount:default:visitor";
    let list = Request::new("list", "secrets");
    let event = eventually(SOON, || {
        let events = control_plane.audit_events().unwrap();
        let counted = events.count(visitor, &list);
        let found: Vec<Event> =
            events.0.into_iter().filter(|e| e.user == visitor && e.request == list).collect();
        assert_eq!(counted, found.len());
        found.into_iter().next()
    })
    .expect("the refusal is in the audit log");
    assert_eq!((event.code, event.namespace.as_str()), (Some(403), "default"));
    assert!(event.user_agent.starts_with("kubectl"), "{event:?}");
    assert!(event.received <= event.stage_reached);
}

#[test]
fn an_owned_secret_is_collected_after_its_owner() {
    let control_plane = shared().unwrap();
    control_plane.kubectl_ok(&["create", "configmap", "owner"]).unwrap();
    let uid = ["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"];
    let uid = control_plane.kubectl_ok(&uid).unwrap();
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: owned, ownerReferences: [
           {{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
    );
    control_plane.apply(&secret).unwrap();

    control_plane.kubectl_ok(&["delete", "configmap", "owner"]).unwrap();

    eventually(SOON, || {
        let answer = control_plane.kubectl_ok(&["get", "secret", "owned"]);
        answer.is_err_and(|error| error.to_string().contains("NotFound")).then_some(())
    })
    .expect("the Secret is gone");
}

#[test]
fn a_second_control_plane_is_separate_and_survives_its_api_server() {
    let first = shared().unwrap();
    let crds = scratch("crds").unwrap();
    fs::write(crds.join("widgets.yaml"), WIDGETS).unwrap();
    let options = Options { crds: vec![crds], controller_manager: false, ..Options::default() };

    let mut second = ControlPlane::start(options).unwrap();

    assert_ne!(first.url(), second.url());
    let widget = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: one}}";
    second.apply(widget).unwrap();
    first.kubectl_ok(&["get", "widgets"]).unwrap_err();

    let before = second.pid_of(Component::ApiServer).unwrap();
    second.kill_api_server();
    second.kubectl_ok(&["get", "widgets"]).unwrap_err();
    second.restart_api_server().unwrap();
    assert_ne!(second.pid_of(Component::ApiServer).unwrap(), before);
    assert_eq!(
        second.kubectl_ok(&["get", "widgets", "-o", "name"]).unwrap().trim(),
        "widget.example.com/one"
    );

    let folder = second.directory().to_owned();
    second.stop().unwrap();
    assert_nothing_runs_in(&folder);
    assert_eq!(folder.exists(), std::env::var_os("DPS_DEV_KEEP").is_some());
}

#[test]
fn a_component_that_cannot_start_is_named_with_the_end_of_its_log() {
    let directory = scratch("refused").unwrap();
    let options = Options {
        directory: Some(directory.clone()),
        api_server_flags: vec!["--no-such-flag".to_owned()],
        ..Options::default()
    };

    let error = ControlPlane::start(options).unwrap_err();

    let Error::Component { component, log, tail, .. } = error else { panic!("{error}") };
    assert_eq!(component, "kube-apiserver");
    assert_eq!(log, directory.canonicalize().unwrap().join("logs/kube-apiserver.log"));
    assert!(tail.contains("unknown flag: --no-such-flag"), "{tail}");
    assert_nothing_runs_in(&directory);
}

#[test]
fn no_process_outlives_a_killed_parent_and_the_next_start_sweeps_its_folder() {
    let temporary = scratch("killed").unwrap();
    let log = scratch("killed-logs").unwrap().join("up.log");

    let mut killed = up(&temporary, &log).unwrap();
    let running = processes_in(&temporary);
    for component in [Component::Etcd, Component::ApiServer, Component::ControllerManager] {
        assert!(running.iter().any(|line| line.contains(component.name())), "{running:?}");
    }
    let abandoned = folders_in(&temporary).unwrap();
    killed.kill().unwrap();
    assert_nothing_runs_in(&temporary);
    assert_eq!(folders_in(&temporary).unwrap(), abandoned);

    fs::remove_file(&log).unwrap();
    let mut interrupted = up(&temporary, &log).unwrap();
    let in_use = folders_in(&temporary).unwrap();
    assert_eq!((abandoned.len(), in_use.len()), (1, 1));
    assert_ne!(in_use, abandoned);
    interrupted.signal(Signal::Interrupt).unwrap();
    let status = interrupted.wait_timeout(SOON).unwrap().expect("it ends");
    assert!(status.success(), "{status}");
    assert_nothing_runs_in(&temporary);
    assert_eq!(folders_in(&temporary).unwrap(), Vec::<PathBuf>::new());
}
