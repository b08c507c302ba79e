//! Who may write a status can make it say anything; what belongs there is written again.

use serde_json::{Value, json};

use crate::world::keys::fingerprint;
use crate::world::objects::{is_ready, text};
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, SCOPE, Setup, WRONG_KEY, World, manifests};

/// The API server takes it for a time.
const NO_TIME: &str = "2026-01-01T00:00:00+99:99";
/// How often the log says that the API server refuses the status.
const REFUSED: &str = "the API server refuses the status of an integration";

fn accepted(object: &Value) -> bool {
    object["status"]["acceptedIdScope"] == SCOPE
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_whose_accepted_id_scope_is_forged_recovers() {
    let world = World::accepted().await;
    world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    let before = world.mark().await;

    world
        .patch_status_of(Kind::Integration, INTEGRATION, json!({"status": {"acceptedIdScope": "0ne9"}}))
        .await;

    world.wait(Kind::Integration, INTEGRATION, "recovered", accepted).await;
    let forged = json!({"status": {"acceptedIdScope": "0ne9"}});
    world.patch_status_of(Kind::Integration, INTEGRATION, forged).await;
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"suspend": true}})).await;
    world.wait_integration(INTEGRATION, "Suspended").await;
    world.wait(Kind::Integration, INTEGRATION, "recovered", accepted).await;
    let moved = world.try_patch(Kind::Integration, INTEGRATION, json!({"spec": {"idScope": "0ne8"}})).await;
    assert!(moved.unwrap_err().to_string().contains("idScope is fixed"));
    assert_eq!(world.devices_asked_since(before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_cannot_be_read_is_written_anew_and_costs_no_call() {
    let world = World::accepted().await;
    let integration = world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    let device = world.get(Kind::Device, "first").await;
    let before = world.mark().await;
    let forged = |object: &Value| {
        let mut status = object["status"].clone();
        status["conditions"][0]["lastTransitionTime"] = json!(NO_TIME);
        json!({"status": status})
    };

    world.patch_status("first", forged(&device)).await;
    world.patch_status_of(Kind::Integration, INTEGRATION, forged(&integration)).await;

    let readable = |object: &Value| !object.to_string().contains(NO_TIME) && is_ready(object);
    let device = world.wait(Kind::Device, "first", "readable", readable).await;
    assert!(device["status"]["assignedHub"].is_string());
    world.wait(Kind::Integration, INTEGRATION, "readable", |i| readable(i) && accepted(i)).await;
    assert_eq!(world.devices_asked_since(before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_the_api_server_refuses_is_said_once_in_the_log() {
    let mut setup = Setup::own_control_plane(&[]);
    setup.log_level = "info";
    let mut world = World::without_operator(setup).await;
    // Those of 0.1.0 refuse every write to an integration whose accepted id scope is forged.
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/crds-0.1.0");
    world.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", older], "");
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;

    world
        .patch_status_of(Kind::Integration, INTEGRATION, json!({"status": {"acceptedIdScope": "0ne9"}}))
        .await;

    world.first_replica().wait_log(REFUSED).await;
    let log = world.operator_log();
    let line = log.lines().find(|line| line.contains(REFUSED)).unwrap();
    for said in [INTEGRATION, "spec.idScope", "dps-operator crds"] {
        assert!(line.contains(said), "{line}");
    }
    let tries = r#"dps_operator_api_requests_total{outcome="refused",resource="dpsintegrations/status",verb="update"}"#;
    let tried = async || world.first_replica().metric(tries).await >= Some(3.0);
    assert!(until_true(world.patience, POLL, tried).await);
    assert_eq!(world.operator_log().matches(REFUSED).count(), 1);
    let present = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    world.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", present], "");
    world.wait(Kind::Integration, INTEGRATION, "recovered", accepted).await;
}

/// A device of another namespace that is older, with all that a registration would have left of itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_status_and_a_planted_secret_take_no_registration_id_while_no_operator_runs() {
    let mut world = World::without_operator(Setup::default()).await;
    let home = world.namespace.clone();
    let tenant = world.add_namespace(json!({})).await;
    world.start_operator().await;
    let all = json!({"allowedNamespaces": {"from": "All", "registrationIdPrefixes": [""]}});
    world.integration_with(INTEGRATION, all).await;
    world.switch_to(&tenant);
    let refers = json!({"name": INTEGRATION, "namespace": home});
    let older = json!({"integrationRef": refers, "registrationId": "truck-1", "suspend": true});
    world.device_with("older", older).await;
    let older = world.wait_reason("older", "Suspended").await;
    let created: jiff::Timestamp = text(&older["metadata"]["creationTimestamp"]).parse().unwrap();
    let is_older = async || jiff::Timestamp::now().as_second() > created.as_second();
    assert!(until_true(world.patience, POLL, is_older).await);
    world.switch_to(&home);
    world.device("truck-1").await;
    let holder = world.wait_ready("truck-1").await;
    world.stop_operator().await;

    world.switch_to(&tenant);
    let marks = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "dps-operator"},
        "annotations": {
            "dps-operator.io/device": format!("{tenant}/older"),
            "dps-operator.io/registration": format!("{SCOPE}/truck-1"),
        },
    }});
    let planted = manifests::merged(manifests::secret("older-hub", &[("deviceId", "truck-1")]), marks);
    world.create(Kind::Secret, planted).await;
    let status = &holder["status"];
    let lie = ["assignedHub", "deviceId", "idScope", "registrationId", "credential", "registeredHash"];
    let lie: Value = lie.into_iter().map(|field| (field, status[field].clone())).collect();
    world.patch_status("older", json!({"status": lie})).await;
    world.patch(Kind::Device, "older", json!({"spec": {"suspend": false}})).await;
    world.switch_to(&home);
    world.start_operator().await;

    world.switch_to(&tenant);
    world.wait_reason("older", "DuplicateRegistrationId").await;
    let planted = world.secret("older-hub").await;
    assert!(!planted.contains_key("connectionString"), "nothing is published in it");
    world.switch_to(&home);
    world.device("witness").await;
    world.wait_ready("witness").await;
    assert!(is_ready(&world.get(Kind::Device, "truck-1").await));
    assert_eq!(world.registers(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_a_forged_status_tells_of_holds_up_no_other_integration() {
    let mut world = World::without_operator(Setup::default()).await;
    let home = world.namespace.clone();
    let tenant = world.add_namespace(json!({})).await;
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.switch_to(&tenant);
    world.publish_ca().await;
    let rogue = world.integration_without_key("rogue", json!({"suspend": true})).await;
    world.wait_integration("rogue", "KeySecretNotFound").await;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let credentials = json!({
        "primary": {"fingerprint": fingerprint(WRONG_KEY)}, "inUse": "Primary", "working": "Primary",
    });
    let lie = json!({
        "observedGeneration": rogue["metadata"]["generation"], "acceptedIdScope": SCOPE,
        "throttledUntil": until.to_string(), "credentials": credentials,
    });
    world.patch_status_of(Kind::Integration, "rogue", json!({"status": lie})).await;
    world.group_key("rogue-key", WRONG_KEY).await;
    world.wait_integration("rogue", "Suspended").await;
    world.switch_to(&home);

    world.device("second").await;

    world.wait_ready("second").await;
    assert!(world.get(Kind::Integration, INTEGRATION).await["status"]["throttledUntil"].is_null());
}
