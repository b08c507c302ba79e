//! Every folder of `examples/` works as it is written: applied to an API server, with the simulator
//! in Azure's place, each device becomes Ready and its Secret has what its comment promises.
//!
//! A promise is a comment `# Secret NAME: key, key.`, which may go on over several lines up to a full
//! stop. Nothing of a manifest is changed but the integration's host name and CA bundle; the
//! simulator knows the id scopes and keys that the example names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::{
    AllocationPolicy, Config, EnrollmentGroup, IdScope, OperationKind, Webhook, WebhookAnswer, WebhookRule,
};
use serde_json::{Map, Value, json};

use crate::world::manifests::merged;
use crate::world::objects::{data, is_observed, is_ready};
use crate::world::{Kind, Setup, World, simulator};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
/// The hubs of the custom-allocation example.
const WARSAW: &str = "factory-warsaw.azure-devices.net";
const GDANSK: &str = "factory-gdansk.azure-devices.net";

/// A folder of manifests and what it says of its Secrets.
struct Example {
    objects: Vec<Value>,
    promises: BTreeMap<String, BTreeSet<String>>,
}

impl Example {
    fn read(name: &str) -> Self {
        let (mut objects, mut promises) = (Vec::new(), BTreeMap::new());
        for file in entries(&Path::new(EXAMPLES).join(name)) {
            if !file.ends_with(".yaml") {
                continue;
            }
            let text = std::fs::read_to_string(Path::new(EXAMPLES).join(name).join(&file)).unwrap();
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            objects.extend(documents);
            for (secret, keys) in promised(&text) {
                assert_eq!(promises.insert(secret, keys), None, "{file} promises a Secret twice");
            }
        }
        Self { objects, promises }
    }

    fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    fn named(&self, kind: &str, name: &str) -> &Value {
        let found = self.of_kind(kind).into_iter().find(|object| object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("the example has no {kind} {name}"))
    }

    /// A DPS with the id scopes and groups that its integrations name.
    fn simulator(&self) -> Config {
        let mut scopes: BTreeMap<&str, IdScope> = BTreeMap::new();
        for integration in self.of_kind("DpsIntegration") {
            let id = text(&integration["spec"]["idScope"]);
            let scope = scopes.entry(id).or_insert_with(|| IdScope {
                id_scope: id.to_owned(),
                hubs: vec![WARSAW.to_owned(), GDANSK.to_owned()],
                ..IdScope::default()
            });
            let keys = &integration["spec"]["attestation"]["symmetricKey"];
            let primary = self.key(&keys["primaryKeyRef"], "primaryKey");
            let secondary = match &keys["secondaryKeyRef"] {
                // A group has two keys, whether the integration uses both or not.
                Value::Null => STANDARD.encode([u8::try_from(scope.enrollment_groups.len()).unwrap(); 32]),
                reference => self.key(reference, "secondaryKey"),
            };
            let group =
                EnrollmentGroup::new(text(&integration["metadata"]["name"]), &primary, &secondary).unwrap();
            scope.enrollment_groups.push(group);
        }
        Config { id_scopes: scopes.into_values().collect(), ..simulator() }
    }

    fn key(&self, reference: &Value, default: &str) -> String {
        let secret = self.named("Secret", text(&reference["name"]));
        let key = reference["key"].as_str().unwrap_or(default);
        text(&secret["stringData"][key]).to_owned()
    }

    /// A world whose DPS is the one that the example is written for.
    async fn world(&self) -> World {
        World::with(Setup { simulator: self.simulator(), ..Setup::default() }).await
    }

    /// Applies it as a user does, with DPS where the simulator is and a merge patch on integrations.
    fn apply(&self, world: &World, patch: &Value) {
        let spec = json!({"hostname": world.host(), "caBundleRef": {"name": "simulator-ca"}});
        let items = self.objects.iter().map(|object| {
            let object = merged(object.clone(), json!({"metadata": {"namespace": world.namespace}}));
            match object["kind"].as_str() {
                Some("DpsIntegration") => merged(merged(object, json!({"spec": spec})), patch.clone()),
                _ => object,
            }
        });
        apply(world, &list(&items.collect::<Vec<_>>()));
    }

