//! Objects are brought into every state that can be reached within a minute and shown to kstatus and
//! to the Lua that Argo CD is given. What they say has to be what the table in docs/gitops.md says.

use std::collections::BTreeSet;
use std::process::Command;

use dps_simulator::{Fault, FaultAction, RegistrationStatus};
use serde_json::{Value, json};

use crate::world::commands::{list, read, run, tool};
use crate::world::objects::{ready_reason, text};
use crate::world::requests::REPROVISION;
use crate::world::{INTEGRATION, Kind, PATIENCE, SCOPE, Setup, WRONG_KEY, World, condition, manifests};

/// What kstatus and Argo CD make of an object in this state.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    kind: String,
    /// Reason and status of its condition `Ready`.
    reason: String,
    ready: String,
    kstatus: String,
    argo_cd: String,
}

const HEALTH: &str = "resource.customizations.health.dps-operator.io_";
const ACTIONS: &str = "resource.customizations.actions.dps-operator.io_";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kstatus_and_argo_cd_judge_every_state_as_the_documentation_says() {
    let mut world = World::without_operator(Setup::default()).await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    let mut seen = verdicts(&everything(&world).await);
    world.start_operator().await;
    world.wait_ready("first").await;
    integrations(&world).await;
    devices(&world).await;
    wait_until_all_is_reported(&world).await;

    let objects = everything(&world).await;
    seen.extend(verdicts(&objects));

    assert_eq!(seen, documented());
    // The operator has not looked at a changed spec yet, whatever it said before.
    let changed: Vec<Value> = objects.into_iter().map(one_generation_later).collect();
    for verdict in verdicts(&changed) {
        let judged = (verdict.kstatus.as_str(), verdict.argo_cd.as_str());
        assert_eq!(judged, ("InProgress", "Progressing"), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn argo_cds_action_registers_a_device_again_and_changes_nothing_else() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let parked = manifests::merged(device.clone(), json!({"spec": {"suspend": true}}));
    let scripts: Value =
        serde_saphyr::from_str(text(&argocd_cm()["data"][format!("{ACTIONS}ProvisionedDevice")])).unwrap();
    let discovery = text(&scripts["discovery.lua"]);
    let action = &scripts["definitions"][0];
    let disabled = |answer: &Value| answer[text(&action["name"])]["disabled"].clone();
    assert_eq!(
        lua(discovery, &[device.clone(), parked]).iter().map(disabled).collect::<Vec<_>>(),
        [false, true]
    );
    let before = world.mark().await;

    let acted = lua(text(&action["action.lua"]), std::slice::from_ref(&device)).remove(0);

    let annotations = acted["metadata"]["annotations"].clone();
    // Lua has one kind of empty table for both of JSON's; Argo CD mends that by itself.
    let plain = |object: Value| object.to_string().replace("{}", "[]");
    let unmarked = manifests::merged(acted, json!({"metadata": {"annotations": null}}));
    assert_eq!(plain(unmarked), plain(device));
    assert_eq!(annotations.as_object().unwrap().len(), 1);
    world.patch(Kind::Device, "truck-1", json!({"metadata": {"annotations": annotations}})).await;
    let token = text(&annotations[REPROVISION]);
    world.wait_registration_request(Kind::Device, "truck-1", token).await;
    assert_eq!(world.registers_since(before), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn argo_cds_action_on_an_integration_registers_all_of_its_devices_again() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    let integration = world.get(Kind::Integration, INTEGRATION).await;
    let scripts: Value =
        serde_saphyr::from_str(text(&argocd_cm()["data"][format!("{ACTIONS}DpsIntegration")])).unwrap();
    let name = text(&scripts["definitions"][0]["name"]);
    let offered = lua(text(&scripts["discovery.lua"]), std::slice::from_ref(&integration)).remove(0);
    assert_eq!(offered, json!({name: {"disabled": false}}));
    let before = world.mark().await;

    let acted = lua(text(&scripts["definitions"][0]["action.lua"]), &[integration]).remove(0);

    let annotations = acted["metadata"]["annotations"].clone();
    world.patch(Kind::Integration, INTEGRATION, json!({"metadata": {"annotations": annotations}})).await;
    let token = text(&annotations[REPROVISION]);
    world.wait_registration_request(Kind::Integration, INTEGRATION, token).await;
    assert_eq!(world.registers_since(before), 3);
}

fn argocd_cm() -> Value {
    serde_saphyr::from_str(&read("examples/argocd/argocd-cm.yaml")).unwrap()
}

/// Integrations in their states, some with the device that brings them there.
async fn integrations(world: &World) {
    world.integration_without_key("keyless", json!({})).await;
    world.group_key("garbled-key", "not base64!").await;
    world.integration_without_key("garbled", json!({})).await;
    world.integration_with("without-ca", json!({"caBundleRef": {"name": "nowhere"}})).await;
    world
        .create(Kind::ConfigMap, json!({"metadata": {"name": "bad-ca"}, "data": {"ca.crt": "not PEM"}}))
        .await;
    world.integration_with("with-bad-ca", json!({"caBundleRef": {"name": "bad-ca"}})).await;
    world.integration_with("other-host", json!({"hostname": "evil.example"})).await;
    let secondary = json!({"attestation": {"symmetricKey": {"active": "Secondary"}}});
    world.integration_with("contradictory", secondary).await;
    world.integration_with("strict", json!({"registrationIdPrefixes": ["strict-"]})).await;
    world.integration_with("parked", json!({"suspend": true})).await;
    world.group_key("wrong-key", WRONG_KEY).await;
    world.integration_without_key("wrong", json!({})).await;
    // Each has an id scope of its own, or it would hold the others.
    for (name, scope) in [
        ("throttled", "0neTHROTTLED"),
        ("unreachable", "0neGONE"),
        ("nowhere", "0neUNKNOWN"),
        ("groupless", "0neGROUPLESS"),
    ] {
        world.integration_with(name, json!({"idScope": scope})).await;
    }
    for name in ["gone", "lost"] {
        world.integration(name).await;
    }
    let fault = |id: &str, action: FaultAction| world.dps.inject(Fault::device(id, action)).unwrap();
    fault("throttled", FaultAction::throttled("600"));
    fault("unreachable", FaultAction::Reset);
    for number in 1..=3 {
        let name = format!("groupless-{number}");
        fault(&name, FaultAction::Status { status: 404, retry_after: None, error_code: Some(404_201) });
        world.device_with(&name, json!({"integrationRef": {"name": "groupless"}})).await;
    }
    for name in ["throttled", "unreachable", "nowhere", "wrong", "parked", "other-host"] {
        world.device_with(name, json!({"integrationRef": {"name": name}})).await;
    }
}

/// Devices in their states.
async fn devices(world: &World) {
    let of = |name: &str| json!({"integrationRef": {"name": name}});
    let failed = FaultAction::Outcome {
        status: RegistrationStatus::Failed,
        error_code: Some(400_208),
        error_message: Some("No hub available.".to_owned()),
    };
    let invalid_hub = FaultAction::rewrite_state("assignedHub", json!("evil.example"));
    let busy = FaultAction::status(409);
    for (name, action) in [("unallocated", failed), ("misassigned", invalid_hub), ("busy", busy)] {
        world.dps.inject(Fault::device(name, action)).unwrap();
        world.device(name).await;
    }
    world.dps.set_device_enabled(SCOPE, "disabled", false).unwrap();
    world.device("disabled").await;
    world.create(Kind::Secret, manifests::secret("conflicting-hub", &[("note", "not yours")])).await;
    world.device("conflicting").await;
    world.device_with("second", json!({"registrationId": "first"})).await;
    world.device_with("large", large()).await;
    world.device_with("outsider", of("strict")).await;
    world.device_with("without-integration", of("never-made")).await;
    world.device_with("idle", json!({"suspend": true})).await;
    bar_secret(world, "barred-hub");
    world.device("barred").await;

    world.device_with("integration-gone", of("gone")).await;
    world.device_with("without-secret", of("lost")).await;
    for name in ["suspended", "enlarged"] {
        world.device(name).await;
    }
    for name in ["integration-gone", "without-secret", "suspended", "enlarged"] {
        world.wait_ready(name).await;
    }
    world.delete(Kind::Integration, "gone").await;
    world.delete(Kind::Secret, "lost-key").await;
    world.wait_integration("lost", "KeySecretNotFound").await;
    world.delete(Kind::Secret, "without-secret-hub").await;
    world.patch(Kind::Device, "suspended", json!({"spec": {"suspend": true}})).await;
    world.patch(Kind::Device, "enlarged", json!({"spec": large()})).await;
}

/// A payload that DPS would not take.
fn large() -> Value {
    json!({"payload": {"text": "x".repeat(66_000)}})
}

/// An admission policy forbids this one Secret.
fn bar_secret(world: &World, secret: &str) {
    let name = format!("{}-{secret}", world.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"],
            }]},
            "validations": [{
                "expression": format!("object.metadata.name != '{secret}' || object.metadata.namespace != '{}'", world.namespace),
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    world.kubectl_ok(&["apply", "--server-side", "-f", "-"], &list(&[policy, binding]));
    let refused = || {
        let create = ["create", "secret", "generic", secret, "--dry-run=server"];
        (!world.kubectl(&create, "").status.success()).then_some(())
    };
    tokio::task::block_in_place(|| dps_dev::eventually(PATIENCE, refused)).expect("the policy takes effect");
}

async fn wait_until_all_is_reported(world: &World) {
    for (name, reason) in [
        ("keyless", "KeySecretNotFound"),
        ("garbled", "KeyInvalid"),
        ("without-ca", "CaBundleNotFound"),
        ("with-bad-ca", "CaBundleInvalid"),
        ("other-host", "HostNotAllowed"),
        ("contradictory", "InvalidConfiguration"),
        ("parked", "Suspended"),
        ("wrong", "Unauthorized"),
        ("throttled", "Throttled"),
        ("unreachable", "EndpointUnreachable"),
        ("strict", "Available"),
    ] {
        world.wait_integration(name, reason).await;
    }
    for (name, reason) in [
        ("wrong", "Unauthorized"),
        ("nowhere", "EnrollmentNotFound"),
        ("unallocated", "AllocationFailed"),
        ("misassigned", "InvalidResponse"),
        ("disabled", "Disabled"),
        ("conflicting", "SecretConflict"),
        ("second", "DuplicateRegistrationId"),
        ("large", "InvalidConfiguration"),
        ("outsider", "ReferenceNotAllowed"),
        ("idle", "Suspended"),
        ("suspended", "Suspended"),
        ("enlarged", "InvalidConfiguration"),
        ("without-secret", "CredentialUnavailable"),
        ("barred", "SecretWriteFailed"),
        ("busy", "ServiceUnavailable"),
        ("integration-gone", "IntegrationNotFound"),
        ("without-integration", "IntegrationNotFound"),
        ("other-host", "IntegrationNotReady"),
    ] {
        world.wait_reason(name, reason).await;
    }
}

async fn everything(world: &World) -> Vec<Value> {
    let mut objects = world.list(Kind::Device).await;
    objects.extend(world.list(Kind::Integration).await);
    objects
}

fn one_generation_later(mut object: Value) -> Value {
    let generation = object["metadata"]["generation"].as_u64().unwrap();
    object["metadata"]["generation"] = json!(generation + 1);
    object
}

fn stream(objects: &[Value]) -> String {
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// What a script returns for each object in the virtual machine that Argo CD uses.
fn lua(script: &str, objects: &[Value]) -> Vec<Value> {
    let output = run(Command::new(tool("argocd-lua")).arg(script), &stream(objects));
    assert!(output.status.success(), "the script failed");
    serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>().unwrap()
}

fn kstatus(objects: &[Value]) -> Vec<String> {
    let output = run(&mut Command::new(tool("kstatus")), &stream(objects));
    assert!(output.status.success(), "kstatus failed");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect()
}

fn verdicts(objects: &[Value]) -> BTreeSet<Verdict> {
    let scripts = argocd_cm()["data"].clone();
    let script = text(&scripts[format!("{HEALTH}ProvisionedDevice")]);
    assert_eq!(script, text(&scripts[format!("{HEALTH}DpsIntegration")]), "both kinds have the same script");
    let argo_cd = lua(script, objects);
    let kstatus = kstatus(objects);
    assert_eq!((kstatus.len(), argo_cd.len()), (objects.len(), objects.len()));
    let judged = objects.iter().zip(kstatus).zip(argo_cd);
    judged
        .map(|((object, kstatus), argo_cd)| {
            let kind = if object["kind"] == "DpsIntegration" { "integration" } else { "device" };
            let ready = condition(object, "Ready").map(|ready| ready.status).unwrap_or_default();
            let (reason, argo_cd) = (ready_reason(object), text(&argo_cd["status"]).to_owned());
            Verdict { kind: kind.to_owned(), reason, ready, kstatus, argo_cd }
        })
        .collect()
}

/// The rows of the table, one for each reason that a row names.
fn documented() -> BTreeSet<Verdict> {
    let page = read("docs/gitops.md");
    let rows =
        page.lines().filter(|line| line.starts_with("| device ") || line.starts_with("| integration "));
    let rows = rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [kind, reasons, ready, kstatus, argo_cd] = cells[..] else { panic!("{row}") };
        let verdict = |reason: &str| {
            let [kind, reason, ready, kstatus, argo_cd] =
                [kind, reason, ready, kstatus, argo_cd].map(str::to_owned);
            Verdict { kind, reason, ready, kstatus, argo_cd }
        };
        reasons.split(", ").map(verdict).collect::<Vec<_>>()
    });
    rows.collect()
}
