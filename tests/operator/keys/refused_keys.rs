//! The group key is wrong: a handful of refusals, not one per device.

use serde_json::{Value, json};

use crate::world::objects::{identity, is_observed, ready_reason};
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, WRONG_KEY, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_costs_three_refusals_and_mending_it_makes_all_ready() {
    const DEVICES: usize = 30;
    let world = World::empty().await;
    world.group_key("factory-key", WRONG_KEY).await;
    world.integration_without_key(INTEGRATION, json!({})).await;

    world.devices("truck", DEVICES).await;

    let integration = world.wait_integration(INTEGRATION, "Unauthorized").await;
    assert_eq!(condition(&integration, "Stalled").unwrap().reason, "Unauthorized");
    assert!(condition(&integration, "Ready").unwrap().message.contains("401002"), "DPS's own code");
    world.wait_counters(INTEGRATION, |devices| devices["failed"] == 3 && devices["pending"] == 27).await;
    assert_eq!(world.registers(), 3);
    assert!(world.generated_secrets().await.is_empty());
    let told =
        world.list(Kind::Device).await.iter().filter(|device| !ready_reason(device).is_empty()).count();
    assert_eq!(told, 3, "the others only wait");

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    world.wait_all_ready(DEVICES).await;
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    assert!(condition(&integration, "Stalled").is_none());
    assert_eq!(world.registers(), 3 + DEVICES);
    world.assert_only_device_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_device_says_what_a_401_may_mean_and_keeps_dpss_answer() {
    let world = World::empty().await;
    world.group_key("factory-key", WRONG_KEY).await;
    world.integration_without_key(INTEGRATION, json!({})).await;

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "Unauthorized").await;
    let message = condition(&device, "Ready").unwrap().message;
    for cause in ["key is wrong", "enrollment is gone", "IP filter", "clock"] {
        assert!(message.contains(cause), "{cause}: {message}");
    }
    assert_eq!(condition(&device, "Stalled").unwrap().reason, "Unauthorized");
    assert_eq!(condition(&device, "Registered").unwrap().reason, "Unauthorized");
    let error = &device["status"]["lastError"];
    assert_eq!((&error["httpStatus"], &error["code"]), (&json!(401), &json!(401_002)));
    assert!(error["trackingId"].is_string() && error["time"].is_string());
    assert_eq!(device["status"]["attempts"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_pasted_over_a_good_one_leaves_the_fleet_as_it_is() {
    const DEVICES: usize = 12;
    let mut world = World::start().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    // A key that is not accepted yet has six calls a minute; the first device has spent one of them.
    world.restart_operator().await;
    let secrets: Vec<_> = world.generated_secrets().await.iter().map(identity).collect();
    let before = world.registers();

    world.change_group_key("factory-key", WRONG_KEY).await;

    world.wait_integration(INTEGRATION, "Unauthorized").await;
    let refused = json!([{"reason": "Unauthorized", "devices": 3}]);
    let counted = |integration: &Value| integration["status"]["failures"] == refused;
    world.wait(Kind::Integration, INTEGRATION, "three failures", counted).await;
    assert_eq!(world.registers(), before + 3);
    let devices = world.list(Kind::Device).await;
    assert!(devices.iter().all(|device| condition(device, "Ready").unwrap().is_true()));
    let after: Vec<_> = world.generated_secrets().await.iter().map(identity).collect();
    assert_eq!(after, secrets);

    world.change_group_key("factory-key", PRIMARY_KEY).await;

    world.wait_integration(INTEGRATION, "Available").await;
    let counted = |integration: &Value| integration["status"]["failures"].is_null();
    world.wait(Kind::Integration, INTEGRATION, "no failures", counted).await;
    assert_eq!(world.registers(), before + 3, "the key they were registered with is back: nothing to do");
    let after: Vec<_> = world.generated_secrets().await.iter().map(identity).collect();
    assert_eq!(after, secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_integration_of_the_same_scope_is_not_held_up_by_a_wrong_key() {
    let world = World::start().await;
    world.group_key("stranger-key", WRONG_KEY).await;
    world.integration_without_key("stranger", json!({})).await;
    let stranger = json!({"integrationRef": {"name": "stranger"}});
    world.device_with("imposter", stranger).await;
    world.wait_reason("imposter", "Unauthorized").await;

    world.devices("truck", 5).await;
    // The same registration id does not make it a rival, either: only accepted integrations count.
    let rival = json!({"integrationRef": {"name": "stranger"}, "registrationId": "truck-1"});
    world.device_with("rival", rival).await;

    world.wait_reason("rival", "Unauthorized").await;
    for name in ["truck-1", "truck-2", "truck-3", "truck-4", "truck-5"] {
        world.wait_ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_integration_whose_key_is_refused_does_not_seem_well_when_it_is_suspended() {
    let world = World::empty().await;
    world.group_key("factory-key", WRONG_KEY).await;
    world.integration_without_key(INTEGRATION, json!({})).await;
    world.device("truck-1").await;
    world.wait_integration(INTEGRATION, "Unauthorized").await;

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"suspend": true}})).await;

    let refused = |integration: &Value| {
        let ready = condition(integration, "Ready").unwrap();
        assert_eq!((ready.reason.as_str(), ready.is_true()), ("Unauthorized", false));
        is_observed(integration)
    };
    world.wait(Kind::Integration, INTEGRATION, "looked at", refused).await;
    // Its status is written once more for another reason.
    world.device("truck-2").await;
    let counted =
        |integration: &Value| refused(integration) && integration["status"]["devices"]["total"] == 2;
    let integration = world.wait(Kind::Integration, INTEGRATION, "counted", counted).await;
    assert_eq!(condition(&integration, "Stalled").unwrap().reason, "Unauthorized");
    assert_eq!(world.registers(), 1);
}
