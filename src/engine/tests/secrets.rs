//! Whose a Secret is, and that what a message tells a person to do works within seconds.

use std::time::Duration;

use serde_json::{Value, json};

use super::vouching::{MINUTE, SECRET, content, secret, settled, text};
use super::{OTHER_SCOPE, SCOPE, World, condition};
use crate::schedule::Share;
use crate::schedule::room::Room;
use crate::schedule::turns::Party;

const SECONDS: Duration = Duration::from_secs(10);

fn annotated(key: &str, value: Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// With the device `truck-1`, whose Secret is somebody else's.
async fn in_conflict() -> World {
    let mut world = World::start(&[]).await;
    world.api.apply("secrets", SECRET, json!({"type": "Opaque", "data": {"note": "bWluZQ=="}}));
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "SecretConflict").await;
    // It has been so for a while.
    for _ in 0..20 {
        world.pass(SECONDS);
        world.until_idle(0).await;
    }
    assert_eq!(secret(&world)["data"], json!({"note": "bWluZQ=="}));
    world
}

/// A person does something of which no watch tells; it works within ten seconds.
async fn works(world: &mut World) {
    world.deliver();
    world.until_idle(0).await;
    world.pass(SECONDS);
    world.until_ready("truck-1").await;
    assert_eq!(text(&secret(world), "deviceId"), "truck-1");
    assert_eq!(world.registers(), 1);
}

#[tokio::test]
async fn a_secret_that_is_offered_is_taken_over_within_seconds() {
    let mut world = in_conflict().await;
    world.api.apply("secrets", SECRET, annotated("dps-operator.io/adopt", json!("true")));
    works(&mut world).await;
    assert_eq!(secret(&world)["data"]["note"], "bWluZQ==");
}

#[tokio::test]
async fn a_secret_in_the_way_that_is_deleted_is_replaced_within_seconds() {
    let mut world = in_conflict().await;
    world.api.delete("secrets", SECRET);
    works(&mut world).await;
}

#[tokio::test]
async fn an_immutable_secret_that_is_deleted_is_written_again_within_seconds() {
    let mut world = settled().await;
    world.api.apply("secrets", SECRET, json!({"immutable": true, "data": {"deviceId": "eA=="}}));
    world.deliver();
    world.until_reason("truck-1", "SecretConflict").await;
    for _ in 0..20 {
        world.pass(SECONDS);
        world.until_idle(0).await;
    }
    world.api.delete("secrets", SECRET);
    works(&mut world).await;
}

