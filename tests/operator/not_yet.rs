//! What this version cannot do yet is refused with words, not ignored.

use serde_json::{Value, json};

use crate::world::{INTEGRATION, Kind, World, condition, manifests};

const TOKEN: &str = "dps-operator.io/reprovision-requested-at";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_device_that_are_not_supported_yet_are_refused_by_name() {
    let world = World::start().await;
    let settings = [
        ("lookup-first", "spec.registration.onCreate", json!({"registration": {"onCreate": "LookupFirst"}})),
        (
            "periodic",
            "spec.reprovision.policy",
            json!({"reprovision": {"policy": "Periodic", "interval": "24h"}}),
        ),
        ("never", "spec.reprovision.policy", json!({"reprovision": {"policy": "Never"}})),
        ("drift", "spec.driftCheck.interval", json!({"driftCheck": {"interval": "24h"}})),
        ("formats", "spec.secret.formats", json!({"secret": {"formats": [{"type": "Env"}]}})),
    ];
    for (name, _, spec) in &settings {
        world.device_with(name, spec.clone()).await;
    }
    let mut asked = manifests::device("asked", json!({}));
    asked["metadata"]["annotations"] = json!({TOKEN: "now"});
    world.create(Kind::Device, asked).await;

    let expected = settings.iter().map(|(name, field, _)| (*name, *field)).chain([("asked", TOKEN)]);
    for (name, field) in expected {
        let device = world.wait_reason(name, "InvalidConfiguration").await;
        assert_eq!(condition(&device, "Stalled").unwrap().reason, "InvalidConfiguration", "{name}");
        let message = condition(&device, "Ready").unwrap().message;
        assert!(
            message.contains(field) && message.contains("not supported by this version yet")
                || message.contains("only OnChange is supported"),
            "{name}: {message}"
        );
    }
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_only_repeat_the_defaults_are_accepted() {
    let world = World::start().await;

    let spec = json!({
        "registration": {"onCreate": "Register"},
        "reprovision": {"policy": "OnChange"},
        "driftCheck": {"interval": "0s"},
        "secret": {"formats": [], "deletionPolicy": "Delete", "labels": {}, "annotations": {}},
    });
    world.device_with("truck-1", spec).await;

    world.wait_ready("truck-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renaming_a_written_secret_is_refused_and_the_device_keeps_it() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;

    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"name": "renamed"}}})).await;

    let device = world.wait_reason("truck-1", "InvalidConfiguration").await;
    let ready = condition(&device, "Ready").unwrap();
    assert!(ready.is_true() && ready.message.contains("spec.secret.name"), "{}", ready.message);
    assert!(world.find(Kind::Secret, "renamed").await.is_none());
    assert!(world.find(Kind::Secret, "truck-1-hub").await.is_some());

    world.patch(Kind::Device, "truck-1", json!({"spec": {"secret": {"name": "truck-1-hub"}}})).await;
    world.wait_reason("truck-1", "Provisioned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_an_integration_that_are_not_supported_yet_are_refused_by_name() {
    let world = World::empty().await;
    let consent = json!({"from": "All", "registrationIdPrefixes": [""]});
    let settings = [
        ("consent", "spec.allowedNamespaces", json!({"allowedNamespaces": consent})),
        ("payload", "spec.deviceDefaults", json!({"deviceDefaults": {"payload": {"site": "x"}}})),
        ("labels", "spec.deviceDefaults", json!({"deviceDefaults": {"secret": {"labels": {"a": "b"}}}})),
        ("drift", "spec.deviceDefaults", json!({"deviceDefaults": {"driftCheck": {"interval": "24h"}}})),
    ];
    for (name, _, spec) in &settings {
        world.integration_with(name, spec.clone()).await;
        let of = json!({"integrationRef": {"name": name}});
        world.device_with(&format!("of-{name}"), of).await;
    }

    for (name, field, _) in &settings {
        let integration = world.wait_integration(name, "InvalidConfiguration").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "InvalidConfiguration", "{name}");
        assert!(condition(&integration, "Ready").unwrap().message.contains(field), "{name}");
    }
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_names_another_namespace_is_refused() {
    let world = World::start().await;

    let elsewhere = json!({"integrationRef": {"name": INTEGRATION, "namespace": "default"}});
    world.device_with("truck-1", elsewhere).await;
    let own = json!({"integrationRef": {"name": INTEGRATION, "namespace": world.namespace}});
    world.device_with("truck-2", own).await;

    world.wait_ready("truck-2").await;
    let device = world.wait_reason("truck-1", "ReferenceNotAllowed").await;
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "ReferenceNotAllowed");
    assert!(
        !condition(&device, "Ready").unwrap().message.contains("default"),
        "no names of other namespaces"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_dps_would_refuse_for_its_size_is_refused_before() {
    let world = World::start().await;
    let of_size = |size: usize| -> Value { json!({"payload": {"text": "x".repeat(size)}}) };

    world.device_with("large", of_size(66_000)).await;
    world.device_with("fits", of_size(65_000)).await;

    world.wait_ready("fits").await;
    let device = world.wait_reason("large", "InvalidConfiguration").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("64 KiB"));
    assert!(world.ledger().iter().all(|entry| entry.registration_id.as_deref() == Some("fits")));
}