    /// The same in each object's own namespace.
    fn apply_where_it_says(&self, world: &World) {
        let spec = json!({"hostname": world.host(), "caBundleRef": {"name": "simulator-ca"}});
        let items = self.objects.iter().map(|object| match object["kind"].as_str() {
            Some("DpsIntegration") => merged(object.clone(), json!({"spec": spec})),
            _ => object.clone(),
        });
        apply(world, &list(&items.collect::<Vec<_>>()));
    }

    /// With another name for one of its namespaces.
    fn renamed(&self, from: &str, to: &str) -> Self {
        let objects = json!(self.objects).to_string().replace(from, to);
        let promises = self.promises.iter().map(|(name, keys)| (name.replace(from, to), keys.clone()));
        Self { objects: serde_json::from_str(&objects).unwrap(), promises: promises.collect() }
    }

    /// Waits until all devices are Ready, and looks into their Secrets.
    async fn keeps_its_promises(&self, world: &World) -> BTreeMap<String, BTreeMap<String, String>> {
        let declared = self.of_kind("ProvisionedDevice").len();
        assert!(declared > 0, "an example has devices");
        let mut secrets = BTreeMap::new();
        for device in world.wait_all_ready(declared).await {
            let name = text(&device["status"]["secret"]["name"]).to_owned();
            let data = world.secret(&name).await;
            let keys: BTreeSet<String> = data.keys().cloned().collect();
            assert_eq!(Some(&keys), self.promises.get(&name), "Secret {name} of the example");
            let status = &device["status"];
            let (scope, id) = (text(&status["idScope"]), text(&status["registrationId"]));
            let works = |value: &String| {
                let mut parts = value
                    .split([';', '\n'])
                    .map(|part| part.rsplit_once("SharedAccessKey=").map_or(part, |(_, key)| key));
                parts.any(|key| world.dps.accepts_device_key(scope, id, key))
            };
            assert!(data.values().any(works), "no value of Secret {name} is a key that the hub takes");
            secrets.insert(name, data);
        }
        let written: BTreeSet<_> = secrets.keys().collect();
        assert_eq!(written, self.promises.keys().collect(), "each promise belongs to a device");
        secrets
    }

    /// Applies it and sees that it does what it says.
    async fn works_in(&self, world: &World) -> BTreeMap<String, BTreeMap<String, String>> {
        self.apply(world, &json!({}));
        self.keeps_its_promises(world).await
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

/// Names in a folder, sorted as kubectl reads them.
fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What comments say of Secrets: name and keys.
fn promised(manifest: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut lines = manifest.lines().map(|line| line.strip_prefix("# ").unwrap_or_default());
    let mut promises = Vec::new();
    while let Some(line) = lines.next() {
        let Some((name, keys)) = line.strip_prefix("Secret ").and_then(|rest| rest.split_once(": ")) else {
            continue;
        };
        let mut keys = keys.to_owned();
        while !keys.ends_with('.') {
            keys.push(' ');
            keys.push_str(
                lines.next().filter(|more| !more.is_empty()).expect("a promise ends with a full stop"),
            );
        }
        let keys = keys.trim_end_matches('.').split(", ").map(str::to_owned).collect();
        promises.push((name.to_owned(), keys));
    }
    promises
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Unknown fields, refusals and warnings fail the test.
fn apply(world: &World, manifest: &str) {
    let mut kubectl: Command = world.control_plane().kubectl();
    kubectl.args(["apply", "--server-side", "--force-conflicts", "--warnings-as-errors", "-f", "-"]);
    let mut child =
        kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), manifest.as_bytes()).unwrap();
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Secrets that Pods refer to, each with the key if it names one.
fn references(value: &Value) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    for (key, inner) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "secretRef" => found.push((text(&inner["name"]), None)),
            "secretKeyRef" => found.push((text(&inner["name"]), inner["key"].as_str())),
            "secret" if inner["secretName"].is_string() => found.push((text(&inner["secretName"]), None)),
            _ => {}
        }
    }
    let fields = value.as_object().into_iter().flat_map(Map::values);
    let inner = fields.chain(value.as_array().into_iter().flatten());
    found.extend(inner.flat_map(references));
    found
}

fn count(world: &World, operation: OperationKind) -> usize {
    world.ledger().iter().filter(|entry| entry.operation == operation).count()
}

