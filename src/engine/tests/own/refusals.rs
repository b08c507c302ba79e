//! What DPS says of one device's own key is said of no other.

use std::time::Duration;

use serde_json::json;

use super::super::{KEY, OTHER_KEY, SCOPE, World};
use super::{MINUTE, key, own, ready};

#[tokio::test]
async fn devices_with_wrong_keys_condemn_neither_their_integration_nor_each_other() {
    let mut world = World::per_device().await;
    for number in 0..5 {
        let name = format!("wrong-{number}");
        world.enroll(&name, 1, 2);
        world.give_keys(&name, &key(9), &key(9));
        world.declare(&name, own(&name));
    }
    // One at a time while DPS has accepted none.
    for _ in 0..20 {
        world.pass(Duration::from_secs(10));
        world.until_idle(0).await;
    }
    for number in 0..5 {
        let name = format!("wrong-{number}");
        assert_eq!(ready(&world, &name), json!(["False", "Unauthorized"]), "{name}");
    }
    assert_eq!(world.integration_reason(), "Available");
    let mut world = world.with_own("edge-7").await;
    world.until_idle(0).await;
    assert_eq!(world.integration_reason(), "Available");

    world.give_keys("wrong-0", &key(1), &key(2));
    world.until_ready("wrong-0").await;
}

#[tokio::test]
async fn a_refused_device_says_which_secret_holds_its_key() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(9), &key(9));
    world.declare("edge-7", own("edge-7"));
    world.until_reason("edge-7", "Unauthorized").await;
    let status = world.status("edge-7");
    let message = super::condition(&status, "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("individual enrollment") && !message.contains("group's key"), "{message}");
    let credential = &status["credential"];
    assert_eq!(credential["secretResourceVersion"], world.source_version("edge-7"));
    assert_eq!((&credential["secretName"], &credential["fingerprint"]), (&json!("edge-7-dps"), &json!(null)));

    // Touched, and the same key: it is not tried again for that, and not by a new process, either.
    let touched = json!({"metadata": {"annotations": {"example.com/touched": "1"}}});
    for restart in [false, true] {
        world.until_idle(0).await;
        let calls = world.asked();
        world.api.apply("secrets", "edge-7-dps", touched.clone());
        world.deliver();
        world.until_idle(0).await;
        if restart {
            world.restart();
            world.until_idle(0).await;
        }
        assert_eq!(world.asked(), calls, "{restart}");
    }

    // A new process does not forget how long it was to wait, if it is the very version that was refused.
    world.pass(MINUTE * 2);
    world.until_idle(0).await;
    world.give_keys("edge-7", &key(8), &key(8));
    world.until_idle(0).await;
    world.until_idle(0).await;
    let calls = world.asked();
    world.restart();
    world.until_idle(0).await;
    assert_eq!(world.asked(), calls);
}

#[tokio::test]
async fn refused_devices_of_a_group_condemn_no_device_with_its_own_key_nor_does_it_vouch_for_them() {
    let mut world = World::start(&[]).await;
    let wrong = "d3JvbmctZ3JvdXAta2V5LW9mLWFuLWludGVncmF0aW9u";
    world.show_keys(wrong, wrong);
    for number in 0..3 {
        world.declare(&format!("truck-{number}"), json!({}));
    }
    world.until("the key is refused", |world| world.integration_reason() == "Unauthorized").await;
    for _ in 0..8 {
        world.pass(Duration::from_secs(5));
        world.until_idle(0).await;
    }
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    world.declare("edge-7", own("edge-7"));
    // Six calls a minute are made in all while DPS has not accepted the integration.
    for _ in 0..12 {
        world.pass(Duration::from_secs(5));
        world.until_idle(0).await;
        assert_ne!(world.reason("edge-7"), "IntegrationNotReady", "it waits for its turn and nothing else");
    }
    assert_eq!(ready(&world, "edge-7"), json!(["True", "Provisioned"]));
    world.until_idle(0).await;
    assert_eq!(world.integration_reason(), "Unauthorized", "it says nothing of the group's key");
    assert_eq!(world.integration()["acceptedIdScope"], json!(null));

    world.show_keys(KEY, OTHER_KEY);
    world.pass(MINUTE);
    world.until_ready("truck-0").await;
    assert_eq!(world.integration()["acceptedIdScope"], SCOPE);
}

#[tokio::test]
async fn one_refusal_of_a_healthy_device_leaves_the_others_alone() {
    let mut world = World::per_device().await.with_own("edge-1").await.with_own("edge-2").await;
    world.until_idle(0).await;
    world.enroll("edge-1", 5, 6);
    world.api.apply(
        "provisioneddevices",
        "edge-1",
        json!({"metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": "now"}}}),
    );
    world.deliver();
    world.until_reason("edge-1", "Unauthorized").await;
    world.until_idle(0).await;
    assert_eq!(ready(&world, "edge-1"), json!(["True", "Unauthorized"]));
    assert_eq!(world.integration_reason(), "Available");
    world.declare("edge-2", json!({"payload": {"a": 1}}));
    world.pass(MINUTE);
    world.until_ready("edge-2").await;
    let mut world = world.with_own("edge-3").await;
    world.pass(MINUTE);
    world.until_idle(0).await;
    assert_eq!(world.integration()["devices"]["total"], 3);
}

/// DPS may say of a device that it does not know what it says of a wrong key.
#[tokio::test]
async fn a_device_that_is_looked_up_first_and_is_refused_is_registered() {
    let mut world = World::per_device().await;
    world.enroll("edge-7", 1, 2);
    world.give_keys("edge-7", &key(1), &key(2));
    let unauthorized =
        dps_simulator::FaultAction::Status { status: 401, retry_after: None, error_code: Some(401_002) };
    let lookup =
        dps_simulator::Fault::device("edge-7", unauthorized).on(dps_simulator::OperationKind::Lookup);
    world.dps.control().inject(lookup.times(1)).unwrap();
    let mut spec = own("edge-7");
    spec["registration"] = json!({"onCreate": "LookupFirst"});
    world.declare("edge-7", spec);
    world.until_idle(0).await;
    world.pass(Duration::from_secs(10));
    world.until_ready("edge-7").await;
    assert_eq!(world.registers(), 1);
}
