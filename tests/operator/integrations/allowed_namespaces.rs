//! Which devices may refer to an integration: by their namespace and by their registration id.

use serde_json::{Value, json};

use crate::world::{INTEGRATION, Kind, Setup, World, condition};

/// A world with two namespaces: that of the integration, and a tenant's with label `tenant`.
struct Tenancy {
    world: World,
    home: String,
    tenant: String,
}

async fn tenancy() -> Tenancy {
    let mut world = World::without_operator(Setup::default()).await;
    let home = world.namespace.clone();
    let tenant = world.add_namespace(json!({"tenant": "a"})).await;
    world.start_operator().await;
    Tenancy { world, home, tenant }
}

fn reference(home: &str) -> Value {
    json!({"integrationRef": {"name": INTEGRATION, "namespace": home}})
}

fn admit(allowed: &Value) -> Value {
    json!({"spec": {"allowedNamespaces": allowed}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_another_namespace_needs_an_allowed_namespace_and_an_allowed_registration_id() {
    let Tenancy { mut world, home, tenant } = tenancy().await;
    let labels = json!({"secret": {"labels": {"line": "nord"}, "formats": [{"type": "Env"}]}});
    world.integration_with(INTEGRATION, json!({"deviceDefaults": labels})).await;
    world.switch_to(&tenant);
    let mut spec = reference(&home);
    spec["registrationId"] = json!(format!("{tenant}.truck"));
    world.device_with("truck", spec).await;
    world.device_with("other", reference(&home)).await;

    let refused = world.wait_reason("truck", "ReferenceNotAllowed").await;
    assert_eq!(condition(&refused, "Stalled").unwrap().reason, "ReferenceNotAllowed");
    let message = condition(&refused, "Ready").unwrap().message;
    assert!(message.contains("does not exist, or does not admit"), "it does not tell which: {message}");
    assert_eq!(world.ledger(), []);

    world.switch_to(&home);
    let allowed = json!({"from": "All", "registrationIdPrefixes": ["{namespace}."]});
    world.patch(Kind::Integration, INTEGRATION, admit(&allowed)).await;
    world.switch_to(&tenant);
    world.wait_ready("truck").await;
    world.wait_reason("other", "ReferenceNotAllowed").await;
    let secret = world.get(Kind::Secret, "truck-hub").await;
    assert_eq!(
        secret["metadata"]["labels"]["line"],
        Value::Null,
        "labels stay in the integration's namespace"
    );
    assert!(secret["data"]["IOTHUB_DEVICE_KEY"].is_string(), "formats do not");

    world.switch_to(&home);
    // The other one is not admitted, and counts for nothing here.
    let counted = |devices: &Value| devices["total"] == 1 && devices["ready"] == 1;
    world.wait_counters(INTEGRATION, counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_no_longer_allowed_keeps_its_secrets_and_causes_no_more_calls() {
    let Tenancy { mut world, home, tenant } = tenancy().await;
    let allowed = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": allowed})).await;
    world.switch_to(&tenant);
    world.device_with("truck", reference(&home)).await;
    world.wait_ready("truck").await;
    let before = world.get(Kind::Secret, "truck-hub").await;
    let calls = world.ledger().len();

    world.switch_to(&home);
    world.patch(Kind::Integration, INTEGRATION, admit(&json!({"from": "Same"}))).await;
    world.switch_to(&tenant);

    let device = world.wait_reason("truck", "ReferenceNotAllowed").await;
    assert!(condition(&device, "Ready").unwrap().is_true());
    assert_eq!(condition(&device, "Registered").unwrap().status, "False");
    world.patch(Kind::Device, "truck", json!({"spec": {"payload": {"site": "b"}}})).await;
    world.wait_reason("truck", "ReferenceNotAllowed").await;
    assert_eq!(world.get(Kind::Secret, "truck-hub").await, before);
    assert_eq!(world.ledger().len(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_allowed_by_their_labels() {
    let Tenancy { mut world, home, tenant } = tenancy().await;
    let allowed = json!({
        "from": "Selector", "selector": {"matchLabels": {"tenant": "a"}}, "registrationIdPrefixes": [""],
    });
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": allowed})).await;
    world.switch_to(&tenant);
    world.device_with("truck", reference(&home)).await;
    world.wait_ready("truck").await;

    world.switch_to(&home);
    let other = json!({"selector": {"matchLabels": {"tenant": "b"}}});
    world.patch(Kind::Integration, INTEGRATION, admit(&other)).await;
    world.switch_to(&tenant);
    world.wait_reason("truck", "ReferenceNotAllowed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_allowed_when_it_gets_the_label_and_refused_when_it_loses_it() {
    let mut world = World::with(Setup::cluster_wide()).await;
    let home = world.namespace.clone();
    let allowed = json!({
        "from": "Selector", "selector": {"matchLabels": {"tenant": "a"}}, "registrationIdPrefixes": [""],
    });
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": allowed})).await;
    let tenant = world.add_namespace(json!({})).await;
    world.switch_to(&tenant);
    world.device_with("truck", reference(&home)).await;
    world.wait_reason("truck", "ReferenceNotAllowed").await;
    assert_eq!(world.ledger(), []);

    let label = |value: Value| json!({"metadata": {"labels": {"tenant": value}}});
    world.patch(Kind::Namespace, &tenant, label(json!("a"))).await;
    world.wait_ready("truck").await;

    world.patch(Kind::Namespace, &tenant, label(Value::Null)).await;
    let device = world.wait_reason("truck", "ReferenceNotAllowed").await;
    assert!(condition(&device, "Ready").unwrap().is_true(), "the Secret is as good as it was");
    assert!(world.hub_accepts("truck", "truck-hub").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_ids_without_an_allowed_prefix_are_refused() {
    let world = World::empty().await;
    let prefixes = json!({"registrationIdPrefixes": ["truck-", "{namespace}."]});
    world.integration_with(INTEGRATION, prefixes).await;

    world.device("truck-1").await;
    world.device("car-1").await;
    let own = format!("{}.1", world.namespace);
    world.device(&own).await;

    world.wait_ready("truck-1").await;
    world.wait_ready(&own).await;
    let refused = world.wait_reason("car-1", "ReferenceNotAllowed").await;
    assert_eq!(condition(&refused, "Stalled").unwrap().reason, "ReferenceNotAllowed");
    assert_eq!(world.devices_asked(), ["truck-1", &own]);
}