#[tokio::test]
async fn a_request_to_look_again_looks_at_the_secret_at_once() {
    let mut world = in_conflict().await;
    world.api.apply("secrets", SECRET, annotated("dps-operator.io/adopt", json!("true")));
    let asked = annotated("reconcile.fluxcd.io/requestedAt", json!("1"));
    world.api.apply("provisioneddevices", "truck-1", asked);
    world.deliver();
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn a_request_to_look_again_ends_the_wait_of_a_registration_that_failed() {
    let mut world = World::start(&[]).await;
    world.dps.control().set_device_enabled(super::SCOPE, "truck-1", false).unwrap();
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "Disabled").await;
    world.until_idle(0).await;
    let asked = |token: &str| annotated("reconcile.fluxcd.io/requestedAt", json!(token));

    // Once for each request, and the answer is acknowledged.
    let calls = world.registers();
    world.api.apply("provisioneddevices", "truck-1", asked("1"));
    world.deliver();
    world.until("an acknowledgement", |world| world.status("truck-1")["lastHandledReconcileAt"] == "1").await;
    world.until_idle(0).await;
    assert_eq!(world.registers(), calls + 1);

    world.dps.control().set_device_enabled(super::SCOPE, "truck-1", true).unwrap();
    world.api.apply("provisioneddevices", "truck-1", asked("2"));
    world.deliver();
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn an_edit_of_the_device_or_a_request_to_look_again_ends_the_wait_for_a_contested_secret() {
    let edit = json!({"spec": {"secret": {"labels": {"tier": "core"}}}});
    for change in [edit, annotated("reconcile.fluxcd.io/requestedAt", json!("1"))] {
        ends_the_wait_for_a_contested_secret(change).await;
    }
}

async fn ends_the_wait_for_a_contested_secret(change: Value) {
    let mut world = settled().await;
    for _ in 0..12 {
        if world.reason("truck-1") == "SecretWriteFailed" {
            break;
        }
        world.api.apply("secrets", SECRET, json!({"data": {"deviceId": "eA=="}}));
        world.deliver();
        world.pass(MINUTE / 2);
        world.until_idle(0).await;
    }
    assert!(world.engine.active.contested(0, world.now.mono).is_some());
    world.api.apply("secrets", SECRET, json!({"data": {"deviceId": "eA=="}}));
    world.deliver();
    world.until_idle(0).await;

    world.api.apply("provisioneddevices", "truck-1", change);
    world.deliver();

    world.until_ready("truck-1").await;
    assert_eq!(text(&secret(&world), "deviceId"), "truck-1");
}

#[tokio::test]
async fn no_single_mark_that_others_take_away_or_rewrite_orphans_a_secret() {
    for policy in ["Delete", "Retain"] {
        let mut world = World::start(&[]).await;
        world.declare("truck-1", json!({"secret": {"deletionPolicy": policy}}));
        world.until_ready("truck-1").await;
        world.until_idle(0).await;
        let (written, calls) = (content(&secret(&world)), world.dps.control().ledger_len());
        let owners = secret(&world)["metadata"]["ownerReferences"].clone();
        for edit in [
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}}),
            json!({"metadata": {"labels": null}}),
            annotated("dps-operator.io/device", Value::Null),
            annotated("dps-operator.io/device", json!("fleet/truck-2")),
            annotated("dps-operator.io/registration", Value::Null),
            annotated("dps-operator.io/registration", json!("other/truck-2")),
            json!({"metadata": {"ownerReferences": null}}),
        ] {
            world.pass(20 * MINUTE);
            world.api.apply("secrets", SECRET, edit.clone());
            world.deliver();
            let same = |world: &World| {
                content(&secret(world)) == written && secret(world)["metadata"]["ownerReferences"] == owners
            };
            world.until(&format!("as before {edit}"), same).await;
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
        }
        // It is noticed that it goes, with whatever marks it had last.
        world.delete("secrets", SECRET);
        world.until("the Secret", |world| world.api.get("secrets", SECRET).is_some()).await;
        world.until_idle(0).await;
        assert_eq!(world.dps.control().ledger_len(), calls, "{policy}");
    }
}

#[tokio::test]
async fn a_secret_restored_into_a_namespace_of_another_name_is_taken_over_without_a_call() {
    let mut world = settled().await;
    let mut copy = content(&secret(&world));
    copy["metadata"]["annotations"]["dps-operator.io/device"] = json!("warehouse/truck-1");
    copy["metadata"]["annotations"]["dps-operator.io/integration"] = json!("warehouse/factory");
    world.delete("provisioneddevices", "truck-1");
    world.delete("secrets", SECRET);
    world.api.apply("secrets", SECRET, copy.clone());
    world.deliver();
    let calls = world.dps.control().ledger_len();

    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;

    world.until_idle(0).await;
    assert_eq!(world.dps.control().ledger_len(), calls);
    assert_eq!(secret(&world)["metadata"]["annotations"]["dps-operator.io/device"], "fleet/truck-1");

    // One that nobody vouches for is offered by a person.
    world.delete("provisioneddevices", "truck-1");
    world.delete("secrets", SECRET);
    copy["metadata"]["annotations"]["dps-operator.io/seal"].take();
    world.api.apply("secrets", SECRET, copy);
    world.deliver();
    world.declare("truck-1", json!({}));
    world.until_reason("truck-1", "SecretConflict").await;
    let message = condition(&world.status("truck-1"), "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("dps-operator.io/adopt"), "{message}");
    world.api.apply("secrets", SECRET, annotated("dps-operator.io/adopt", json!("true")));
    world.pass(SECONDS);
    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn a_device_whose_forged_status_claims_anothers_secret_does_not_overwrite_it() {
    let mut world = settled().await;
    let theirs = secret(&world);
    // All that the public status of the other device shows, and one thing that makes it register again.
    let mut forged = world.status("truck-1");
    for key in ["registrationId", "deviceId"] {
        forged[key] = json!("truck-2");
    }
    forged["credential"]["fingerprint"] = json!("0000000000000000");
    world.api.apply(
        "provisioneddevices",
        "truck-2",
        json!({
            "spec": {"integrationRef": {"name": "factory"}, "secret": {"name": SECRET}}, "status": forged,
        }),
    );
    world.restart();
    world.until_reason("truck-2", "SecretConflict").await;
    world.until_idle(0).await;
    assert_eq!(secret(&world), theirs);
    assert_eq!(world.reason("truck-1"), "Provisioned");
}

#[tokio::test]
async fn nor_does_one_whose_forged_status_is_consistent_in_itself_and_that_registers_again() {
    let mut world = settled().await;
    let theirs = secret(&world);
    let version = theirs["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let evil = json!({
        "metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": "1"}},
        "spec": {"integrationRef": {"name": "factory"}, "secret": {"name": SECRET}},
    });
    world.api.apply("provisioneddevices", "truck-2", evil);
    let (_, lie) = world.provisioned("truck-2", super::HUBS[0], version);
    world.api.apply("provisioneddevices", "truck-2", json!({"status": lie}));
    world.restart();
    world.until("its registration", |world| world.registers() == 2).await;
    world.until_reason("truck-2", "SecretConflict").await;
    world.until_idle(0).await;
    assert_eq!(secret(&world), theirs);
    assert_eq!(world.reason("truck-1"), "Provisioned");
}

