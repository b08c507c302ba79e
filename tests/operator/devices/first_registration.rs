//! A device is declared and gets its hub and its credentials.

use std::collections::BTreeSet;

use dps_simulator::{AllocationPolicy, Webhook, WebhookRule};
use serde_json::{Value, json};

use crate::world::objects::{data, uid};
use crate::world::{self, HUBS, INTEGRATION, Kind, SCOPE, Setup, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_its_hub_and_a_secret_that_the_hub_accepts() {
    let world = World::start().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let hub = device["status"]["assignedHub"].as_str().unwrap();
    let secret = world.secret("truck-1-hub").await;
    let key = &secret["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", key));
    assert_eq!(secret["connectionString"], format!("HostName={hub};DeviceId=truck-1;SharedAccessKey={key}"));
    assert_eq!(secret["iotHubHostname"], hub);
    assert_eq!(secret["deviceId"], "truck-1");
    assert_eq!(secret["registrationId"], "truck-1");
    assert_eq!(secret["idScope"], SCOPE);
    assert_eq!(secret.len(), 6, "{:?}", secret.keys());
    world.assert_only_device_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_tells_what_dps_assigned_and_which_key_was_used() {
    let world = World::start().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let status = &device["status"];
    let record = world.dps.registration(SCOPE, "truck-1").unwrap();
    assert_eq!(status["assignedHub"].as_str(), record.assigned_hub.as_deref());
    assert!(HUBS.contains(&status["assignedHub"].as_str().unwrap()));
    assert_eq!(status["registrationId"], "truck-1");
    assert_eq!(status["deviceId"], "truck-1");
    assert_eq!(status["idScope"], SCOPE);
    assert_eq!(status["enrollmentGroupId"], world::GROUP);
    assert_eq!(status["assignment"]["status"], "assigned");
    assert_eq!(status["assignment"]["substatus"], "initialAssignment");
    assert_eq!(status["credential"]["type"], "SymmetricKey");
    assert_eq!(status["credential"]["slot"], "Primary");
    assert_eq!(status["credential"]["fingerprint"].as_str().unwrap().len(), 16);
    assert!(status["registeredHash"].as_str().unwrap().starts_with("v1:"));
    assert!(status["lastRegistrationTime"].is_string());
    assert!(status["lastError"].is_null() && status["attempts"].is_null());
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert_eq!(status["secret"]["name"], "truck-1-hub");
    assert_eq!(status["secret"]["resourceVersion"], secret["metadata"]["resourceVersion"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ready_device_has_three_true_conditions_and_nothing_in_progress() {
    let world = World::start().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let reasons = [("Ready", "Provisioned"), ("Registered", "Registered"), ("SecretReady", "Written")];
    for (kind, reason) in reasons {
        let found = condition(&device, kind).unwrap();
        assert_eq!((found.status.as_str(), found.reason.as_str()), ("True", reason), "{kind}");
        assert!(!found.message.is_empty(), "{kind}");
    }
    let conditions = device["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 3, "{conditions:?}");
    assert!(conditions.iter().all(|c| c["observedGeneration"] == device["metadata"]["generation"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_owned_labelled_and_tells_where_it_came_from() {
    let world = World::start().await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    let owner = json!([{
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "name": "truck-1",
        "uid": uid(&device), "controller": true, "blockOwnerDeletion": false,
    }]);
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(secret["metadata"]["ownerReferences"], owner);
    let labels = json!({
        "app.kubernetes.io/managed-by": "dps-operator",
        "dps-operator.io/device": "truck-1",
        "dps-operator.io/integration": INTEGRATION,
    });
    assert_eq!(secret["metadata"]["labels"], labels);
    let annotations = &secret["metadata"]["annotations"];
    assert_eq!(annotations["dps-operator.io/device"], format!("{}/truck-1", world.namespace));
    assert_eq!(annotations["dps-operator.io/integration"], format!("{}/factory", world.namespace));
    assert_eq!(annotations["dps-operator.io/registration"], format!("{SCOPE}/truck-1"));
    assert_eq!(annotations["dps-operator.io/registered-hash"], device["status"]["registeredHash"]);
    assert_eq!(annotations["dps-operator.io/rendered-hash"], device["status"]["secret"]["renderedHash"]);
    let fingerprint = &device["status"]["credential"]["fingerprint"];
    assert_eq!(annotations["dps-operator.io/credential-fingerprint"], *fingerprint);
    let managed: BTreeSet<_> =
        annotations["dps-operator.io/managed-keys"].as_str().unwrap().split(',').map(str::to_owned).collect();
    assert_eq!(managed, data(&secret).into_keys().collect());
    let assignment = annotations["dps-operator.io/assignment"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(assignment).unwrap().is_object(), "{assignment}");
    let field_manager = &secret["metadata"]["managedFields"][0]["manager"];
    assert_eq!(*field_manager, "dps-operator");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_reaches_custom_allocation_and_what_it_returns_lands_in_the_secret() {
    let mut setup = Setup::default();
    let answer = json!({"topic": "warsaw/eu", "interval": 30});
    let rule =
        WebhookRule { value: json!("warsaw"), hub: HUBS[1].to_owned(), payload: answer.as_object().cloned() };
    let group = &mut setup.simulator.id_scopes[0].enrollment_groups[0];
    group.allocation_policy = AllocationPolicy::Custom;
    group.webhook = Some(Webhook { field: "site".to_owned(), rules: vec![rule], otherwise: None });
    let world = World::with(setup).await;
    world.integration(INTEGRATION).await;

    world.device_with("truck-1", json!({"payload": {"site": "warsaw", "line": 3}})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["assignedHub"], HUBS[1]);
    let returned = &world.secret("truck-1-hub").await["returnedPayload"];
    assert_eq!(serde_json::from_str::<Value>(returned).unwrap(), answer);
    assert!(device["status"]["returnedPayloadHash"].is_string());
    assert!(!device["status"].to_string().contains("warsaw"), "the payload itself is not in the status");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_new_devices_cost_one_secret_and_one_status_write_each_and_no_read() {
    let world = World::start().await;
    world.wait_integration(INTEGRATION, "Available").await;
    let before = world.mark().await;

    world.devices("truck", 20).await;

    world.wait_all_ready(20).await;
    // The counters are written last of all and some time later: whatever else there was is in the log by then.
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 20).await;
    let mut writes = world.writes_since(before).await;
    let of_the_integration = writes.remove("update dpsintegrations/status").unwrap_or(0);
    assert!((1..=4).contains(&of_the_integration), "{of_the_integration}");
    let expected = [("create secrets".to_owned(), 20), ("update provisioneddevices/status".to_owned(), 20)];
    assert_eq!(writes, expected.into());
    assert_eq!(world.gets_since(before).await, 0);
    assert_eq!(world.registers(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_behind_a_gateway_gets_its_name_in_the_connection_string() {
    let world = World::start().await;

    world.device_with("leaf-1", json!({"secret": {"gatewayHostname": "gw.local"}})).await;

    world.wait_ready("leaf-1").await;
    let secret = world.secret("leaf-1-hub").await;
    assert!(secret["connectionString"].ends_with(";GatewayHostName=gw.local"), "the gateway comes last");
    assert!(!secret["iotHubHostname"].contains("gw.local"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_secret_can_be_renamed_and_left_out() {
    let world = World::start().await;

    let keys = json!({"connectionString": "conn", "idScope": "", "registrationId": ""});
    world.device_with("truck-1", json!({"secret": {"keys": keys}})).await;

    world.wait_ready("truck-1").await;
    let secret = world.secret("truck-1-hub").await;
    let names: Vec<&str> = secret.keys().map(String::as_str).collect();
    assert_eq!(names, ["conn", "deviceId", "iotHubHostname", "sharedAccessKey"]);
    assert!(secret["conn"].starts_with("HostName="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_labels_and_annotations_of_the_secret_can_be_chosen() {
    let world = World::start().await;

    let secret = json!({
        "name": "warsaw-credentials",
        "labels": {"tier": "edge", "app.kubernetes.io/part-of": "fleet"},
        "annotations": {"example.com/owner": "ops"},
    });
    world.device_with("truck-1", json!({"secret": secret})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["secret"]["name"], "warsaw-credentials");
    let secret = world.get(Kind::Secret, "warsaw-credentials").await;
    assert_eq!(secret["metadata"]["labels"]["tier"], "edge");
    assert_eq!(secret["metadata"]["labels"]["app.kubernetes.io/part-of"], "fleet");
    assert_eq!(secret["metadata"]["annotations"]["example.com/owner"], "ops");
    assert_eq!(world.generated_secrets().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_annotations_of_the_device_are_not_copied() {
    let world = World::start().await;

    let mut manifest = world::manifests::device("truck-1", json!({}));
    manifest["metadata"]["labels"] = json!({"team": "logistics"});
    manifest["metadata"]["annotations"] = json!({"example.com/note": "hello"});
    world.create(Kind::Device, manifest).await;

    world.wait_ready("truck-1").await;
    let secret = world.get(Kind::Secret, "truck-1-hub").await;
    assert!(secret["metadata"]["labels"]["team"].is_null());
    assert!(secret["metadata"]["annotations"]["example.com/note"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_id_of_its_own_is_what_dps_gets() {
    let world = World::start().await;

    world.device_with("truck-1", json!({"registrationId": "sn-007:a.b_c"})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["registrationId"], "sn-007:a.b_c");
    assert!(world.ledger().iter().all(|entry| entry.registration_id.as_deref() == Some("sn-007:a.b_c")));
    let secret = world.secret("truck-1-hub").await;
    assert!(world.dps.accepts_device_key(SCOPE, "sn-007:a.b_c", &secret["sharedAccessKey"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_names_and_ids_work() {
    let world = World::start().await;
    let (name, id) = ("n".repeat(249), "i".repeat(128));

    world.device_with(&name, json!({"registrationId": id})).await;

    world.wait_ready(&name).await;
    let secret = world.get(Kind::Secret, &format!("{name}-hub")).await;
    assert!(secret["metadata"]["labels"]["dps-operator.io/device"].is_null(), "it does not fit a label");
    assert!(world.dps.accepts_device_key(SCOPE, &id, &data(&secret)["sharedAccessKey"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_payload_registers_once_more_and_an_equal_one_does_not() {
    let world = World::start().await;
    world.device_with("truck-1", json!({"payload": {"site": "warsaw", "line": 1}})).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers(), 1);

    let moved = json!({"spec": {"payload": {"site": "gdansk"}}});
    world.patch(Kind::Device, "truck-1", moved).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.registers(), 2);

    let labelled = json!({"spec": {"secret": {"labels": {"tier": "edge"}}}});
    world.patch(Kind::Device, "truck-1", labelled).await;
    world.wait_ready("truck-1").await;
    assert_eq!(world.get(Kind::Secret, "truck-1-hub").await["metadata"]["labels"]["tier"], "edge");
    assert_eq!(world.registers(), 2);
}
