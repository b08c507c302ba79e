//! A settled device is told to be registered otherwise.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::objects::{data, uid};
use crate::world::scanner::{base64, device_key};
use crate::world::{
    GROUP, HUBS, INTEGRATION, Kind, PATIENCE, PRIMARY_KEY, SCOPE, SECONDARY_KEY, Setup, WRONG_KEY, World,
};

const OTHER_SCOPE: &str = "0ne00FFFFFF";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_moves_to_another_id_scope_is_registered_there_and_its_secret_replaced_in_one_write() {
    let mut setup = Setup::default();
    let mut other = setup.simulator.id_scopes[0].clone();
    other.id_scope = OTHER_SCOPE.to_owned();
    other.hubs = vec!["hub-c.azure-devices.net".to_owned()];
    setup.simulator.id_scopes.push(other);
    let world = World::with(setup).await;
    world.integration(INTEGRATION).await;
    world.integration_with("mill", json!({"idScope": OTHER_SCOPE})).await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let (hub, secret) =
        (device["status"]["assignedHub"].clone(), world.get(Kind::Secret, "truck-1-hub").await);
    let before = world.mark().await;

    world.patch(Kind::Device, "truck-1", json!({"spec": {"integrationRef": {"name": "mill"}}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["idScope"], OTHER_SCOPE);
    assert_eq!(device["status"]["assignedHub"], "hub-c.azure-devices.net");
    assert_eq!(device["status"]["previousHub"], hub);
    let replaced = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(uid(&replaced), uid(&secret));
    let annotations = &replaced["metadata"]["annotations"];
    assert_eq!(annotations["dps-operator.io/registration"], format!("{OTHER_SCOPE}/truck-1"));
    assert_eq!(replaced["metadata"]["labels"]["dps-operator.io/integration"], "mill");
    assert_eq!(data(&replaced)["iotHubHostname"], "hub-c.azure-devices.net");
    assert_eq!(world.writes_since(before).await.get("patch secrets"), Some(&1));
    assert!(world.dps.registration(SCOPE, "truck-1").is_some(), "nothing is ever deleted in DPS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_key_reaches_every_device_and_no_secret_is_ever_half_changed() {
    const DEVICES: usize = 10;
    let world = World::start().await;
    world.devices("truck", DEVICES).await;
    let devices = world.wait_all_ready(DEVICES).await;
    let old = devices[0]["status"]["credential"]["fingerprint"].clone();
    world.dps.set_group_keys(SCOPE, GROUP, WRONG_KEY, SECONDARY_KEY).unwrap();

    let started = std::time::Instant::now();
    world.change_group_key("factory-key", WRONG_KEY).await;

    // Looked at again and again until all have changed: each is at every moment the old or the new, whole.
    let mut rotated = 0;
    while rotated < DEVICES {
        let secrets = world.generated_secrets().await;
        rotated = secrets.iter().filter(|secret| is_whole(&data(secret), PRIMARY_KEY, WRONG_KEY)).count();
        if started.elapsed() > PATIENCE {
            world.give_up(&format!("{rotated} of {DEVICES} Secrets changed"), &json!(devices));
        }
    }
    for device in world.wait_all_ready(DEVICES).await {
        let name = device["metadata"]["name"].as_str().unwrap();
        // The status follows its Secret.
        let says_so = |device: &Value| device["status"]["credential"]["fingerprint"] != old;
        world.wait(Kind::Device, name, "known to have the new key", says_so).await;
        let key = &world.secret(&format!("{name}-hub")).await["sharedAccessKey"];
        assert!(world.dps.accepts_device_key(SCOPE, name, key));
    }
    assert_eq!(world.registers(), 2 * DEVICES);
}

/// Whether it is the new one; fails if it is a mixture of both or neither.
fn is_whole(values: &BTreeMap<String, String>, old: &str, new: &str) -> bool {
    let key_of = |group_key: &str| base64(&device_key(group_key, &values["deviceId"]));
    let key = &values["sharedAccessKey"];
    assert!(values["connectionString"].ends_with(&format!(";SharedAccessKey={key}")));
    assert!([key_of(old), key_of(new)].contains(key));
    *key == key_of(new)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_when_a_device_registers_again_reaches_secret_and_status_together() {
    let mut setup = Setup::default();
    setup.simulator.id_scopes[0].hubs = HUBS[..1].iter().map(|hub| (*hub).to_owned()).collect();
    let world = World::with(setup).await;
    world.integration(INTEGRATION).await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.dps.set_linked_hubs(SCOPE, &HUBS[1..]).unwrap();

    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "gdansk"}}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["assignedHub"], HUBS[1]);
    assert_eq!(device["status"]["previousHub"], HUBS[0]);
    let values = world.secret("truck-1-hub").await;
    assert_eq!(values["iotHubHostname"], HUBS[1]);
    assert!(values["connectionString"].starts_with(&format!("HostName={};", HUBS[1])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_route_to_the_same_instance_registers_nothing() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    let before = world.mark().await;

    let route = json!({"spec": {"hostname": world.host().to_uppercase(), "caBundleRef": {"key": "ca.crt"}}});
    world.patch(Kind::Integration, INTEGRATION, route).await;
    world.wait_integration(INTEGRATION, "Available").await;
    world.group_key("same-key", PRIMARY_KEY).await;
    let keys = json!({"primaryKeyRef": {"name": "same-key"}});
    let elsewhere = json!({"spec": {"attestation": {"symmetricKey": keys}}});
    world.patch(Kind::Integration, INTEGRATION, elsewhere).await;
    world.wait_integration(INTEGRATION, "Available").await;

    world.device("last").await;
    world.wait_ready("last").await;
    let others =
        world.ledger_since(before).into_iter().filter(|e| e.registration_id.as_deref() != Some("last"));
    assert_eq!(others.collect::<Vec<_>>(), []);
    assert_eq!(world.writes_since(before).await.get("patch secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_waits_behind_a_wrong_key_leaves_when_it_is_given_another_integration() {
    let world = World::empty().await;
    world.group_key("broken-key", WRONG_KEY).await;
    world.integration_without_key("broken", json!({})).await;
    for name in ["canary-1", "canary-2", "canary-3", "truck-1"] {
        world.device_with(name, json!({"integrationRef": {"name": "broken"}})).await;
    }
    world.wait_ledger("three refusals", |_| world.registers() >= 3).await;
    world.integration(INTEGRATION).await;

    for name in ["canary-1", "canary-2", "canary-3", "truck-1"] {
        world.patch(Kind::Device, name, json!({"spec": {"integrationRef": {"name": INTEGRATION}}})).await;
    }

    world.wait_all_ready(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_bundle_that_is_put_right_is_used_at_once() {
    let world = World::empty().await;
    let stranger = ca_of_a_stranger().await;
    let ca = json!({"metadata": {"name": "other-ca"}, "data": {"ca.crt": stranger}});
    world.create(Kind::ConfigMap, ca).await;
    world.integration_with(INTEGRATION, json!({"caBundleRef": {"name": "other-ca"}})).await;
    world.device("truck-1").await;
    world.wait_integration(INTEGRATION, "EndpointUnreachable").await;

    let right = world.get(Kind::ConfigMap, "simulator-ca").await["data"].clone();
    world.patch(Kind::ConfigMap, "other-ca", json!({"data": right})).await;

    world.wait_ready("truck-1").await;
}

/// A CA that signed nothing here: that of another simulator.
async fn ca_of_a_stranger() -> String {
    let other = dps_simulator::Simulator::start(crate::world::simulator()).await.unwrap();
    other.ca_pem().to_owned()
}