#[tokio::test]
async fn of_many_devices_that_name_one_secret_a_few_are_reconciled_at_once_when_it_changes() {
    let mut world = World::start(&[]).await;
    let named = json!({"secret": {"name": "truck-1-hub"}, "suspend": true});
    for number in 0..200 {
        world.declare(&format!("other-{number}"), named.clone());
    }
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let is_ready = |world: &World, name: &str| {
        let id = world.engine.fleet.find("fleet", name).unwrap();
        world.engine.ready.is_ready(id)
    };
    let woken = |world: &World| (0..200).filter(|number| is_ready(world, &format!("other-{number}"))).count();

    for edit in 1..=3_u32 {
        world.api.apply("secrets", SECRET, annotated("edited", json!(edit.to_string())));
        world.deliver();
    }

    assert_eq!((woken(&world), is_ready(&world, "truck-1")), (63, true));
    for _ in 0..3 {
        world.until_idle(0).await;
        world.pass(Duration::from_secs(1));
        assert!(world.engine.ready.next_due().is_some_and(|at| at <= world.now.mono));
        world.engine.ready.next(world.now.mono, &Full, |_| Party::default());
        // A later event may find one less before a device, which then comes a second earlier.
        assert!((1..70).contains(&woken(&world)), "{}", woken(&world));
    }
}

/// No room for anything.
struct Full;

impl Room for Full {
    fn is_over(&self) -> bool {
        true
    }

    fn admits(&self, _: Share, _: u32) -> bool {
        false
    }

    fn version(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_forged_status_takes_no_secret_that_another_device_keeps() {
    for (spec, status) in [
        // Another registration id than its own,
        (json!({}), json!({"idScope": SCOPE, "registrationId": "truck-1"})),
        // and its own, in the scope of the other one.
        (
            json!({"registrationId": "truck-1", "integrationRef": {"name": "other"}}),
            json!({"idScope": SCOPE}),
        ),
    ] {
        for restart in [false, true] {
            let mut world = World::start(&[]).await;
            world.declare_integration_named("other", json!({"idScope": OTHER_SCOPE}));
            world.declare("truck-1", json!({"secret": {"deletionPolicy": "Retain"}}));
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            let before = world.api.get("secrets", SECRET).unwrap();

            let mut evil = json!({"integrationRef": {"name": "factory"}, "secret": {"name": SECRET}});
            spec.as_object().unwrap().iter().for_each(|(key, value)| evil[key] = value.clone());
            let mut lie = json!({"secret": {"name": SECRET, "resourceVersion": "1"}});
            status.as_object().unwrap().iter().for_each(|(key, value)| lie[key] = value.clone());
            world.api.apply("provisioneddevices", "evil", json!({"spec": evil, "status": lie}));
            if restart {
                world.restart();
            }
            world.deliver();
            world.until_reason("evil", "SecretConflict").await;
            world.pass(MINUTE);
            world.until_idle(0).await;

            assert_eq!(world.api.get("secrets", SECRET).unwrap(), before);
            assert_eq!(world.reason("truck-1"), "Provisioned");
        }
    }
}
