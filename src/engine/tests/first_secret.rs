//! Keys that change while a device is registered for the first time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{KEY, OTHER_KEY, World};

const POLICIES: [&str; 2] = ["OnChange", "Never"];

/// DPS has a first registration with `KEY` under way, and no fleet-wide work is let go.
async fn with_a_registration_under_way(policy: &str, keys: Value) -> World {
    let mut world = World::start(&[]).await;
    let attestation = json!({"symmetricKey": keys});
    world.declare_integration(json!({"rollout": {"paused": true}, "attestation": attestation}));
    world.dps.control().set_think_time(Duration::from_secs(1));
    world.declare("truck-1", json!({"reprovision": {"policy": policy}}));
    world.until("the registration", |world| world.registers() == 1).await;
    world
}

#[tokio::test]
async fn a_registration_with_the_other_slots_key_ends_in_a_secret() {
    let mut keys = json!({
        "primaryKeyRef": {"name": "group", "key": "primaryKey"},
        "secondaryKeyRef": {"name": "group", "key": "secondaryKey"},
    });
    for policy in POLICIES {
        let mut world = with_a_registration_under_way(policy, keys.clone()).await;
        keys["active"] = json!("Secondary");
        let attestation = json!({"symmetricKey": keys});
        world.declare_integration(json!({"rollout": {"paused": true}, "attestation": attestation}));

        world.until_ready("truck-1").await;

        assert_eq!(
            (world.registers(), &world.status("truck-1")["credential"]["slot"]),
            (1, &json!("Primary"))
        );
        keys["active"] = json!("Primary");
    }
}

#[tokio::test]
async fn a_registration_with_a_key_that_is_gone_is_followed_by_one_that_waits_for_no_rollout() {
    let only = json!({"primaryKeyRef": {"name": "group", "key": "primaryKey"}, "secondaryKeyRef": null});
    for policy in POLICIES {
        let mut world = with_a_registration_under_way(policy, only.clone()).await;
        world.show_keys(OTHER_KEY, KEY);

        world.until_ready("truck-1").await;

        // With Never what the first one has brought about is taken over.
        assert_eq!(world.registers(), if policy == "Never" { 1 } else { 2 });
    }
}
