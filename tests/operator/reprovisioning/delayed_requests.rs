//! What users ask for by annotations while something stands in its way.

use dps_simulator::{LedgerEntry, OperationKind, Outage, Outcome};
use serde_json::{Value, json};

use crate::world::objects::ready_reason;
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, World, condition};

async fn suspend(world: &World, device: &str) {
    world.patch(Kind::Device, device, json!({"spec": {"suspend": true}})).await;
    world.wait_reason(device, "Suspended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_looked_up_once_each_on_request_and_suspended_or_unregistered_ones_later() {
    let world = World::start().await;
    world.devices("truck", 4).await;
    world.wait_all_ready(4).await;
    suspend(&world, "truck-4").await;
    world.integration_without_key("later", json!({})).await;
    world.device_with("unborn", json!({"integrationRef": {"name": "later"}})).await;
    world.wait_integration("later", "KeySecretNotFound").await;
    let before = world.mark().await;

    for name in ["unborn", "truck-4", "truck-1", "truck-2", "truck-3"] {
        world.request_lookup(Kind::Device, name, "look").await;
    }

    for name in ["truck-1", "truck-2", "truck-3"] {
        let device = world.wait_lookup_request(Kind::Device, name, "look").await;
        assert_eq!(ready_reason(&device), "Provisioned");
        assert_eq!(world.calls_since(before, OperationKind::Lookup).of(name), 1, "{name}");
    }
    for name in ["truck-4", "unborn"] {
        assert!(world.get(Kind::Device, name).await["status"]["lastHandledReconcileAt"].is_null(), "{name}");
    }
    assert_eq!(world.ledger_since(before).len(), 3);

    world.patch(Kind::Device, "truck-4", json!({"spec": {"suspend": false}})).await;
    world.group_key("later-key", PRIMARY_KEY).await;
    let device = world.wait_lookup_request(Kind::Device, "truck-4", "look").await;
    assert_eq!(ready_reason(&device), "Provisioned");
    let device = world.wait_ready("unborn").await;
    assert_eq!(device["status"]["lastHandledReconcileAt"], "look", "to register says more than to look");
    for (name, lookups, registers) in [("truck-4", 1, 0), ("unborn", 0, 1)] {
        assert_eq!(world.calls_since(before, OperationKind::Lookup).of(name), lookups, "{name}");
        assert_eq!(world.calls_since(before, OperationKind::Register).of(name), registers, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_request_on_an_integration_is_reported_as_handled() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.mark().await;

    for asked in ["2026-01-01", "2026-01-02"] {
        world.request_lookup(Kind::Integration, INTEGRATION, asked).await;
        world.wait_lookup_request(Kind::Integration, INTEGRATION, asked).await;
    }
    assert_eq!(world.ledger_since(before), [], "its devices have annotations of their own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_on_a_suspended_device_is_handled_when_it_is_resumed() {
    let world = World::start().await;
    world.devices("truck", 2).await;
    world.wait_all_ready(2).await;
    suspend(&world, "truck-1").await;
    let before = world.mark().await;

    for name in ["truck-1", "truck-2"] {
        world.request_registration(Kind::Device, name, "again").await;
    }

    world.wait_registration_request(Kind::Device, "truck-2", "again").await;
    assert_eq!(world.calls_since(before, OperationKind::Register).of("truck-1"), 0);
    let device = world.get(Kind::Device, "truck-1").await;
    assert!(device["status"]["lastHandledReprovisionToken"].is_null());
    assert!(condition(&device, "Ready").unwrap().is_true());

    world.patch(Kind::Device, "truck-1", json!({"spec": {"suspend": false}})).await;

    world.wait_registration_request(Kind::Device, "truck-1", "again").await;
    world.wait_reason("truck-1", "Provisioned").await;
    assert_eq!(world.calls_since(before, OperationKind::Register).of("truck-1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_set_while_dps_is_down_is_handled_once_when_dps_is_back() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.mark().await;
    world.dps.set_outage(Outage::Reset);

    world.request_registration(Kind::Device, "truck-1", "again").await;

    world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    let device = world.get(Kind::Device, "truck-1").await;
    assert!(condition(&device, "Ready").unwrap().is_true());
    assert!(device["status"]["lastHandledReprovisionToken"].is_null());
    world.dps.set_outage(Outage::None);
    world.wait_registration_request(Kind::Device, "truck-1", "again").await;
    world.wait_integration(INTEGRATION, "Available").await;
    // A later device shows that no other registration was waiting.
    world.device("witness").await;
    world.wait_ready("witness").await;
    let begun = |entry: &LedgerEntry| entry.outcome == Outcome::Started;
    let begun = world.ledger_since(before).into_iter().filter(begun);
    let ids: Vec<_> = begun.filter_map(|entry| entry.registration_id).collect();
    assert_eq!(ids, ["truck-1", "witness"]);
}

/// A world with three devices that have served the token of their integration.
async fn with_served_token() -> World {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    world.request_registration(Kind::Integration, INTEGRATION, "again").await;
    world.wait_registration_request(Kind::Integration, INTEGRATION, "again").await;
    assert_eq!(world.registers(), 6);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_reports_its_token_as_handled_only_when_every_device_has_handled_it() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"rollout": {"paused": true}})).await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == 3).await;

    world.request_registration(Kind::Integration, INTEGRATION, "again").await;

    let is_unserved = |integration: &Value| {
        assert!(integration["status"]["lastHandledReprovisionToken"].is_null(), "{integration:#}");
        integration["status"]["devices"]["ready"] == 4
    };
    world.device("late").await;
    let served = |device: &Value| device["status"]["lastHandledIntegrationToken"] == "again";
    world.wait(Kind::Device, "late", "served", served).await;
    world.wait(Kind::Integration, INTEGRATION, "counted anew", is_unserved).await;
    assert_eq!(world.registers(), 4, "the rollout is paused");
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"rollout": {"paused": false}}})).await;
    world.wait_registration_request(Kind::Integration, INTEGRATION, "again").await;
    assert_eq!(world.registers(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_on_an_integration_without_its_key_is_not_reported_as_handled() {
    let world = World::start().await;
    world.devices("truck", 2).await;
    world.wait_all_ready(2).await;
    world.delete(Kind::Secret, "factory-key").await;
    world.wait_integration(INTEGRATION, "KeySecretNotFound").await;

    world.request_registration(Kind::Integration, INTEGRATION, "again").await;
    world.delete(Kind::Device, "truck-2").await;

    let counted = |integration: &Value| {
        assert!(integration["status"]["lastHandledReprovisionToken"].is_null(), "{integration:#}");
        integration["status"]["devices"]["total"] == 1
    };
    world.wait(Kind::Integration, INTEGRATION, "counted anew", counted).await;
    world.group_key("factory-key", PRIMARY_KEY).await;
    world.wait_registration_request(Kind::Integration, INTEGRATION, "again").await;
    assert_eq!(world.registers(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_created_again_with_its_old_token_registers_no_device() {
    let world = with_served_token().await;
    let old = world.get(Kind::Integration, INTEGRATION).await;
    let before = world.mark().await;

    world.delete(Kind::Integration, INTEGRATION).await;
    world.wait_gone(Kind::Integration, INTEGRATION).await;
    let metadata = json!({"name": INTEGRATION, "annotations": old["metadata"]["annotations"]});
    world.create(Kind::Integration, json!({"metadata": metadata, "spec": old["spec"]})).await;

    let served = |i: &Value| {
        i["status"]["lastHandledReprovisionToken"] == "again" && i["status"]["devices"]["ready"] == 3
    };
    let integration = world.wait(Kind::Integration, INTEGRATION, "as before", served).await;
    assert_eq!(ready_reason(&integration), "Available");
    world.device("late").await;
    world.wait_ready("late").await;
    assert_eq!(world.devices_asked_since(before), ["late"]);
    assert_eq!(world.writes_since(before).await.get("patch secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_restored_without_its_status_does_not_register_for_an_old_token() {
    let mut world = with_served_token().await;
    world.stop_operator().await;
    for name in ["truck-1", "truck-2", "truck-3"] {
        world.forget_status(name).await;
    }
    let secrets = world.secret_revisions().await;
    let before = world.mark().await;

    world.start_operator().await;

    for device in world.wait_all_ready(3).await {
        assert_eq!(device["status"]["lastHandledIntegrationToken"], "again");
    }
    let counted = |i: &Value| i["status"]["devices"]["ready"] == 3;
    world.wait(Kind::Integration, INTEGRATION, "counted", counted).await;
    assert_eq!(world.ledger_since(before), []);
    let now = world.secret_revisions().await;
    assert_eq!(now, secrets);
}
