//! `rotate`: a change of the group's key with the plugin.

use serde_json::{Value, json};

use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SECONDARY_KEY, WRONG_KEY, World};

const DEVICES: usize = 4;

/// Provisioned devices of an integration with both slots, with this key in the secondary one.
async fn provisioned(secondary: &str) -> World {
    let world = World::empty().await;
    world.integration_with_both_keys(INTEGRATION, PRIMARY_KEY, secondary).await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    world.wait_counters(INTEGRATION, |counters| counters["assigned"] == DEVICES).await;
    world
}

fn active(integration: &Value) -> Value {
    integration["spec"]["attestation"]["symmetricKey"]["active"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_shown_asked_for_and_followed_to_its_end() {
    let world = provisioned(SECONDARY_KEY).await;
    let unasked = world.dps(&["rotate", "factory", "--to", "secondary"]);
    assert!(unasked.out.contains("4 devices register again"), "{unasked:?}");
    assert!(unasked.failed(2).contains("--yes"));
    assert_eq!(active(&world.get(Kind::Integration, INTEGRATION).await), "Primary");

    let said = world.dps(&["rotate", "dpsi/factory", "--to", "secondary", "--yes"]).ok();
    assert!(said.contains("All devices are registered with the Secondary key."), "{said}");
    for device in world.list(Kind::Device).await {
        assert_eq!(device["status"]["credential"]["slot"], "Secondary", "{device}");
    }
    let again = world.dps(&["rotate", "factory", "--to", "secondary"]).ok();
    assert!(again.contains("asks for the Secondary key already"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_can_be_held_and_let_go_on() {
    let world = provisioned(SECONDARY_KEY).await;
    world.dps(&["rotate", "factory", "--pause"]).ok();
    let said = world.dps(&["rotate", "factory", "--to", "secondary", "--yes", "--no-follow"]).ok();
    assert!(said.contains("spec.rollout.paused is true"), "{said}");
    world.wait(Kind::Integration, INTEGRATION, "rotating", |i| i["status"]["keyRotation"].is_object()).await;
    let shown = world.dps(&["status"]).ok();
    assert!(shown.contains("0/4 to Secondary, paused by"), "{shown}");
    world.dps(&["rotate", "factory", "--resume"]).ok();
    world.dps(&["rotate", "factory", "--to", "secondary"]).ok();
    world.wait_moved(DEVICES, "Secondary", SECONDARY_KEY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_cannot_be_is_refused_and_one_that_dps_refuses_is_said() {
    let world = World::accepted().await;
    assert!(
        world
            .dps(&["rotate", "factory", "--to", "secondary", "--yes"])
            .failed(1)
            .contains("no secondary slot")
    );
    assert!(world.dps(&["rotate", "device/first", "--pause"]).failed(2).contains("is a device"));

    let world = provisioned(WRONG_KEY).await;
    let said = world.dps(&["rotate", "factory", "--to", "secondary", "--yes"]).failed(1);
    assert!(said.contains("DPS refuses the Secondary key"), "{said}");
    let back = json!({"attestation": {"symmetricKey": {"active": "Primary"}}});
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": back})).await;
    world.wait_moved(DEVICES, "Primary", PRIMARY_KEY).await;
}
