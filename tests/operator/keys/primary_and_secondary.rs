//! An enrollment group has two keys: which of them is used, and which devices follow.

use dps_simulator::{OperationKind, Outcome};
use serde_json::{Value, json};

use crate::world::keys::NEW_KEY;
use crate::world::{
    GROUP, INTEGRATION, Kind, PRIMARY_KEY, SCOPE, SECONDARY_KEY, World, condition, manifests,
};

/// A world with provisioned devices whose integration knows both keys and uses the primary.
async fn provisioned(devices: usize) -> World {
    let world = World::empty().await;
    world.integration_with_both_keys(INTEGRATION, PRIMARY_KEY, SECONDARY_KEY).await;
    world.devices("truck", devices).await;
    world.wait_all_ready(devices).await;
    wait_settled(&world, devices, "Primary", PRIMARY_KEY).await;
    world
}

/// Waits until so many devices and their Secrets were moved to the key in this slot and the
/// integration's status says so.
async fn wait_settled(world: &World, devices: usize, slot: &str, key: &str) -> Value {
    world.wait_moved(devices, slot, key).await;
    let settled = |integration: &Value| {
        let status = &integration["status"];
        let counted = status["devices"]["ready"] == devices && status["keyRotation"].is_null();
        counted && status["credentials"]["working"] == slot && status["failures"].is_null()
    };
    world.wait(Kind::Integration, INTEGRATION, &format!("settled on {slot}"), settled).await
}