#[test]
fn every_example_is_applied_by_a_test() {
    let folders = entries(Path::new(EXAMPLES));
    let folders: Vec<_> = folders.iter().filter(|name| Path::new(EXAMPLES).join(name).is_dir()).collect();
    assert!(!folders.is_empty());

    // What has to be rendered before it can be applied.
    let elsewhere =
        [include_str!("../gitops/health.rs"), include_str!("../gitops/rendered_examples.rs")].concat();
    for folder in folders {
        let read = format!("Example::read({folder:?})");
        let is_read =
            include_str!("mod.rs").contains(&read) || elsewhere.contains(&format!("\"examples/{}", folder));
        assert!(is_read, "no test reads examples/{folder}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_small_fleet_example_gives_each_device_what_it_promises() {
    let example = Example::read("small-fleet");
    let world = example.world().await;

    example.works_in(&world).await;

    let secret = world.get(Kind::Secret, "plant1-fan-01-hub").await;
    let labels = &secret["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/part-of"], "plant1");
    assert_eq!(labels["app.kubernetes.io/component"], "fan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_custom_allocation_example_hands_payloads_over_and_receives_what_is_returned() {
    let example = Example::read("custom-allocation");
    let mut simulator = example.simulator();
    let group = &mut simulator.id_scopes[0].enrollment_groups[0];
    let region = |region: &str| json!({"region": region}).as_object().cloned();
    group.allocation_policy = AllocationPolicy::Custom;
    group.webhook = Some(Webhook {
        field: "site".to_owned(),
        rules: vec![WebhookRule { value: json!("gdansk"), hub: GDANSK.to_owned(), payload: region("north") }],
        otherwise: Some(WebhookAnswer { hub: WARSAW.to_owned(), payload: region("south") }),
    });
    let world = World::with(Setup { simulator, ..Setup::default() }).await;

    let secrets = example.works_in(&world).await;

    assert_eq!(secrets["conveyor-01-hub"]["returnedPayload"], r#"{"region":"south"}"#);
    assert_eq!(secrets["conveyor-01-hub"]["iotHubHostname"], WARSAW);
    assert_eq!(secrets["crane-02-hub"]["site.json"], r#"{"region":"north"}"#);
    assert_eq!(secrets["crane-02-hub"]["iotHubHostname"], GDANSK);
    assert_eq!(secrets["sorter-03-hub"]["iotHubHostname"], WARSAW, "it does not inherit a site");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_gateway_example_writes_the_gateways_file_and_names_it_to_the_devices_behind_it() {
    let example = Example::read("edge-gateway");
    let world = example.world().await;

    let secrets = example.works_in(&world).await;

    let config: toml::Value = toml::from_str(&secrets["gateway-01-hub"]["config.toml"]).unwrap();
    assert_eq!(config["provisioning"]["source"].as_str(), Some("dps"));
    assert_eq!(config["provisioning"]["attestation"]["registration_id"].as_str(), Some("gateway-01"));
    let connection = |secret: &str| secrets[secret]["connectionString"].clone();
    assert!(!connection("gateway-01-hub").contains("GatewayHostName"));
    assert!(connection("sensor-11-hub").ends_with(";GatewayHostName=edge-gateway.plant.example"));
    assert_eq!(secrets["sensor-12-hub"]["mqttHost"], "edge-gateway.plant.example");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rotation_example_moves_one_device_by_hand_and_then_all_to_the_secondary_key() {
    let example = Example::read("rotation-secondary-first");
    let world = example.world().await;
    let key = |active: &str| json!({"attestation": {"symmetricKey": {"active": active}}});
    let before = merged(key("Primary"), json!({"rollout": {"paused": true}}));
    example.apply(&world, &json!({"spec": before}));
    let old = example.keeps_its_promises(&world).await;
    let slot = |device: &Value| device["status"]["credential"]["slot"].clone();

    let paused = merged(key("Secondary"), json!({"rollout": {"paused": true}}));
    world.patch(Kind::Integration, "mill", json!({"spec": paused})).await;
    world.wait(Kind::Integration, "mill", "looked at", is_observed).await;
    let token = json!({"dps-operator.io/reprovision-requested-at": "first"});
    world.patch(Kind::Device, "roller-01", json!({"metadata": {"annotations": token}})).await;
    world.wait(Kind::Device, "roller-01", "moved", |device| slot(device) == "Secondary").await;
    let waiting = |i: &Value| {
        let status = &i["status"];
        status["keyRotation"]["pending"] == 2 && status["credentials"]["working"] == "Secondary"
    };
    world.wait(Kind::Integration, "mill", "waiting for the others", waiting).await;
    assert_eq!(slot(&world.get(Kind::Device, "sieve-01").await), "Primary");

    example.apply(&world, &json!({}));

    for name in ["roller-01", "roller-02", "sieve-01"] {
        world
            .wait(Kind::Device, name, "moved", |device| slot(device) == "Secondary" && is_ready(device))
            .await;
    }
    let new = example.keeps_its_promises(&world).await;
    for (name, data) in &new {
        assert_ne!(data["sharedAccessKey"], old[name]["sharedAccessKey"], "{name}");
    }
    let scope = text(&example.of_kind("DpsIntegration")[0]["spec"]["idScope"]);
    let former = &old["sieve-01-hub"]["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(scope, "sieve-01", former), "its application may still use it");
    world.wait(Kind::Integration, "mill", "done", |i| i["status"]["keyRotation"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disaster_recovery_example_brings_lost_secrets_back_without_registering() {
    let example = Example::read("disaster-recovery");
    let mut world = example.world().await;
    let before = example.works_in(&world).await;
    let registered = count(&world, OperationKind::Register);
    world.stop_operator().await;
    for device in example.of_kind("ProvisionedDevice") {
        world.delete(Kind::Device, text(&device["metadata"]["name"])).await;
    }
    for secret in before.keys() {
        world.wait_gone(Kind::Secret, secret).await;
    }
    world.delete(Kind::Integration, "harbour").await;
    let looked_up = count(&world, OperationKind::Lookup);
    world.start_operator().await;

    let after = example.works_in(&world).await;

    assert_eq!(after, before);
    assert_eq!(count(&world, OperationKind::Register), registered);
    assert!(count(&world, OperationKind::Lookup) >= looked_up + before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adoption_example_takes_a_secret_over_and_keeps_what_is_not_its_own() {
    let example = Example::read("adoption");
    let world = example.world().await;
    let existing = example.named("Secret", "oven-credentials")["stringData"].clone();

    let secrets = example.works_in(&world).await;

    let adopted = &secrets["oven-credentials"];
    assert_eq!(adopted["recipe"], text(&existing["recipe"]));
    let replaced = &adopted["IOTHUB_DEVICE_CONNECTION_STRING"];
    assert_ne!(replaced, text(&existing["IOTHUB_DEVICE_CONNECTION_STRING"]));
    assert!(replaced.contains(";DeviceId=oven-01;"), "the example's device keeps its id");
    world.delete(Kind::Device, "oven").await;
    world.wait_gone(Kind::Device, "oven").await;
    assert_eq!(data(&world.get(Kind::Secret, "oven-credentials").await), *adopted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_formats_example_has_workloads_that_find_every_key_they_name() {
    let example = Example::read("secret-formats");
    let world = example.world().await;

    let secrets = example.works_in(&world).await;

    let workloads = example.of_kind("Deployment");
    let references: Vec<_> = workloads.into_iter().flat_map(references).collect();
    let used: BTreeSet<&str> = references.iter().map(|(secret, _)| *secret).collect();
    assert_eq!(used, secrets.keys().map(String::as_str).collect(), "each Secret is used by a workload");
    for (secret, key) in references {
        assert!(key.is_none_or(|key| secrets[secret].contains_key(key)), "{secret} has no {key:?}");
    }
    assert_eq!(secrets["meter-env-hub"]["IOTHUB_DEVICE_ID"], "meter-env");
    assert!(secrets["meter-dotenv-hub"]["device.env"].contains("\nIOTHUB_DEVICE_ID=meter-dotenv\n"));
    let binding = |device: &Value| device["status"]["binding"]["name"] == "meter-binding-hub";
    world.wait(Kind::Device, "meter-binding", "a Provisioned Service", binding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cross_namespace_example_serves_a_tenant_from_the_platforms_integration() {
    let example = Example::read("cross-namespace-tenant");
    let mut world =
        World::without_operator(Setup { simulator: example.simulator(), ..Setup::default() }).await;
    let (home, tenant) = (world.namespace.clone(), world.guest(json!({})).await);
    world.start_operator().await;
    let example = example.renamed("iot-platform", &home).renamed("tenant-a", &tenant);

    example.apply_where_it_says(&world);

    world.visit(&tenant);
    example.keeps_its_promises(&world).await;
}
