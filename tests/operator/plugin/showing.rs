//! What is shown, and how the program ends.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Ran, command, program};
use crate::world::commands::{manifest, run};
use crate::world::operator::ACCOUNTS;
use crate::world::{INTEGRATION, Kind, Setup, World, manifests};

/// More than one page of a list.
const MANY: usize = 501;

/// A fleet with a device that needs a person: its registration id is another's.
async fn troubled() -> World {
    let world = World::accepted().await;
    world.device_with("other", json!({"registrationId": "first"})).await;
    world.wait_reason("other", "DuplicateRegistrationId").await;
    world.wait_counters(INTEGRATION, |counters| counters["failed"] == 1 && counters["ready"] == 1).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_integrations_and_what_needs_a_person() {
    let world = troubled().await;
    let shown = world.dps(&["status"]).ok();
    for part in [
        &format!("{}/factory   Ready\n", world.namespace),
        "key        Primary (",
        "2: 1 ready, 1 failed",
        "hubs       hub-",
        "DuplicateRegistrationId x1: other",
        "→ kubectl dps explain DuplicateRegistrationId",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours in a pipe: {shown}");
    assert!(!shown.contains("DPS accepts the key"), "its row says so: {shown}");
    assert!(world.dps(&["status", "--color", "always"]).ok().contains("\u{1b}[31m"));
    assert_eq!(world.dps(&["status", "dpsi/factory"]).ok(), shown);

    let json: Value = serde_json::from_str(&world.dps(&["status", "-o", "json"]).ok()).unwrap();
    let factory = &json["integrations"][0];
    assert_eq!(factory["needsYou"][0]["names"], json!(["other"]));
    assert_eq!((&factory["name"], &factory["state"]), (&json!("factory"), &json!("ready")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_of_a_device_says_what_is_wrong_and_what_to_do() {
    let world = troubled().await;
    let other = world.dps(&["status", "device/other"]).ok();
    for part in [
        "Not ready, DuplicateRegistrationId",
        "Another ProvisionedDevice uses",
        "when what is wrong is changed",
    ] {
        assert!(other.contains(part), "{part} is not in\n{other}");
    }
    let first = world.dps(&["status", "first"]).ok();
    for part in ["/first   Ready\n", ".azure-devices.net\n", "first-hub", "Primary key (", "nothing to do"] {
        assert!(first.contains(part), "{part} is not in\n{first}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_what_needs_a_person_from_what_cannot_be_asked() {
    let world = troubled().await;
    world.dps(&["status"]).ok();
    world.dps(&["status", "--exit-code"]).failed(1);
    world.dps(&["status", "device/first", "--exit-code"]).ok();
    assert!(world.dps(&["status", "nothing"]).failed(1).contains("no integration and no device \"nothing\""));
    assert!(world.dps(&["status", "pod/first"]).failed(2).contains("no kind of this operator"));
    assert!(world.dps(&["retry"]).failed(2).contains("--failed"));
    assert!(
        world.dps(&["status", "--kubeconfig", "/nowhere"]).failed(3).contains("No cluster is configured")
    );

    let account = "without-rights";
    world.kubectl_ok(&["create", "serviceaccount", account, "-n", ACCOUNTS], "");
    let kubeconfig = world.control_plane().service_account_kubeconfig(ACCOUNTS, account).unwrap();
    let refused = run(command(&kubeconfig).args(["status", "-n", &world.namespace]), "");
    let wanted = format!("no right to list dpsintegrations.dps-operator.io in namespace {}", world.namespace);
    let said = Ran::of(&refused).failed(3);
    assert!(said.contains(&wanted), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_ended_is_no_trouble() {
    let world = World::without_operator(Setup::default()).await;
    world.integration(INTEGRATION).await;
    let mut command = command(world.control_plane().admin_kubeconfig());
    let mut child = command.args(["status", "-n", &world.namespace]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(&tokio::task::block_in_place(|| child.wait_with_output()).unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let world = World::without_operator(Setup::default()).await;
    world.devices("truck", 2).await;
    let deep =
        manifest("ProvisionedDevice", manifests::device("deep", json!({"payload": "DEEP"}))).to_string();
    let payload = [r#"{"a":"#.repeat(200), "1".to_owned(), "}".repeat(200)].concat();
    world.kubectl_ok(&["create", "-f", "-"], &deep.replace("\"DEEP\"", &payload));

    let ran = world.dps(&["status"]);
    assert!(ran.err.contains("1 object is left out"), "{ran:?}");
    let shown = ran.ok();
    assert!(shown.contains("Pending x2: truck-1, truck-2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_finds_it() {
    let world = World::accepted().await;
    let folder = program().parent().unwrap();
    let kubectl = world.control_plane().kubectl().get_program().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let script =
        format!("set -o pipefail; '{}' dps status -n {} | head -1", kubectl.display(), world.namespace);
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("PATH", path).env("KUBECONFIG", world.control_plane().admin_kubeconfig());
    let ran = Ran::of(&run(shell.stderr(Stdio::piped()), ""));
    assert_eq!(ran.err, "");
    assert_eq!(ran.ok(), format!("{}/factory   Ready\n", world.namespace));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_devices_than_a_page_has_are_all_counted() {
    let world = World::without_operator(Setup::default()).await;
    world.devices("truck", MANY).await;
    let shown = world.dps(&["status"]).ok();
    assert!(
        shown.contains(&format!("Pending x{MANY}: truck-1, truck-10, truck-100 and {} more", MANY - 3)),
        "{shown}"
    );
    assert!(shown.contains("factory   does not exist"), "{shown}");
    world.dps(&["status", "--exit-code"]).failed(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_cluster_works_without_one() {
    let world = World::without_operator(Setup::default()).await;
    let explained = world.dps(&["explain", "secretconflict"]).ok();
    assert!(explained.contains("dps-operator.io/adopt=true"), "{explained}");
    assert!(world.dps(&["explain", "Unauthorised"]).failed(2).contains("Did you mean Unauthorized?"));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(world.dps(&["completion", shell]).ok().contains("reprovision"), "{shell}");
    }
    let version = world.dps(&["version"]).ok();
    assert!(version.contains("dps-operator.io: v1alpha1"), "{version}");
    let image = json!({"metadata": {"name": "dps-operator", "labels": {"app.kubernetes.io/name": "dps-operator"}},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "operator", "image": "registry.example.com/dps-operator:0.1.0"}]}}}});
    let mut manifest = image;
    manifest["apiVersion"] = json!("apps/v1");
    manifest["kind"] = json!("Deployment");
    world.kubectl_ok(&["create", "-f", "-"], &manifest.to_string());
    let version = world.dps(&["version"]).ok();
    assert!(version.contains("registry.example.com/dps-operator:0.1.0"), "{version}");
    assert!(world.find(Kind::Integration, INTEGRATION).await.is_none());
}
