//! Devices are deleted and made again.

use std::time::Duration;

use dps_simulator::{OperationKind, Outcome};
use serde_json::{Value, json};

use crate::world::objects::{data, is_ready, uid};
use crate::world::{INTEGRATION, Kind, Mark, SCOPE, Setup, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_device_deletes_its_secret_and_nothing_in_dps() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.mark().await;

    world.delete(Kind::Device, "truck-1").await;

    world.wait_gone(Kind::Secret, "truck-1-hub").await;
    world.wait_counters(INTEGRATION, |devices| devices["total"] == 0).await;
    assert_eq!(world.ledger_since(before), []);
    assert!(world.dps.registration(SCOPE, "truck-1").is_some());
    assert!(world.find(Kind::Device, "truck-1").await.is_none(), "no finalizer holds it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_deleted_during_its_registration_leaves_no_secret() {
    let world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.device("truck-1").await;
    world.wait_ledger("a registration of truck-1", |ledger| started(ledger, "truck-1")).await;

    world.delete(Kind::Device, "truck-1").await;
    world.device("truck-2").await;

    // It takes as long as the other would have taken.
    world.wait_ready("truck-2").await;
    assert!(world.find(Kind::Secret, "truck-1-hub").await.is_none());
    assert!(world.find(Kind::Device, "truck-1").await.is_none());
    world.assert_only_device_calls();
}

fn started(ledger: &[dps_simulator::LedgerEntry], id: &str) -> bool {
    let of_id = |entry: &&dps_simulator::LedgerEntry| entry.registration_id.as_deref() == Some(id);
    ledger
        .iter()
        .filter(of_id)
        .any(|entry| entry.operation == OperationKind::Register && entry.outcome != Outcome::Pending)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_deleted_and_created_again_at_once_becomes_ready_and_never_stalls() {
    const ROUNDS: usize = 15;
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;

    for _ in 0..ROUNDS {
        world.delete(Kind::Device, "truck-1").await;
        let fresh = world.device("truck-1").await;

        let fits = |device: &Value| {
            assert!(condition(device, "Stalled").is_none(), "{device:#}");
            uid(device) == uid(&fresh) && is_ready(device)
        };
        world.wait(Kind::Device, "truck-1", "Ready again", fits).await;
        let owned = |secret: &Value| secret["metadata"]["ownerReferences"][0]["uid"] == uid(&fresh);
        let secret = world.wait(Kind::Secret, "truck-1-hub", "owned by the new one", owned).await;
        assert!(world.dps.accepts_device_key(SCOPE, "truck-1", &data(&secret)["sharedAccessKey"]));
    }

    // Once the collector has got to a later one, it is through with all of these.
    world.device("truck-2").await;
    world.wait_ready("truck-2").await;
    world.delete(Kind::Device, "truck-2").await;
    world.wait_gone(Kind::Secret, "truck-2-hub").await;
    world.wait_ready("truck-1").await;
    assert!(world.secret("truck-1-hub").await.contains_key("sharedAccessKey"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_devices_deleted_and_created_again_during_registrations_all_become_ready() {
    const DEVICES: usize = 12;
    let world = World::start().await;
    // What is deleted while an integration is new has still spent one of its few first calls.
    world.device("first").await;
    world.wait_ready("first").await;
    world.dps.set_think_time(Duration::from_millis(300));
    let mut before = world.registers();
    let names = world.devices("truck", DEVICES).await;

    for _ in 0..3 {
        world.wait_ledger("another registration", |_| world.registers() > before).await;
        before = world.registers();
        for name in &names {
            world.delete(Kind::Device, name).await;
            world.device(name).await;
        }
    }

    for device in world.wait_all_ready(1 + DEVICES).await {
        let name = device["metadata"]["name"].as_str().unwrap();
        let owned = |secret: &Value| secret["metadata"]["ownerReferences"][0]["uid"] == uid(&device);
        let secret = world.wait(Kind::Secret, &format!("{name}-hub"), "owned by the last one", owned).await;
        assert!(world.dps.accepts_device_key(SCOPE, name, &data(&secret)["sharedAccessKey"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_deleted_during_registrations_leaves_the_operator_working() {
    const DEVICES: usize = 10;
    let mut world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.devices("truck", DEVICES).await;
    world.wait_ledger("registrations", |_| world.registers() > DEVICES / 2).await;

    world.delete(Kind::Namespace, &world.namespace).await;

    world.wait_gone(Kind::Namespace, &world.namespace).await;
    assert!(world.operator_runs());
    assert!(!world.operator_log().contains("panicked"), "{}", world.operator_log_tail());
    let asked = world.events_since(Mark::default()).await;
    let refused = asked.iter().filter(|e| e.request.to_string() == "create secrets").count();
    assert!(refused <= 1 + DEVICES, "{refused} attempts to write Secrets");
    world.assert_only_device_calls();

    world.create_namespace().await;
    world.integration(INTEGRATION).await;
    world.device("again").await;

    world.wait_ready("again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_registers_none_of_its_settled_devices() {
    // What an allocation function returned is in the Secret only: once that is gone, a registration alone
    // would bring it back.
    let mut world = World::without_operator(Setup::returned_payload(&json!({"topic": "eu"}))).await;
    let (home, tenant) = (world.namespace.clone(), world.add_namespace(json!({})).await);
    world.start_operator().await;
    let all = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.integration_with(INTEGRATION, json!({"allowedNamespaces": all})).await;
    world.switch_to(&tenant);
    let devices: Vec<String> = (0..20).map(|number| format!("truck-{number}")).collect();
    for name in &devices {
        let reference = json!({"integrationRef": {"name": INTEGRATION, "namespace": home}});
        world.device_with(name, reference).await;
    }
    for name in &devices {
        world.wait_ready(name).await;
    }
    world.switch_to(&home);
    world.restart_operator().await;
    let before = world.mark().await;

    world.delete(Kind::Namespace, &tenant).await;
    world.wait_gone(Kind::Namespace, &tenant).await;

    // A device that is registered after that shows that nothing else was.
    world.device("witness").await;
    world.wait_ready("witness").await;
    let called = world.ledger_since(before);
    assert!(called.iter().all(|entry| entry.registration_id.as_deref() == Some("witness")), "{called:?}");
}
