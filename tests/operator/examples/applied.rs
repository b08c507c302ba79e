//! Examples that are applied as they are.

use std::collections::BTreeSet;

use dps_simulator::{
    AllocationPolicy, CertificateAuthority, EnrollmentGroup, OperationKind, Webhook, WebhookAnswer,
    WebhookRule,
};
use serde_json::{Map, Value, json};

use super::example::{Example, GDANSK, WARSAW};
use crate::world::certificates;
use crate::world::manifests::merged;
use crate::world::objects::{data, is_observed, is_ready, text};
use crate::world::{Kind, Setup, World};

/// A Secret that a Pod refers to, all of it or one key.
struct Reference<'a> {
    secret: &'a str,
    key: Option<&'a str>,
}

fn references(value: &Value) -> Vec<Reference<'_>> {
    let of = |secret| Reference { secret: text(secret), key: None };
    let mut found = Vec::new();
    for (key, inner) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "secretRef" => found.push(of(&inner["name"])),
            "secretKeyRef" => found.push(Reference { key: inner["key"].as_str(), ..of(&inner["name"]) }),
            "secret" if inner["secretName"].is_string() => found.push(of(&inner["secretName"])),
            _ => {}
        }
    }
    let fields = value.as_object().into_iter().flat_map(Map::values);
    let inner = fields.chain(value.as_array().into_iter().flatten());
    found.extend(inner.flat_map(references));
    found
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
async fn the_individual_enrollments_example_gives_each_device_its_own_key_and_device_id() {
    let example = Example::read("individual-enrollments");
    let world = example.world().await;
    let scope = text(&example.named("DpsIntegration", "gates")["spec"]["idScope"]).to_owned();
    let keys = |device: &str| {
        let secret = example.named("Secret", &format!("{device}-dps"));
        ["primaryKey", "secondaryKey"].map(|key| text(&secret["stringData"][key]).to_owned())
    };
    for device in ["gate-01", "gate-02"] {
        let [primary, secondary] = keys(device);
        world.dps.set_device_keys(&scope, device, &primary, &secondary).unwrap();
    }
    world.dps.set_device_id(&scope, "gate-02", Some("North-Gate")).unwrap();

    let secrets = example.works_in(&world).await;

    for (device, id) in [("gate-01", "gate-01"), ("gate-02", "North-Gate")] {
        let data = &secrets[&format!("{device}-hub")];
        assert_eq!((&data["sharedAccessKey"], data["deviceId"].as_str()), (&keys(device)[0], id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificates_example_gives_each_device_the_certificate_that_was_issued_for_it() {
    let example = Example::read("certificates");
    let asked_for = Example::read("certificates/cert-manager");
    let root = certificates::root("fleet-ca");
    let mut simulator = example.simulator();
    let scope = &mut simulator.id_scopes[0];
    let of_root = certificates::certificate(&root.pem);
    scope.enrollment_groups.push(EnrollmentGroup::x509("lorries", of_root.clone()));
    scope.certificate_authorities.push(CertificateAuthority {
        name: "fleet-ca".to_owned(),
        certificate: of_root,
        verified: true,
    });
    let world = World::with(Setup { simulator, ..Setup::default() }).await;
    for asked in asked_for.of_kind("Certificate") {
        let device = certificates::device(&root, text(&asked["spec"]["commonName"]));
        world.issue_into(text(&asked["spec"]["secretName"]), &device, &[]).await;
    }

    let secrets = example.works_in(&world).await;

    let config: toml::Value = toml::from_str(&secrets["lorry-02-hub"]["config.toml"]).unwrap();
    let provisioning = &config["provisioning"];
    assert_eq!(provisioning["device_id"].as_str(), Some("lorry-02"));
    let file = provisioning["authentication"]["identity_cert"].as_str();
    assert_eq!(file, Some("file:///etc/lorry/tls.crt"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_custom_allocation_example_sends_payloads_and_receives_returned_ones() {
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
async fn the_edge_gateway_example_writes_the_gateways_file_and_its_name_for_the_devices_behind_it() {
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
    world.request_registration(Kind::Device, "roller-01", "first").await;
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
    let registered = world.registers();
    world.stop_operator().await;
    for device in example.of_kind("ProvisionedDevice") {
        world.delete(Kind::Device, text(&device["metadata"]["name"])).await;
    }
    for secret in before.keys() {
        world.wait_gone(Kind::Secret, secret).await;
    }
    world.delete(Kind::Integration, "harbour").await;
    let looked_up = world.calls(OperationKind::Lookup).total();
    world.start_operator().await;

    let after = example.works_in(&world).await;

    assert_eq!(after, before);
    assert_eq!(world.registers(), registered);
    assert!(world.calls(OperationKind::Lookup).total() >= looked_up + before.len());
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
    let used: BTreeSet<&str> = references.iter().map(|reference| reference.secret).collect();
    assert_eq!(used, secrets.keys().map(String::as_str).collect(), "each Secret is used by a workload");
    for Reference { secret, key } in references {
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
    let (home, tenant) = (world.namespace.clone(), world.add_namespace(json!({})).await);
    world.start_operator().await;
    let example = example.renamed("iot-platform", &home).renamed("tenant-a", &tenant);

    example.apply_where_it_says(&world);

    world.switch_to(&tenant);
    example.keeps_its_promises(&world).await;
}
