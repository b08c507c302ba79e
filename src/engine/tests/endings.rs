//! A namespace that is deleted: the collector takes its objects in any order, and nothing is registered
//! for what is going away.

use serde_json::{Value, json};

use super::{KEY, OTHER_KEY, World};

/// Two provisioned devices whose key is gone, so that only a registration would bring a Secret back, and
/// one that waits behind the first for its registration id. No fleet-wide work is let go.
async fn with_devices_of_a_former_key() -> World {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"rollout": {"paused": true}, "attestation": one_key()}));
    for device in ["truck-1", "truck-2"] {
        world.declare(device, json!({}));
        world.until_ready(device).await;
    }
    world.declare("rival", json!({"registrationId": "truck-1"}));
    world.until_reason("rival", "DuplicateRegistrationId").await;
    world.show_keys(OTHER_KEY, KEY);
    world.until_idle(0).await;
    assert_eq!(world.registers(), 2);
    world
}

fn one_key() -> Value {
    let primary = json!({"name": "group", "key": "primaryKey"});
    json!({"symmetricKey": {"primaryKeyRef": primary, "secondaryKeyRef": null}})
}

#[tokio::test]
async fn in_any_order_in_which_its_objects_go_nothing_is_registered() {
    let orders: [&[(&'static str, &str)]; 3] = [
        &[("secrets", "truck-1-hub"), ("secrets", "truck-2-hub")],
        &[("provisioneddevices", "truck-1"), ("secrets", "truck-2-hub")],
        &[("secrets", "truck-1-hub"), ("provisioneddevices", "truck-1"), ("provisioneddevices", "truck-2")],
    ];
    for order in orders {
        let mut world = with_devices_of_a_former_key().await;
        let calls = world.dps.control().ledger_len();
        world.api.end_namespace("fleet");
        for (kind, name) in order {
            world.delete(kind, name);
            world.until_idle(0).await;
        }
        assert_eq!(world.dps.control().ledger_len(), calls, "{order:?}");
    }
}

#[tokio::test]
async fn an_operator_that_starts_while_it_goes_registers_nothing() {
    let mut world = with_devices_of_a_former_key().await;
    let calls = world.dps.control().ledger_len();
    world.api.end_namespace("fleet");
    world.api.delete("secrets", "truck-1-hub");
    world.restart();
    world.show_keys(OTHER_KEY, KEY);
    world.until_idle(0).await;
    assert_eq!(world.dps.control().ledger_len(), calls);
}

#[tokio::test]
async fn in_a_namespace_that_stays_a_lost_secret_is_brought_back_after_one_look() {
    let mut world = with_devices_of_a_former_key().await;
    let before = world.api.namespace_reads();

    world.delete("secrets", "truck-1-hub");
    world.until("the Secret", |world| world.api.get("secrets", "truck-1-hub").is_some()).await;
    world.until_idle(0).await;

    assert_eq!((world.registers(), world.api.namespace_reads()), (3, before + 1));
}

/// Two provisioned devices whose key is gone; without a registration their Secrets cannot come back.
async fn with_devices_that_nothing_can_help() -> World {
    let mut world = with_devices_of_a_former_key().await;
    world.declare_integration(json!({"suspend": true, "attestation": one_key()}));
    world.until_idle(0).await;
    world
}

#[tokio::test]
async fn in_a_namespace_that_goes_no_lost_secret_is_reported() {
    let mut world = with_devices_that_nothing_can_help().await;
    world.api.end_namespace("fleet");
    for device in ["truck-1", "truck-2"] {
        let before = world.api.get("provisioneddevices", device);
        world.delete("secrets", &format!("{device}-hub"));
        world.until_idle(0).await;
        assert_eq!(world.api.get("provisioneddevices", device), before);
    }
}

#[tokio::test]
async fn in_a_namespace_that_stays_a_secret_that_cannot_come_back_is_reported() {
    let mut world = with_devices_that_nothing_can_help().await;
    world.delete("secrets", "truck-1-hub");
    world.until_reason("truck-1", "CredentialUnavailable").await;
}
