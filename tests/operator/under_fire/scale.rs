//! Thousands of objects of one integration appear, change and go at once: what that costs others, counted in
//! requests and memory and not in time.

use dps_simulator::OperationKind;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::is_thorough;
use crate::world::objects::{is_pending, is_ready};
use crate::world::proxy::Record;
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, Mark, POLL, Setup, World, manifests};

/// Requests of a test that are under way at a time.
const AT_ONCE: usize = 32;
const MILL: &str = "mill";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

fn many(smoke: usize, thorough: usize) -> usize {
    if is_thorough() { thorough } else { smoke }
}

fn labelled(mut object: Value, labels: Value) -> Value {
    object["metadata"]["labels"] = labels;
    object
}

/// A device of the integration that does not matter here.
fn of_mill(number: usize, spec: Value) -> Value {
    let spec = manifests::merged(json!({"integrationRef": {"name": MILL}}), spec);
    labelled(manifests::device(&format!("truck-{number}"), spec), json!({"fleet": MILL}))
}

impl World {
    async fn create_all(&self, kind: Kind, objects: impl Iterator<Item = Value>) {
        stream::iter(objects)
            .for_each_concurrent(AT_ONCE, async |object| drop(self.create(kind, object).await))
            .await;
    }

    async fn patch_fleet(&self, count: usize, patch: &Value) {
        let patched = stream::iter(1..=count).for_each_concurrent(AT_ONCE, async |number| {
            self.patch(Kind::Device, &format!("truck-{number}"), patch.clone()).await;
        });
        patched.await;
    }

    async fn delete_fleet(&self, count: usize) {
        let deleted = stream::iter(1..=count).for_each_concurrent(AT_ONCE, async |number| {
            self.delete(Kind::Device, &format!("truck-{number}")).await;
        });
        deleted.await;
    }

    /// A new device of the other integration is Ready.
    async fn innocent(&self, device: &str) {
        self.device(device).await;
        self.wait_ready(device).await;
    }

    /// Registrations of the fleet's devices.
    fn fleet_registers(&self) -> usize {
        let ids = self.ids_since(Mark::default(), OperationKind::Register);
        ids.iter().filter(|id| id.starts_with("truck-")).count()
    }

    /// More than before by no more than so much for each of them, beside what calls and lists take.
    fn assert_memory(&self, before: u64, count: usize, bytes_each: u64) {
        const CALLS_AND_LISTS: u64 = 24 * 1024;
        let (now, more) = (self.peak_kib(), bytes_each * count as u64 / 1024);
        let most = before + CALLS_AND_LISTS + more;
        println!("{count} objects: {before} KiB before, {now} KiB at most");
        assert!(now <= most, "{now} KiB, {most} at most");
    }
}

