//! What is read of a device's own key is what is there, also if that changes meanwhile; and what a device names
//! is no other's hindrance.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::{Fault, FaultAction, OperationKind};
use serde_json::{Value, json};

use super::super::vouching::text;
use super::super::{Message, World, condition, seen};
use super::{MINUTE, SourceWatch, key, own, ready};
use crate::engine::tests::WATCH;
use crate::fleet::SourceList;

/// With a device whose key was read, by an answer that the engine has not taken yet.
async fn while_its_key_is_read(labelled: bool) -> World {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    if !labelled {
        let labels = json!({"metadata": {"labels": {"dps-operator.io/watch": null}}});
        world.api.apply("secrets", "edge-7-dps", labels);
        world.api.changes();
    }
    world.declare("edge-7", own("edge-7"));
    world.engine.turn(true, world.now);
    while world.messages.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.api.reads("secrets", "edge-7-dps"), 1);
    world
}

/// Also if it is by a watch of its own.
fn is_looked_at(world: &World) -> bool {
    let namespace = world.engine.fleet.names.get("fleet").unwrap();
    world.engine.sources.looks.has(&(namespace, "edge-7-dps".into()))
}

#[tokio::test]
async fn a_key_that_changes_while_it_is_read_is_read_again() {
    let mut world = while_its_key_is_read(true).await;
    world.enroll("edge-7", 3, 4);
    world.give_keys("edge-7", &key(3), &key(4));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert_eq!((world.registers(), text(&world.hub_secret("edge-7"), "sharedAccessKey")), (1, key(3)));
    assert_eq!(world.status("edge-7")["credential"]["secretResourceVersion"], world.source_version("edge-7"));
}

#[tokio::test]
async fn a_label_that_goes_while_its_secret_is_read_does_not_count() {
    let mut world = while_its_key_is_read(true).await;
    let secret = world.api.get("secrets", "edge-7-dps").unwrap();
    world.api.apply(
        "secrets",
        "edge-7-dps",
        json!({"metadata": {"labels": {"dps-operator.io/watch": null}}}),
    );
    world.api.changes();
    world.take(Message::Source(SourceWatch::Listed(SourceList::Labelled, WATCH), seen(secret, true)));
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert!(is_looked_at(&world));
}

#[tokio::test]
async fn a_secret_is_looked_at_until_it_has_our_label_and_after_it_has_lost_it() {
    let mut world = while_its_key_is_read(false).await;
    world.until_ready("edge-7").await;
    world.until_idle(0).await;
    assert!(is_looked_at(&world));
    world.give_keys("edge-7", &key(1), &key(2));
    world.until_idle(0).await;
    assert!(!is_looked_at(&world));
    world.take(Message::Source(
        SourceWatch::Listed(SourceList::Labelled, WATCH),
        crate::kube_io::watch::Observed::Forbidden,
    ));
    world.until_idle(0).await;
    assert!(is_looked_at(&world));
}

#[tokio::test]
async fn a_bad_key_in_the_other_slot_holds_nothing_up() {
    for other in [None, Some("no key at all")] {
        let mut world = World::per_device().await;
        world.enroll("edge-7", 1, 2);
        let encoded = other.map(|other| STANDARD.encode(other));
        let data = json!({"primaryKey": STANDARD.encode(key(1)), "secondaryKey": encoded});
        let labels = json!({"dps-operator.io/watch": "true"});
        let secret = json!({"metadata": {"labels": labels}, "type": "Opaque", "data": data});
        world.api.apply("secrets", "edge-7-dps", secret);
        world.deliver();
        world.declare("edge-7", own("edge-7"));
        world.until_ready("edge-7").await;
        world.until_idle(0).await;
        assert_eq!(text(&world.hub_secret("edge-7"), "sharedAccessKey"), key(1));

        world.declare("edge-7", super::in_slot("edge-7", "Secondary"));
        let reason = if other.is_some() { "KeyInvalid" } else { "KeySecretNotFound" };
        world.until_reason("edge-7", reason).await;
        assert_eq!(ready(&world, "edge-7"), json!(["True", reason]));
    }
}

#[tokio::test]
async fn a_device_that_names_the_secret_of_another_keeps_that_one_from_nothing() {
    let mut world = World::start(&[]).await;
    let mut names_it = own("reader");
    for slot in ["primaryKeyRef", "secondaryKeyRef"] {
        names_it["attestation"]["symmetricKey"][slot] =
            json!({"name": "truck-1-hub", "key": "sharedAccessKey"});
    }
    world.declare("reader", names_it);
    world.until_reason("reader", "KeySecretNotFound").await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    let secret = world.api.get("secrets", "truck-1-hub").unwrap();
    let named = world.by_its_name("truck-1-hub");
    world.take(Message::Source(named.clone(), seen(secret, false)));
    world.declare("truck-1", json!({"secret": {"format": "Files"}}));
    world.until_idle(0).await;
    world.until_ready("truck-1").await;
    world.until_reason("reader", "KeyInvalid").await;
    let message = condition(&world.status("reader"), "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("was written by this operator"), "{message}");

    world.delete("secrets", "truck-1-hub");
    let hub_secret = |world: &World| world.hub_secret("truck-1");
    world.until("it is written again", |world| hub_secret(world) != Value::Null).await;
    assert_eq!(ready(&world, "truck-1"), json!(["True", "Provisioned"]));
}

#[tokio::test]
async fn a_drift_check_that_fails_says_nothing_of_the_device() {
    let mut world = World::with_checks("edge-7").await;
    // The integration has counted it.
    world.pass(MINUTE);
    world.until_idle(0).await;
    let before = (world.writes(), world.registers());
    for status in [500, 401] {
        let fault = Fault::device("edge-7", FaultAction::status(status)).on(OperationKind::Lookup);
        world.dps.control().inject(fault).unwrap();
        let calls = world.asked();
        // Three server errors in a row would be said of the integration.
        for _ in 0..12 {
            world.pass(MINUTE);
            world.until_idle(0).await;
        }
        assert!(world.asked() > calls, "it was made");
        assert_eq!((world.writes(), world.registers()), before);
        world.dps.control().clear_faults();
    }
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
}
