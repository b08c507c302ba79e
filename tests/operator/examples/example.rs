//! A folder of manifests, read, applied, and held to what its comments promise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::{Certificate, Config, EnrollmentGroup, IdScope};
use serde_json::{Value, json};

use super::{EXAMPLES, at_simulator, entries, in_namespace};
use crate::world::commands::{kubectl, list, succeeded};
use crate::world::manifests::merged;
use crate::world::objects::text;
use crate::world::{Setup, World, simulator};

/// The hubs of the custom-allocation example.
pub const WARSAW: &str = "factory-warsaw.azure-devices.net";
pub const GDANSK: &str = "factory-gdansk.azure-devices.net";

/// A folder of manifests and what it says of its Secrets.
pub struct Example {
    objects: Vec<Value>,
    promises: BTreeMap<String, BTreeSet<String>>,
}

impl Example {
    pub fn read(name: &str) -> Self {
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

    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    pub fn named(&self, kind: &str, name: &str) -> &Value {
        let found = self.of_kind(kind).into_iter().find(|object| object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("the example has no {kind} {name}"))
    }

    /// A DPS with the id scopes and groups that its integrations name.
    pub fn simulator(&self) -> Config {
        let mut scopes: BTreeMap<&str, IdScope> = BTreeMap::new();
        for integration in self.of_kind("DpsIntegration") {
            let id = text(&integration["spec"]["idScope"]);
            let scope = scopes.entry(id).or_insert_with(|| IdScope {
                id_scope: id.to_owned(),
                hubs: vec![WARSAW.to_owned(), GDANSK.to_owned()],
                ..IdScope::default()
            });
            let keys = &integration["spec"]["attestation"]["symmetricKey"];
            if keys.is_null() {
                continue;
            }
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
    pub async fn world(&self) -> World {
        World::with(Setup { simulator: self.simulator(), ..Setup::default() }).await
    }

    /// Applies it as a user does, with DPS where the simulator is and a merge patch on integrations.
    pub fn apply(&self, world: &World, patch: &Value) {
        let items = self.objects.iter().map(|object| {
            let object = in_namespace(world, at_simulator(world, object));
            if object["kind"] == "DpsIntegration" { merged(object, patch.clone()) } else { object }
        });
        apply(world, &items.collect::<Vec<_>>());
    }

    /// The same in each object's own namespace.
    pub fn apply_where_it_says(&self, world: &World) {
        let items: Vec<Value> = self.objects.iter().map(|object| at_simulator(world, object)).collect();
        apply(world, &items);
    }

    /// With another name for one of its namespaces.
    pub fn renamed(&self, from: &str, to: &str) -> Self {
        let objects = json!(self.objects).to_string().replace(from, to);
        let promises = self.promises.iter().map(|(name, keys)| (name.replace(from, to), keys.clone()));
        Self { objects: serde_json::from_str(&objects).unwrap(), promises: promises.collect() }
    }

    /// Waits until all devices are Ready, and looks into their Secrets.
    pub async fn keeps_its_promises(&self, world: &World) -> BTreeMap<String, BTreeMap<String, String>> {
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
            let is_certificate = |pem: &String| {
                let certificate = Certificate::from_pem(pem);
                certificate.is_ok_and(|own| world.dps.accepts_device_certificate(scope, id, &own))
            };
            let taken = |value: &String| works(value) || is_certificate(value);
            assert!(data.values().any(taken), "nothing in Secret {name} is what the hub takes");
            secrets.insert(name, data);
        }
        let written: BTreeSet<_> = secrets.keys().collect();
        assert_eq!(written, self.promises.keys().collect(), "each promise belongs to a device");
        secrets
    }

    /// Applies it and sees that it does what it says.
    pub async fn works_in(&self, world: &World) -> BTreeMap<String, BTreeMap<String, String>> {
        self.apply(world, &json!({}));
        self.keeps_its_promises(world).await
    }
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

/// Unknown fields, refusals and warnings fail the test.
fn apply(world: &World, items: &[Value]) {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--warnings-as-errors", "-f", "-"];
    succeeded(&kubectl(world.control_plane(), &arguments, &list(items)));
}