fn message(integration: &Value) -> String {
    let ready = condition(integration, "Ready").unwrap();
    assert_eq!((ready.reason.as_str(), ready.is_true()), ("Available", true));
    ready.message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_move_to_the_secondary_key_when_it_becomes_the_active_one_and_stay_there_after_a_restart() {
    const DEVICES: usize = 12;
    let mut world = provisioned(DEVICES).await;
    let before = world.mark().await;

    let secondary = json!({"attestation": {"symmetricKey": {"active": "Secondary"}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": secondary})).await;

    let integration = wait_settled(&world, DEVICES, "Secondary", SECONDARY_KEY).await;
    assert!(!message(&integration).contains("refuses"), "{}", message(&integration));
    let calls = world.calls_since(before, OperationKind::Register);
    assert_eq!((calls.devices(), calls.most()), (DEVICES, 1), "{calls:?}");
    world.assert_quiet_restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secondary_key_is_used_while_dps_refuses_the_active_one_also_after_a_restart() {
    const FLEET: usize = 6;
    const NEW: usize = 4;
    let mut world = provisioned(FLEET).await;
    world.dps.set_group_keys(SCOPE, GROUP, NEW_KEY, SECONDARY_KEY).unwrap();

    world.devices("new", NEW).await;

    let integration = wait_settled(&world, FLEET + NEW, "Secondary", SECONDARY_KEY).await;
    let says = message(&integration);
    assert!(
        says.contains("refuses the Primary key") && says.contains("so the Secondary key is used"),
        "{says}"
    );
    let refused = world.ledger().iter().filter(|entry| entry.outcome == Outcome::Refused).count();
    assert!((3..=NEW).contains(&refused), "{refused} refusals");
    world.assert_quiet_restart().await;
    let corrected = world.mark().await;

    world.change_group_key("factory-key", NEW_KEY).await;

    let integration = wait_settled(&world, FLEET + NEW, "Primary", NEW_KEY).await;
    assert!(!message(&integration).contains("refuses"), "{}", message(&integration));
    let calls = world.calls_since(corrected, OperationKind::Register);
    assert_eq!((calls.devices(), calls.most()), (FLEET + NEW, 1), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_whose_key_dps_still_accepts_move_after_those_whose_key_it_refuses() {
    let world = World::empty().await;
    world.integration_with_both_keys(INTEGRATION, PRIMARY_KEY, SECONDARY_KEY).await;
    let slot = |active: &str, rollout: Value| json!({"spec": {"attestation": {"symmetricKey": {"active": active}}, "rollout": rollout}});
    world.patch(Kind::Integration, INTEGRATION, slot("Secondary", json!({"paused": true}))).await;
    world.devices("on-secondary", 3).await;
    world.wait_all_ready(3).await;
    world.patch(Kind::Integration, INTEGRATION, slot("Primary", json!({"paused": true}))).await;
    world.devices("on-primary", 3).await;
    world.wait_all_ready(6).await;
    let accepted = |i: &Value| i["status"]["credentials"]["unproven"].is_null();
    world.wait(Kind::Integration, INTEGRATION, "accepted with both keys", accepted).await;
    let before = world.mark().await;

    world.rotate_group_key(NEW_KEY).await;
    // DPS has accepted the old one and not yet the new one.
    let seen = |i: &Value| i["status"]["credentials"]["unproven"]["primaryVersion"].is_string();
    world.wait(Kind::Integration, INTEGRATION, "of the new key", seen).await;
    // One after the other, so that their order shows.
    let slowly = json!({"paused": false, "maxPerMinute": 30});
    world.patch(Kind::Integration, INTEGRATION, slot("Primary", slowly)).await;

    world.wait_moved(6, "Primary", NEW_KEY).await;
    let ids = world.ids_since(before, OperationKind::Register);
    let on_primary = |ids: &[String]| ids.iter().filter(|id| id.starts_with("on-primary")).count();
    assert_eq!((on_primary(&ids[..3]), on_primary(&ids[3..])), (3, 0), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_devices_and_those_that_never_register_again_are_counted_as_excluded_from_a_key_rotation() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"rollout": {"paused": true}})).await;
    world.devices("truck", 3).await;
    world.devices("suspended", 2).await;
    world.device_with("old", json!({"reprovision": {"policy": "Never"}})).await;
    world.wait_all_ready(6).await;
    for name in ["suspended-1", "suspended-2"] {
        world.patch(Kind::Device, name, json!({"spec": {"suspend": true}})).await;
    }
    // From here on no device has anything to say, and is counted all the same.
    world.wait_counters(INTEGRATION, |devices| devices["suspended"] == 2 && devices["ready"] == 4).await;

    world.rotate_group_key(NEW_KEY).await;

    let counts = |integration: &Value| {
        let rotation = &integration["status"]["keyRotation"];
        ["total", "pending", "excluded", "blocked"].map(|part| rotation[part].clone())
    };
    let waiting = [json!(6), json!(3), json!(3), json!(false)];
    world.wait(Kind::Integration, INTEGRATION, "three to move", |i| counts(i) == waiting).await;
    world.patch(Kind::Device, "suspended-1", json!({"spec": {"suspend": false}})).await;
    let waiting = [json!(6), json!(4), json!(2), json!(false)];
    world.wait(Kind::Integration, INTEGRATION, "four to move", |i| counts(i) == waiting).await;
    assert_eq!(world.registers(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secondary_key_can_be_the_active_one() {
    let world = World::empty().await;
    let both = [("primaryKey", PRIMARY_KEY), ("secondaryKey", SECONDARY_KEY)];
    world.create(Kind::Secret, manifests::secret("factory-key", &both)).await;
    let keys = json!({"active": "Secondary", "secondaryKeyRef": {"name": "factory-key"}});
    world.integration_without_key(INTEGRATION, json!({"attestation": {"symmetricKey": keys}})).await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["credential"]["slot"], "Secondary");
    let accepted = |i: &Value| i["status"]["credentials"]["working"] == "Secondary";
    let integration = world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    let fingerprints = &integration["status"]["credentials"];
    assert_eq!(fingerprints["secondary"]["fingerprint"], device["status"]["credential"]["fingerprint"]);
    assert!(fingerprints["primary"].is_null(), "DPS has not accepted that one");
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
}
