//! The examples that a tool has to render are rendered by that tool and work.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{at_simulator, in_namespace};
use crate::world::commands::{REPOSITORY, list, read, run, succeeded, tool};
use crate::world::objects::text;
use crate::world::{Kind, PRIMARY_KEY, Setup, World, simulator};

const EXAMPLE: &str = "examples/fleet-from-a-list";

/// Applies what was rendered as a tool would, with DPS where the simulator is; returns its devices.
async fn works(rendered: &str) -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(rendered).unwrap();
    let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).count();
    let integration = objects.iter().find(|object| object["kind"] == "DpsIntegration").unwrap();
    let mut simulator = simulator();
    text(&integration["spec"]["idScope"]).clone_into(&mut simulator.id_scopes[0].id_scope);
    let world = World::with(Setup { simulator, ..Setup::default() }).await;
    let key = &integration["spec"]["attestation"]["symmetricKey"]["primaryKeyRef"]["name"];
    world.group_key(text(key), PRIMARY_KEY).await;
    let items = objects.iter().map(|object| in_namespace(&world, at_simulator(&world, object)));

    let apply = ["apply", "--server-side", "--warnings-as-errors", "-f", "-"];
    world.kubectl_ok(&apply, &list(&items.collect::<Vec<_>>()));

    let devices = world.wait_all_ready(of("ProvisionedDevice")).await;
    assert_eq!(world.list(Kind::Integration).await.len(), 1);
    devices
}

/// Name, registration id and payload of each.
fn shown(devices: &[Value]) -> Value {
    let shown = devices.iter().map(|device| {
        json!([device["metadata"]["name"], device["status"]["registrationId"], device["spec"]["payload"]])
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kustomize_example_makes_devices_from_its_list() {
    let assets = tokio::task::block_in_place(dps_dev::Assets::locate).unwrap();
    let folder = format!("{REPOSITORY}/{EXAMPLE}/kustomize/production");
    let mut kubectl = Command::new(assets.binary("kubectl"));
    let output = run(kubectl.args(["kustomize", &folder]).stderr(Stdio::piped()), "");

    let devices = works(&succeeded(&output)).await;

    let press = json!({"line": "press"});
    let expected = json!([
        ["oven-01", "sn:4711_0815", null],
        ["press-01", "press-01", press],
        ["press-02", "press-02", press],
    ]);
    assert_eq!(shown(&devices), expected);
    let environment =
        |device: &Value| device["metadata"]["labels"]["example.com/environment"] == "production";
    assert!(devices.iter().all(environment));
}

fn helm(arguments: &[&str]) -> Output {
    let home = std::env::temp_dir().join("dps-operator-no-helm-home");
    let mut helm = Command::new(tool("helm"));
    for variable in ["HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_CACHE_HOME"] {
        // Nothing of the user's helm.
        helm.env(variable, &home);
    }
    let chart = format!("{REPOSITORY}/{EXAMPLE}/helm");
    let template = helm.args(["template", "fleet", &chart]).args(arguments);
    run(template.stderr(Stdio::piped()), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_helm_example_makes_devices_from_its_list() {
    let output = helm(&[]);

    let devices = works(&succeeded(&output)).await;

    let expected = json!([
        ["oven-01", "sn:4711_0815", null],
        ["press-01", "press-01", null],
        ["press-02", "press-02", {"line": "press"}],
    ]);
    assert_eq!(shown(&devices), expected);
    assert_eq!(devices[0]["spec"]["secret"]["deletionPolicy"], "Retain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_helm_example_refuses_a_device_without_a_name() {
    let output = helm(&["--set", "devices[0].registrationId=x", "--set", "devices[0].name="]);

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("a device needs a name"), "{said}");
}

#[test]
fn the_flux_and_argo_cd_examples_name_folders_that_are_there() {
    let flux: Vec<Value> = serde_saphyr::from_multiple(&read(&format!("{EXAMPLE}/flux.yaml"))).unwrap();
    let application: Value = serde_saphyr::from_str(&read("examples/argocd/application.yaml")).unwrap();
    let mut paths: Vec<&str> =
        flux.iter().map(|kustomization| text(&kustomization["spec"]["path"])).collect();
    paths.push(text(&application["spec"]["source"]["path"]));
    assert_eq!(paths.len(), 3);

    for path in paths {
        read(&format!("{}/kustomization.yaml", path.trim_start_matches("./")));
    }
}
