//! The Secret with an integration's group key.

use serde_json::json;

use crate::world::objects::is_ready;
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SECONDARY_KEY, World, condition, manifests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_secret_may_be_created_later_and_deleted_again() {
    let world = World::empty().await;
    world.integration_without_key(INTEGRATION, json!({})).await;
    world.devices("truck", 3).await;
    let integration = world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "KeySecretNotFound");
    assert!(condition(&integration, "Ready").unwrap().message.contains("factory-key"));

    world.group_key("factory-key", PRIMARY_KEY).await;

    world.wait_integration(INTEGRATION, "Available").await;
    world.wait_all_ready(3).await;

    world.delete(Kind::Secret, "factory-key").await;

    world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert!(world.list(Kind::Device).await.iter().all(is_ready), "provisioned devices are not affected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_key_is_reported_differently_from_a_missing_one_and_never_shown() {
    let world = World::empty().await;
    world.create(Kind::Secret, manifests::secret("factory-key", &[("other", PRIMARY_KEY)])).await;
    world.integration_without_key(INTEGRATION, json!({})).await;
    let integration = world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert!(condition(&integration, "Ready").unwrap().message.contains("primaryKey"));

    let cut_off = &PRIMARY_KEY[..PRIMARY_KEY.len() - 1];
    let too_short = "ZWxldmVuIGJ5dGVz";
    let too_long = PRIMARY_KEY.repeat(2);
    let two_lines = format!("{PRIMARY_KEY}\n{PRIMARY_KEY}");
    for bad in ["", "!!! this is not base64 !!!", cut_off, too_short, &too_long, &two_lines] {
        world.change_group_key("factory-key", bad).await;
        let integration = world.wait_integration(INTEGRATION, "KeyInvalid").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "KeyInvalid", "{bad:?}");
        let message = condition(&integration, "Ready").unwrap().message;
        assert!(!message.contains("this is not") && !message.contains(&PRIMARY_KEY[..12]), "{message}");
        // Corrected in between, so that each of them has to be noticed.
        world.change_group_key("factory-key", PRIMARY_KEY).await;
        world.wait_integration(INTEGRATION, "Available").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trailing_newline_in_the_key_is_ignored() {
    let world = World::empty().await;
    world.group_key("factory-key", &format!("{PRIMARY_KEY}\n")).await;
    world.integration_without_key(INTEGRATION, json!({})).await;

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    assert!(world.hub_accepts("truck-1", "truck-1-hub").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_secret_is_refused_as_a_group_key() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.mark().await;

    let key = json!({"name": "truck-1-hub", "key": "sharedAccessKey"});
    let spec = json!({"attestation": {"symmetricKey": {"primaryKeyRef": key}}});
    world.integration_without_key("feedback", spec).await;
    world.device_with("truck-2", json!({"integrationRef": {"name": "feedback"}})).await;

    let integration = world.wait_integration("feedback", "KeyInvalid").await;
    assert!(condition(&integration, "Ready").unwrap().message.contains("truck-1-hub"));
    assert_eq!(world.ledger_since(before), []);
}

/// The operator watches the first 96 objects that integrations refer to and reads the others now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn integrations_work_also_beyond_the_number_of_keys_that_the_operator_watches() {
    const INTEGRATIONS: usize = 140;
    let world = World::empty().await;

    for number in 1..=INTEGRATIONS {
        let name = format!("factory-{number}");
        world.integration(&name).await;
        world.device_with(&format!("truck-{number}"), json!({"integrationRef": {"name": name}})).await;
    }

    world.wait_all_ready(INTEGRATIONS).await;
    assert_eq!(world.registers(), INTEGRATIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_secret_that_is_named_later_is_read_and_two_integrations_may_name_different_ones() {
    let world = World::empty().await;
    let both = [("mine", PRIMARY_KEY), ("theirs", SECONDARY_KEY)];
    world.create(Kind::Secret, manifests::secret("shared", &both)).await;
    let naming = |key: &str| {
        let reference = json!({"name": "shared", "key": key});
        json!({"attestation": {"symmetricKey": {"primaryKeyRef": reference}}})
    };
    world.integration_without_key(INTEGRATION, naming("neither")).await;
    world.wait_integration(INTEGRATION, "KeySecretNotFound").await;

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": naming("mine")})).await;
    world.integration_without_key("other", naming("theirs")).await;

    for integration in [INTEGRATION, "other"] {
        world.wait_integration(integration, "Available").await;
        let device = format!("of-{integration}");
        let reference = json!({"integrationRef": {"name": integration}});
        world.device_with(&device, reference).await;
        world.wait_ready(&device).await;
        assert!(world.hub_accepts(&device, &format!("{device}-hub")).await || integration == "other");
    }
}
