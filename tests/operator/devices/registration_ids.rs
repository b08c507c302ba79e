//! A registration id is chosen once, and belongs to one device of an id scope.

use serde_json::{Value, json};

use crate::world::objects::{data, is_pending, is_ready};
use crate::world::{INTEGRATION, Kind, OTHER_SCOPE, SCOPE, Setup, World, condition};

const ID: &str = "sn-1";

fn of(integration: &str, id: &str) -> Value {
    json!({"integrationRef": {"name": integration}, "registrationId": id})
}

/// Device `a` of integration `press` has the id, and device `b` of integration `mill` asks for it.
async fn two_claimants() -> World {
    let world = World::empty().await;
    for (integration, device, id) in [("press", "a", ID), ("mill", "scout", "sn-2")] {
        world.integration(integration).await;
        world.device_with(device, of(integration, id)).await;
        world.wait_ready(device).await;
        let accepted = |object: &Value| object["status"]["acceptedIdScope"] == SCOPE;
        world.wait(Kind::Integration, integration, "accepted", accepted).await;
    }
    world.device_with("b", of("mill", ID)).await;
    world.wait_reason("b", "DuplicateRegistrationId").await;
    assert_eq!(world.registers_of(ID), 1);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_id_stays_taken_while_the_key_of_its_integration_is_missing() {
    let world = two_claimants().await;
    world.delete(Kind::Secret, "press-key").await;
    world.wait_integration("press", "KeySecretNotFound").await;

    let touched =
        json!({"metadata": {"labels": {"touched": "yes"}}, "spec": {"payload": {"site": "gdansk"}}});
    world.patch(Kind::Device, "b", touched).await;

    world.wait_reason("b", "DuplicateRegistrationId").await;
    // Its integration works: another device of it comes and goes through.
    world.device_with("witness", of("mill", "sn-3")).await;
    world.wait_ready("witness").await;
    world.wait_reason("b", "DuplicateRegistrationId").await;
    assert_eq!(world.registers_of(ID), 1);
    assert!(is_ready(&world.get(Kind::Device, "a").await));
    assert!(world.find(Kind::Secret, "b-hub").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_id_is_free_once_the_integration_of_its_device_is_deleted() {
    let world = two_claimants().await;

    world.delete(Kind::Integration, "press").await;

    world.wait_ready("b").await;
    assert_eq!(world.registers_of(ID), 2);
    assert!(world.hub_accepts(ID, "b-hub").await);
    assert!(world.find(Kind::Secret, "a-hub").await.is_some(), "the Secret of the other device stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_a_registration_id_is_registered_by_it() {
    let world = World::start().await;

    world.device_with("truck-1", json!({"registrationId": "sn-007:a.b_c"})).await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["registrationId"], "sn-007:a.b_c");
    assert_eq!(world.devices_asked(), ["sn-007:a.b_c"]);
    assert!(world.hub_accepts("sn-007:a.b_c", "truck-1-hub").await);
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
async fn the_registration_id_cannot_be_changed_or_set_later() {
    let world = World::empty().await;
    world.device("plain").await;
    world.device_with("named", json!({"registrationId": "sn-1"})).await;

    for (device, id) in [("plain", json!("sn-2")), ("named", json!("sn-2")), ("named", Value::Null)] {
        let refusal = world.try_patch(Kind::Device, device, json!({"spec": {"registrationId": id}})).await;

        let message = refusal.unwrap_err().to_string();
        assert!(message.contains("the registration id is immutable"), "{device}: {message}");
    }
    let equal = json!({"spec": {"registrationId": "plain"}});
    world.try_patch(Kind::Device, "plain", equal).await.expect("setting what it is anyway is allowed");
    assert!(is_pending(&world.get(Kind::Device, "named").await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_devices_with_one_registration_id_the_registered_one_keeps_it_until_it_is_deleted() {
    let world = World::start().await;
    world.device_with("winner", json!({"registrationId": "sn-1"})).await;
    world.wait_ready("winner").await;

    world.device_with("loser", json!({"registrationId": "sn-1"})).await;

    let loser = world.wait_reason("loser", "DuplicateRegistrationId").await;
    assert_eq!(condition(&loser, "Stalled").unwrap().reason, "DuplicateRegistrationId");
    assert!(world.find(Kind::Secret, "loser-hub").await.is_none());
    assert_eq!(world.registers(), 1);
    assert!(is_ready(&world.get(Kind::Device, "winner").await));

    world.delete(Kind::Device, "winner").await;

    world.wait_ready("loser").await;
    assert!(world.hub_accepts("sn-1", "loser-hub").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_new_devices_with_one_registration_id_the_older_gets_it() {
    let mut world = World::start().await;
    // Only what DPS has accepted counts.
    world.device("first").await;
    world.wait_ready("first").await;
    world.wait(Kind::Integration, INTEGRATION, "accepted", |i| i["status"]["acceptedIdScope"] == SCOPE).await;
    world.stop_operator().await;
    // By name and by uid either could win: age alone decides.
    let older = world.device_with("zulu", json!({"registrationId": "sn-1"})).await;
    loop {
        let younger = world.device_with("alpha", json!({"registrationId": "sn-1"})).await;
        // Times of creation are whole seconds.
        if younger["metadata"]["creationTimestamp"] != older["metadata"]["creationTimestamp"] {
            break;
        }
        world.delete(Kind::Device, "alpha").await;
    }

    world.start_operator().await;

    world.wait_ready("zulu").await;
    world.wait_reason("alpha", "DuplicateRegistrationId").await;
    assert_eq!(world.registers_of("sn-1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_registration_ids_in_different_id_scopes_are_no_duplicates() {
    let world = World::with(Setup::two_id_scopes()).await;
    world.integration(INTEGRATION).await;
    world.integration_with("mill", json!({"idScope": OTHER_SCOPE})).await;

    world.device_with("truck-a", json!({"registrationId": "sn-1"})).await;
    world.device_with("truck-b", json!({"registrationId": "sn-1", "integrationRef": {"name": "mill"}})).await;

    world.wait_ready("truck-a").await;
    let device = world.wait_ready("truck-b").await;
    assert_eq!(device["status"]["idScope"], OTHER_SCOPE);
}
