//! DPS accepts a registration and wants to be asked much later how it has ended.

use std::time::Duration;

use dps_simulator::OperationKind;
use serde_json::Value;

use crate::world::{Kind, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_dps_puts_off_says_until_when_and_keeps_no_other_one_waiting() {
    let world = World::accepted().await;
    world.dps.set_retry_after(Some(Duration::from_secs(20 * 60)));

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "Registering").await;
    let said = condition(&device, "Ready").unwrap().message;
    assert!(said.starts_with("DPS has accepted the registration") && said.contains(" UTC"), "{said}");
    assert!(!condition(&device, "Ready").unwrap().is_true());
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "Registering");
    assert_eq!(condition(&device, "Registered").unwrap().reason, "NeverRegistered");
    assert!(condition(&device, "Stalled").is_none());
    let metric = "dps_operator_dps_operations_in_flight";
    assert_eq!(world.first_replica().metric(metric).await, Some(0.0));

    world.dps.set_retry_after(Some(Duration::ZERO));
    world.device("truck-2").await;
    world.wait_ready("truck-2").await;
    assert_eq!(world.calls(OperationKind::Poll).of("truck-1"), 0);
    let unchanged = world.get(Kind::Device, "truck-1").await;
    assert_eq!(unchanged["metadata"]["resourceVersion"], device["metadata"]["resourceVersion"]);

    world.request_lookup(Kind::Device, "truck-1", "1").await;
    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["lastHandledReconcileAt"], "1");
    assert_eq!((world.registers_of("truck-1"), world.calls(OperationKind::Poll).of("truck-1")), (1, 1));
    assert_no_operation_is_named(&world, &device);
}

/// Neither in what the API server was sent, nor in the log.
fn assert_no_operation_is_named(world: &World, device: &Value) {
    let ledger = world.ledger();
    let ids: Vec<&str> =
        ledger.iter().filter_map(|entry| Some(entry.path.split_once("/operations/")?.1)).collect();
    assert!(!ids.is_empty());
    let texts = [world.audit_text(), world.operator_log(), device.to_string()];
    assert!(ids.iter().all(|id| texts.iter().all(|text| !text.contains(id))), "{ids:?}");
}
