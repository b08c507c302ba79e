//! Registration ids: a device with its own key has a claim on its own once DPS has accepted that key.

use std::time::Duration;

use serde_json::json;

use super::super::World;
use super::{MINUTE, key, own, ready};

/// Another integration for the same id scope, whose devices share nothing.
fn declare_stranger(world: &mut World) {
    world.declare_integration_named(
        "stranger",
        json!({"attestation": {"perDevice": {}, "symmetricKey": null}}),
    );
}

fn of_stranger(name: &str) -> serde_json::Value {
    let mut spec = own(name);
    spec["integrationRef"] = json!({"name": "stranger"});
    spec
}

#[tokio::test]
async fn who_has_one_good_key_keeps_nobody_from_other_ids() {
    let mut world = World::start(&[]).await;
    declare_stranger(&mut world);
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", of_stranger("edge-7"));
    world.until_ready("edge-7").await;
    // It claims the ids of others, with keys that DPS does not know, and is the older one of each two.
    for number in 0..10 {
        let name = format!("grab-{number}");
        world.give_keys(&name, &key(9), &key(9));
        let mut spec = of_stranger(&name);
        spec["registrationId"] = json!(format!("truck-{number}"));
        world.declare(&name, spec);
    }
    world.until_idle(0).await;
    for number in 0..10 {
        let name = format!("truck-{number}");
        world.declare(&name, json!({}));
        world.pass(Duration::from_secs(10));
        world.until_ready(&name).await;
    }
    world.pass(MINUTE);
    world.until_idle(0).await;
    for number in 0..10 {
        let (grab, truck) = (format!("grab-{number}"), format!("truck-{number}"));
        assert_eq!(ready(&world, &truck), json!(["True", "Provisioned"]), "{truck}");
        let status = world.status(&grab);
        assert!(status["assignedHub"].is_null(), "{grab}: {status}");
    }
}

#[tokio::test]
async fn once_registered_it_has_its_id() {
    let mut world = World::start(&[]).await;
    declare_stranger(&mut world);
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", of_stranger("edge-7"));
    world.until_ready("edge-7").await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.declare("other", json!({"registrationId": "edge-7"}));
    world.until_reason("other", "DuplicateRegistrationId").await;
    world.until_idle(0).await;
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));

    // Also for the next process.
    world.restart();
    world.until_idle(0).await;
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
    assert_eq!(world.reason("other"), "DuplicateRegistrationId");

    world.delete("provisioneddevices", "edge-7");
    world.until_reason("other", "Unauthorized").await;
}

#[tokio::test]
async fn a_secret_that_its_holder_made_up_is_no_registration() {
    let mut world = World::per_device().await.with_own("edge-7").await;
    world.until_idle(0).await;
    // It has the seal of the device's own key, and is written for another id; no status speaks of it.
    let mut secret = world.hub_secret("edge-7");
    world.delete("provisioneddevices", "edge-7");
    world.delete("secrets", "edge-7-hub");
    secret["metadata"]["ownerReferences"] = json!(null);
    secret["metadata"]["uid"] = json!(null);
    let before = world.asked();
    world.dps.control().set_device_keys(super::SCOPE, "edge-7", &key(5), &key(6)).unwrap();
    world.api.apply("secrets", "edge-7-hub", secret);
    world.declare("edge-7", own("edge-7"));
    world.until_reason("edge-7", "Unauthorized").await;
    assert!(world.asked() > before, "DPS is asked");
    assert!(world.status("edge-7")["assignedHub"].is_null());
}
