//! A device is declared and gets its hub and its credentials.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::objects::{data, uid};
use crate::world::{self, HUBS, INTEGRATION, Kind, SCOPE, World, condition};

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
async fn the_status_shows_what_dps_assigned_and_which_key_was_used() {
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
async fn a_ready_device_has_three_conditions_and_all_of_them_are_true() {
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
async fn the_secret_has_owner_labels_and_annotations_that_say_where_it_came_from() {
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
async fn twenty_new_devices_cost_one_secret_and_one_status_write_each_and_no_read() {
    let world = World::start().await;
    world.wait_integration(INTEGRATION, "Available").await;
    let before = world.mark().await;

    world.devices("truck", 20).await;

    world.wait_all_ready(20).await;
    // The counters are written last and some time later: every other write is in the log by then.
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 20).await;
    let mut writes = world.writes_since(before).await;
    let of_the_integration = writes.remove("update dpsintegrations/status").unwrap_or(0);
    assert!((1..=4).contains(&of_the_integration), "{of_the_integration}");
    let expected = [("create secrets".to_owned(), 20), ("update provisioneddevices/status".to_owned(), 20)];
    assert_eq!(writes, expected.into());
    let events = world.list(Kind::Event).await;
    assert!(events.len() <= 10, "{} events", events.len());
    assert_eq!(world.gets_since(before).await, 0);
    assert_eq!(world.registers(), 20);
}
