//! Secrets that are not ours are never changed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::objects::{data, is_ready, ready_reason, revision, uid};
use crate::world::requests::annotation;
use crate::world::{INTEGRATION, Kind, SCOPE, World, condition, manifests};

/// What a message tells a person to do has come into effect.
const WITHIN: Duration = Duration::from_secs(15);
const ADOPT: &str = "dps-operator.io/adopt";

/// Secrets that a user, another controller or another device left where ours should be.
async fn foreign_secrets(world: &World) -> Vec<(&'static str, Value)> {
    let owner = world.create(Kind::ConfigMap, json!({"metadata": {"name": "owner"}})).await;
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid(&owner), "controller": true,
    }]);
    let other_device = json!({
        "dps-operator.io/device": format!("{}/another-device", world.namespace),
        "dps-operator.io/registration": format!("{SCOPE}/another-device"),
    });
    let ours = json!({"app.kubernetes.io/managed-by": "dps-operator"});
    let secret = |name: &str, change: Value| {
        manifests::merged(manifests::secret(&format!("{name}-hub"), &[("note", "not yours")]), change)
    };
    vec![
        ("plain", secret("plain", json!({}))),
        ("owned", secret("owned", json!({"metadata": {"ownerReferences": owner}}))),
        ("typed", secret("typed", json!({"type": "example.com/other"}))),
        ("forged", secret("forged", json!({"metadata": {"labels": ours}}))),
        (
            "of-another-device",
            secret("of-another-device", json!({"metadata": {"labels": ours, "annotations": other_device}})),
        ),
        (
            "owned-and-adopt",
            secret(
                "owned-and-adopt",
                json!({"metadata": {"ownerReferences": owner, "annotations": {ADOPT: "true"}}}),
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_secret_of_the_same_name_is_never_changed_and_the_device_says_what_to_do() {
    let mut world = World::start().await;
    let mut before = Vec::new();
    for (name, manifest) in foreign_secrets(&world).await {
        before.push((name, world.create(Kind::Secret, manifest).await));
    }

    for (name, _) in &before {
        world.device(name).await;
    }

    for (name, secret) in &before {
        let device = world.wait_reason(name, "SecretConflict").await;
        assert!(!condition(&device, "Ready").unwrap().is_true());
        assert_eq!(condition(&device, "Stalled").unwrap().reason, "SecretConflict");
        assert_eq!(condition(&device, "SecretReady").unwrap().reason, "SecretConflict");
        assert!(condition(&device, "Ready").unwrap().message.contains("spec.secret.name"), "{name}");
        assert_eq!(revision(&world.get(Kind::Secret, &format!("{name}-hub")).await), revision(secret));
    }
    let registered = world.registers();

    // A restart looks again, and neither registers nor touches.
    world.restart_operator().await;
    world.device("witness").await;
    world.wait_ready("witness").await;
    for (name, secret) in &before {
        world.wait_reason(name, "SecretConflict").await;
        assert_eq!(
            revision(&world.get(Kind::Secret, &format!("{name}-hub")).await),
            revision(secret),
            "{name}"
        );
    }
    assert_eq!(world.registers(), registered + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_resolved_within_seconds_when_the_user_deletes_the_secret() {
    let world = World::start().await;
    world.create(Kind::Secret, manifests::secret("truck-1-hub", &[("note", "not yours")])).await;
    world.device("truck-1").await;
    world.wait_reason("truck-1", "SecretConflict").await;
    let before = world.mark().await;

    world.delete(Kind::Secret, "truck-1-hub").await;
    let started = Instant::now();

    let device = world.wait_ready("truck-1").await;
    assert!(started.elapsed() < WITHIN, "{:?}", started.elapsed());
    assert!(condition(&device, "Stalled").is_none());
    assert_eq!(world.secret("truck-1-hub").await["deviceId"], "truck-1");
    assert_eq!(world.ledger_since(before), [], "it had been registered before the conflict was seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_offered_after_the_conflict_is_adopted_within_seconds() {
    let world = World::start().await;
    world.create(Kind::Secret, manifests::secret("truck-1-hub", &[("note", "mine")])).await;
    world.device("truck-1").await;
    world.wait_reason("truck-1", "SecretConflict").await;

    world.patch(Kind::Secret, "truck-1-hub", annotation(ADOPT, &json!("true"))).await;
    let started = Instant::now();

    world.wait_ready("truck-1").await;
    assert!(started.elapsed() < WITHIN, "{:?}", started.elapsed());
    assert_eq!(world.secret("truck-1-hub").await["note"], "mine");
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_with_the_adopt_annotation_is_adopted_and_keeps_its_other_data() {
    let world = World::start().await;
    let adopt = annotation(ADOPT, &json!("true"));
    let manifest = manifests::secret("truck-1-hub", &[("note", "mine"), ("deviceId", "stale")]);
    let secret = world.create(Kind::Secret, manifests::merged(manifest, adopt)).await;

    let device = world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    let adopted = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(uid(&adopted), uid(&secret));
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], uid(&device));
    let values = data(&adopted);
    assert_eq!((values["note"].as_str(), values["deviceId"].as_str()), ("mine", "truck-1"));
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", &values["sharedAccessKey"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_cannot_adopt_the_key_secret_of_its_integration() {
    let world = World::start().await;
    let adopt = annotation(ADOPT, &json!("true"));
    let key = world.patch(Kind::Secret, "factory-key", adopt).await;

    world.device_with("truck-1", json!({"secret": {"name": "factory-key"}})).await;

    let device = world.wait_reason("truck-1", "SecretConflict").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("factory-key"));
    assert_eq!(revision(&world.get(Kind::Secret, "factory-key").await), revision(&key));
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_cannot_adopt_the_key_secret_of_another_integration() {
    let world = World::start().await;
    world.integration("mill").await;
    let adopt = annotation(ADOPT, &json!("true"));
    let key = world.patch(Kind::Secret, "mill-key", adopt).await;

    world.device_with("truck-1", json!({"secret": {"name": "mill-key"}})).await;

    let device = world.wait_reason("truck-1", "SecretConflict").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("mill-key"));
    assert_eq!(revision(&world.get(Kind::Secret, "mill-key").await), revision(&key));
    world.device_with("witness", json!({"integrationRef": {"name": "mill"}})).await;
    world.wait_ready("witness").await;
    assert_eq!(world.devices_asked(), ["witness"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_devices_that_name_one_secret_the_first_keeps_it() {
    let world = World::start().await;
    world.device_with("first", json!({"secret": {"name": "shared"}})).await;
    world.wait_ready("first").await;
    let secret = world.get(Kind::Secret, "shared").await;

    world.device_with("second", json!({"secret": {"name": "shared"}})).await;

    world.wait_reason("second", "SecretConflict").await;
    world.device("witness").await;
    world.wait_ready("witness").await;
    assert_eq!(revision(&world.get(Kind::Secret, "shared").await), revision(&secret));
    assert!(is_ready(&world.get(Kind::Device, "first").await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_devices_that_may_adopt_one_secret_one_does_and_the_other_reports_a_conflict() {
    let world = World::start().await;
    let adopt = annotation(ADOPT, &json!("true"));
    let secret = manifests::merged(manifests::secret("shared", &[("note", "mine")]), adopt);
    world.create(Kind::Secret, secret).await;
    let names = ["truck-1", "truck-2"];
    for name in names {
        world.device_with(name, json!({"secret": {"name": "shared", "deletionPolicy": "Retain"}})).await;
    }
    let is_decided = |device: &Value| ["Provisioned", "SecretConflict"].contains(&&*ready_reason(device));
    for name in names {
        world.wait(Kind::Device, name, "decided", is_decided).await;
    }
    let (before, adopted) = (world.mark().await, world.secret("shared").await);

    // A device that takes five seconds shows that nothing else happens in that time.
    world.dps.set_think_time(Duration::from_secs(5));
    world.device("witness").await;
    world.wait_ready("witness").await;

    let writes = world.writes_since(before).await;
    assert_eq!(writes.get("patch secrets"), None, "{writes:?}");
    assert_eq!(writes.get("create secrets"), Some(&1), "that of the witness: {writes:?}");
    // The other device looks again every few seconds, and counts its attempts at powers of two.
    assert!(writes["update provisioneddevices/status"] <= 2, "{writes:?}");
    assert_eq!(world.secret("shared").await, adopted);
    let [one, other] = [world.get(Kind::Device, names[0]).await, world.get(Kind::Device, names[1]).await];
    assert!(is_ready(&one) != is_ready(&other), "{} {}", ready_reason(&one), ready_reason(&other));
    let winner = if is_ready(&one) { &one } else { &other };
    assert_eq!(adopted["deviceId"], winner["metadata"]["name"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immutable_secret_is_a_conflict_only_when_its_content_must_change() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.patch(Kind::Secret, "truck-1-hub", json!({"immutable": true})).await;

    let labels = json!({"spec": {"secret": {"labels": {"tier": "edge"}}}});
    world.patch(Kind::Device, "truck-1", labels).await;
    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(secret["metadata"]["labels"]["tier"], "edge", "labels of an immutable Secret may change");

    let keys = json!({"spec": {"secret": {"keys": {"connectionString": "conn"}}}});
    world.patch(Kind::Device, "truck-1", keys).await;
    let device = world.wait_reason("truck-1", "SecretConflict").await;
    assert!(condition(&device, "Ready").unwrap().message.contains("immutable"));
    assert_eq!(data(&world.get(Kind::Secret, "truck-1-hub").await), data(&secret));

    world.delete(Kind::Secret, "truck-1-hub").await;
    let started = Instant::now();
    world.wait_ready("truck-1").await;
    assert!(started.elapsed() < WITHIN, "{:?}", started.elapsed());
    assert!(world.secret("truck-1-hub").await.contains_key("conn"));
    assert_eq!(world.registers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_written_for_another_registration_id_is_a_conflict() {
    let world = World::start().await;
    world.device_with("truck-1", json!({"secret": {"deletionPolicy": "Retain"}})).await;
    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    world.delete(Kind::Device, "truck-1").await;
    world.wait_gone(Kind::Device, "truck-1").await;

    // The same name, another registration id: the credentials that lie there are not its own.
    world.device_with("truck-1", json!({"registrationId": "sn-2"})).await;

    world.wait_reason("truck-1", "SecretConflict").await;
    assert_eq!(revision(&world.get(Kind::Secret, "truck-1-hub").await), revision(&secret));
    assert!(world.dps.registration(SCOPE, "sn-2").is_some());
    assert_eq!(world.get(Kind::Integration, INTEGRATION).await["status"]["acceptedIdScope"], SCOPE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_secret_from_which_others_take_a_mark_stays_its_devices() {
    let world = World::start().await;
    world.device_with("truck-1", json!({"secret": {"deletionPolicy": "Retain"}})).await;
    world.wait_ready("truck-1").await;
    let written = world.get(Kind::Secret, "truck-1-hub").await;
    let marks = |secret: &Value| json!([secret["metadata"]["labels"], secret["metadata"]["annotations"]]);

    for edit in [
        json!({"labels": {"app.kubernetes.io/managed-by": null}}),
        json!({"annotations": {"dps-operator.io/device": null}}),
        json!({"annotations": {"dps-operator.io/registration": "0ne1/truck-2"}}),
    ] {
        world.patch(Kind::Secret, "truck-1-hub", json!({"metadata": edit})).await;
        let restored = |secret: &Value| marks(secret) == marks(&written);
        world.wait(Kind::Secret, "truck-1-hub", &format!("as before {edit}"), restored).await;
        world.wait_ready("truck-1").await;
    }
    assert_eq!(world.registers(), 1);
}
