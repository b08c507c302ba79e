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

/// Beside the integration with a group, another one has a device with a good key of its own.
async fn with_a_device_of_another() -> World {
    let mut world = World::start(&[]).await;
    declare_stranger(&mut world);
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", of_stranger("edge-7"));
    world.until_ready("edge-7").await;
    world
}

#[tokio::test]
async fn who_has_one_good_key_keeps_nobody_from_other_ids() {
    let mut world = with_a_device_of_another().await;
    // It claims the ids of others, with keys that DPS does not know, and is the older one of each two.
    for number in 0..10 {
        let name = format!("grab-{number}");
        world.give_keys(&name, &key(9), &key(9));
        let mut spec = of_stranger(&name);
        spec["registrationId"] = json!(format!("truck-{number}"));
        world.declare(&name, spec);
    }
    // Also of one that has a key of its own.
    world.give_keys("grab-own", &key(9), &key(9));
    let mut spec = of_stranger("grab-own");
    spec["registrationId"] = json!("edge-8");
    world.declare("grab-own", spec);
    world.until_idle(0).await;
    for number in 0..10 {
        let name = format!("truck-{number}");
        world.declare(&name, json!({}));
        world.pass(Duration::from_secs(10));
        world.until_ready(&name).await;
    }
    let mut world = world.with_own("edge-8").await;
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
    let mut world = with_a_device_of_another().await;
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

#[tokio::test]
async fn it_has_its_id_also_where_dps_has_not_accepted_the_groups_key() {
    let mut world = World::start(&[]).await;
    world.declare_integration_named("other", json!({}));
    world.show_keys(super::super::KEY, super::super::OTHER_KEY);
    world.declare("scout", json!({"integrationRef": {"name": "other"}}));
    world.until_ready("scout").await;
    // Nothing of the group is ever registered in `factory`.
    let mut world = world.with_own("edge-7").await;
    assert_eq!(world.integration()["acceptedIdScope"], json!(null));
    world.declare("double", json!({"integrationRef": {"name": "other"}, "registrationId": "edge-7"}));
    world.pass(Duration::from_secs(10));
    world.until_reason("double", "DuplicateRegistrationId").await;
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
}

/// An older device says, and its Secret with its own seal as well, that it has the id; the operator starts.
#[tokio::test]
async fn what_a_holder_of_another_key_makes_up_takes_no_id_while_no_operator_runs() {
    let mut world = World::start(&[]).await;
    declare_stranger(&mut world);
    let older = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {
        "integrationRef": {"name": "stranger"}, "registrationId": "edge-7", "suspend": true,
        "attestation": own("older")["attestation"],
    }});
    world.give_keys("older", &key(9), &key(9));
    world.api.apply("provisioneddevices", "older", older);
    world.deliver();
    // The stranger is accepted for another id.
    world.enroll("edge-1", 1, 2);
    world.give_keys("edge-1", &key(1), &key(2));
    world.declare("edge-1", of_stranger("edge-1"));
    world.until_ready("edge-1").await;
    let mut world = world.with_own("edge-7").await;
    world.pass(MINUTE);
    world.until_idle(0).await;
    let before = world.hub_secret("edge-7");

    let status = forged_with_its_own_seal(&mut world);
    world.api.apply("provisioneddevices", "older", json!({"spec": {"suspend": false}, "status": status}));
    world.restart();
    for _ in 0..4 {
        world.until_idle(0).await;
        world.pass(MINUTE);
    }

    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
    assert_eq!(world.hub_secret("edge-7")["data"], before["data"]);
    assert_ne!(ready(&world, "older"), json!(["True", "Provisioned"]));
}

/// What the operator itself would write for `older` if DPS had accepted its key for `edge-7`; returns the status
/// beside it.
fn forged_with_its_own_seal(world: &mut World) -> serde_json::Value {
    use crate::controller::device::secret;
    use crate::controller::device::settings::Settings;
    use crate::controller::integration::credentials::Credentials;

    let object = world.api.get("provisioneddevices", "older").unwrap();
    let device: crate::api::device::ProvisionedDevice = serde_json::from_value(object).unwrap();
    let found = crate::controller::integration::tests::keys::present(&[
        ("primaryKey", &key(9)),
        ("secondaryKey", &key(9)),
    ]);
    let attestation = device.spec.attestation.clone().unwrap().symmetric_key.unwrap();
    let credentials = Credentials::resolve_own(&attestation, |_| &found).unwrap();
    let stranger = world.engine.fleet.names.get("fleet/stranger").unwrap();
    let target = world.engine.registry.target(stranger).unwrap().for_device(credentials, None);
    let settings = Settings::of(&device, None).unwrap();
    let status = world.status("edge-7");
    let of_edge: crate::api::device::ProvisionedDevice =
        serde_json::from_value(world.api.get("provisioneddevices", "edge-7").unwrap()).unwrap();
    let facts = crate::controller::device::facts::Facts::from_status(
        of_edge.status.as_ref().unwrap(),
        1,
        1,
        (world.now.wall, world.now.mono),
    );
    let mut registered = facts.registered.unwrap();
    registered.credential = Some(target.credentials.in_use());
    registered.key_secret = Some("older-dps".to_owned());
    let credential = target.credentials.for_device(&settings.registration_id).unwrap();
    let served = crate::controller::device::facts::ServedRequests::default();
    let material = secret::Material { target: &target, credential: &credential, served: &served };
    let desired = secret::render(&device, &settings, &registered, &material);
    world.api.apply("secrets", "older-hub", serde_json::to_value(desired.object()).unwrap());
    let version = world.api.get("secrets", "older-hub").unwrap()["metadata"]["resourceVersion"].clone();
    let mut forged = status;
    forged["secret"] = json!({
        "name": "older-hub", "resourceVersion": version, "renderedHash": desired.rendered.shown(),
    });
    forged["credential"] = json!({
        "type": "SymmetricKey", "slot": "Primary", "fingerprint": target.credentials.in_use().to_string(),
        "secretName": "older-dps", "secretResourceVersion": world.source_version("older"),
    });
    forged["observedGeneration"] = json!(device.metadata.generation.unwrap() + 1);
    forged
}