/// Both integrations are accepted; DPS may be asked so often.
async fn two_integrations(per_minute: u32) -> World {
    let mut world =
        World::without_operator(Setup { proxied: true, log_level: "info", ..Setup::default() }).await;
    world.registrations_per_minute = per_minute;
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.integration(MILL).await;
    world.device("first").await;
    world.device_with("first-of-mill", json!({"integrationRef": {"name": MILL}})).await;
    world.wait_all_ready(2).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_created_and_deleted_at_once_keeps_no_other_device_waiting() {
    let count = many(300, 10_000);
    let world = two_integrations(120).await;
    let before = world.peak_kib();
    world.create_all(Kind::Device, (1..=count).map(|number| of_mill(number, json!({})))).await;

    world.innocent("during-creation").await;

    let registered = world.fleet_registers();
    assert!(registered < count / 2, "{registered} of {count} went before it");
    world.delete_fleet(count).await;
    let asked = world.fleet_registers();
    world.innocent("after-deletion").await;
    world.wait_counters(MILL, |devices| devices["total"] == 1).await;
    world.come_to_rest().await;
    let late = world.fleet_registers() - asked;
    // A watch shows a deletion a moment after it. Were they kept, it would be two a second.
    assert!(late <= 16, "{late} devices were registered that were gone");
    world.assert_memory(before, count, 3 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_edited_back_and_forth_is_written_and_keeps_no_other_device_waiting() {
    let count = many(100, 2000);
    let mut world = two_integrations(6000).await;
    world.patience *= 5;
    world.create_all(Kind::Device, (1..=count).map(|number| of_mill(number, json!({})))).await;
    world.wait_all_ready(2 + count).await;
    world.come_to_rest().await;
    let (before, memory) = (world.mark().await, world.peak_kib());
    let requests = world.proxies().records.len();

    let label = |value: Value| json!({"spec": {"secret": {"labels": {"line": value}}}});
    let edits = async {
        for value in [json!("a"), json!("b"), Value::Null] {
            world.patch_fleet(count, &label(value)).await;
        }
    };
    tokio::join!(edits, world.innocent("during-edits"));

    world.come_to_rest().await;
    assert_eq!(world.devices_asked_since(before), ["during-edits"]);
    let secrets = world.generated_secrets().await;
    assert!(secrets.iter().all(|secret| secret["metadata"]["labels"]["line"].is_null()));
    let records = world.proxies().records.since(requests);
    let its = |record: &Record, calls: &[&str]| {
        record.call.is_of("during-edits") && calls.contains(&record.call.to_string().as_str())
    };
    let status = |record: &Record| its(record, &["update provisioneddevices/status"]);
    let written = records.iter().position(status).expect("it was written");
    // How long DPS takes is not the operator's doing: from the last time that it was asked.
    let calls = |record: &Record| its(record, &["register", "poll"]);
    let asked = records[..written].iter().rposition(calls).expect("it was registered");
    let meanwhile = &records[asked..written];
    let patched = meanwhile.iter().filter(|record| record.call.to_string() == "patch secrets").count();
    println!("{patched} of {count} Secrets were written while one new device became Ready");
    assert!(patched <= 4 * AT_ONCE, "{patched} writes went before those of one new device");
    world.assert_memory(memory, count, 4 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_secrets_cost_next_to_nothing_and_are_left_alone() {
    let count = many(200, 10_000);
    let world = two_integrations(6000).await;
    let before = world.peak_kib();
    let forged = |number: usize| {
        let secret = manifests::secret(&format!("forged-{number}"), &[("sharedAccessKey", "none")]);
        labelled(secret, json!({MANAGED_BY: "dps-operator"}))
    };
    world.create_all(Kind::Secret, (1..=count).map(forged)).await;

    world.innocent("beside-them").await;

    let written = |record: &Record| record.call.is_effect() && record.call.name.starts_with("forged-");
    assert!(!world.proxies().records.all().iter().any(written));
    world.assert_memory(before, count, 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_integrations_cost_the_devices_of_one_nothing() {
    let count = many(50, 1000);
    let world = two_integrations(6000).await;
    let before = world.peak_kib();
    let key = json!({"attestation": {"symmetricKey": {"primaryKeyRef": {"name": "factory-key"}}}});
    let integration =
        |number: usize| manifests::integration(&format!("site-{number}"), world.host(), key.clone());
    world.create_all(Kind::Integration, (1..=count).map(integration)).await;

    world.innocent("beside-them").await;

    world.wait_integration(&format!("site-{count}"), "Available").await;
    assert_eq!(world.calls(OperationKind::Lookup).total(), 0);
    assert_eq!(world.registers(), 3, "an integration without devices asks nothing");
    world.assert_memory(before, count, 40 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_devices_with_one_registration_id_are_one_device_at_dps() {
    let count = many(60, 4000);
    let mut world = two_integrations(6000).await;
    world.patience *= 5;
    let before = world.peak_kib();
    let same = || json!({"registrationId": "truck-0"});
    world.create_all(Kind::Device, (1..=count).map(|number| of_mill(number, same()))).await;

    world.innocent("beside-them").await;

    let fleet = async || {
        world
            .list(Kind::Device)
            .await
            .into_iter()
            .filter(|device| device["metadata"]["labels"]["fleet"] == MILL)
    };
    let told = until_true(world.patience, POLL * 25, async || {
        fleet().await.all(|device| is_ready(&device) || !is_pending(&device))
    });
    assert!(told.await, "each says why it waits");
    let ready: Vec<Value> = fleet().await.filter(is_ready).collect();
    assert_eq!(ready.len(), 1);
    assert_eq!(world.registers_of("truck-0"), 1);
    world.delete(Kind::Device, ready[0]["metadata"]["name"].as_str().unwrap_or_default()).await;
    let next = until_true(world.patience, POLL * 25, async || fleet().await.filter(is_ready).count() == 1);
    assert!(next.await, "the next one takes its place");
    assert_eq!(world.registers_of("truck-0"), 2);
    world.assert_memory(before, count, 6 * 1024);
}
