//! Two integrations lead to one id scope, and a device of each claims the same registration id.

use dps_simulator::OperationKind;
use serde_json::{Value, json};

use crate::world::objects::is_ready;
use crate::world::{Kind, SCOPE, World};

const ID: &str = "sn-1";

fn of(integration: &str, id: &str) -> Value {
    json!({"integrationRef": {"name": integration}, "registrationId": id})
}

/// Device `a` of integration `press` has the id, device `b` of integration `mill` would like to.
async fn rivals() -> World {
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
    assert_eq!(registers_of_the_id(&world), 1);
    world
}

fn registers_of_the_id(world: &World) -> usize {
    let registers = world.ledger().into_iter().filter(|entry| entry.operation == OperationKind::Register);
    registers.filter(|entry| entry.registration_id.as_deref() == Some(ID)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_stands_while_the_key_of_its_integration_is_missing() {
    let world = rivals().await;
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
    assert_eq!(registers_of_the_id(&world), 1);
    assert!(is_ready(&world.get(Kind::Device, "a").await));
    assert!(world.find(Kind::Secret, "b-hub").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_with_its_integration_and_the_rival_goes_on_by_itself() {
    let world = rivals().await;

    world.delete(Kind::Integration, "press").await;

    world.wait_ready("b").await;
    assert_eq!(registers_of_the_id(&world), 2);
    let key = &world.secret("b-hub").await["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, ID, key));
    assert!(world.find(Kind::Secret, "a-hub").await.is_some(), "nobody's Secret is taken away");
}
