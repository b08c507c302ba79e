//! The operator's rights are those that it uses: what is missing would be refused, what is too much
//! is found here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::objects::revision;
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, PRIMARY_KEY, Setup, WRONG_KEY, World};

/// Beyond so many objects that integrations refer to, the rest is read instead of watched.
const WATCHED: usize = 96;

/// `verb resource`, of the first role in the file that tests and chart agree on.
fn granted() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/rbac.yaml")).unwrap();
    let role: Value = serde_saphyr::from_str(&text).unwrap();
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                granted.insert(format!("{} {}", verb.as_str().unwrap(), resource.as_str().unwrap()));
            }
        }
    }
    granted
}

/// What operators of this world have asked for and got.
fn used(world: &World) -> BTreeSet<String> {
    let granted = world.stages().into_iter().filter(|event| event.code.is_some_and(|code| code < 400));
    granted.map(|event| event.request.to_string()).collect()
}

async fn wait_used(world: &World, request: &str) {
    let asked = until_true(world.patience, POLL, async || used(world).contains(request)).await;
    assert!(asked, "never asked: {request}");
}

async fn work_in_all_namespaces() -> BTreeSet<String> {
    let world = World::with(Setup::cluster_wide()).await;
    let allowed = json!({"from": "Selector", "selector": {}, "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": allowed})).await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let written = revision(&world.get(Kind::Secret, "truck-1-hub").await);
    let edited = json!({"data": {"deviceId": "eA=="}});
    world.patch(Kind::Secret, "truck-1-hub", edited).await;
    world
        .wait(Kind::Secret, "truck-1-hub", "restored", |s| {
            s["data"]["deviceId"] != "eA==" && revision(s) != written
        })
        .await;
    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "b"}}})).await;
    world.wait_ready("truck-1").await;
    let defaults = json!({"deviceDefaults": {"secret": {"labels": {"line": "nord"}}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": defaults})).await;
    world.wait(Kind::Secret, "truck-1-hub", "labelled", |s| s["metadata"]["labels"]["line"] == "nord").await;
    world.change_group_key("factory-key", WRONG_KEY).await;
    world.wait_integration(INTEGRATION, "Unauthorized").await;
    wait_used(&world, "create events").await;
    used(&world)
}

async fn work_in_one_namespace_with_many_keys() -> BTreeSet<String> {
    let world = World::empty().await;
    world.group_key("key", PRIMARY_KEY).await;
    for number in 0..=WATCHED {
        let ca = format!("ca-{number}");
        world.create(Kind::ConfigMap, json!({"metadata": {"name": ca}, "data": {"ca.crt": "none"}})).await;
        let spec = json!({"caBundleRef": {"name": ca}});
        world.integration_without_key(&format!("integration-{number}"), spec).await;
    }
    let allowed = json!({"from": "Selector", "selector": {}, "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": allowed})).await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    wait_used(&world, "get configmaps").await;
    used(&world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_has_exactly_the_rights_that_it_uses() {
    let mut used = work_in_all_namespaces().await;
    used.extend(work_in_one_namespace_with_many_keys().await);
    assert_eq!(used, granted());
}
