//! Prefixes of registration ids that were stored before the API server refused them.

use serde_json::{Value, json};

use super::World;

fn notes(world: &World) -> Vec<String> {
    let events = world.api.names("events").into_iter().filter_map(|name| world.api.get("events", &name));
    let outdated = events.filter(|event| event["reason"] == "PrefixOutdated");
    let note = |event: Value| {
        assert_eq!(event["type"], "Warning");
        event["note"].as_str().unwrap_or_default().to_owned()
    };
    outdated.map(note).collect()
}

#[tokio::test]
async fn a_stored_prefix_that_mixes_namespaces_up_goes_on_and_is_warned_of_once() {
    let mut world = World::start(&[]).await;
    world.until_idle(0).await;
    assert_eq!(notes(&world), [""; 0]);

    world.declare_integration(json!({"registrationIdPrefixes": ["{namespace}-"]}));
    world.declare("fleet-1", json!({}));
    world.until_ready("fleet-1").await;
    world.declare("fleet-2", json!({}));
    world.until_ready("fleet-2").await;
    world.until_idle(0).await;

    let said = notes(&world);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("\"{namespace}-\"") && said[0].contains("as it is"), "{said:?}");
    world.declare_integration(json!({"registrationIdPrefixes": ["Fleet"]}));
    world.until("it is said of the next one", |world| notes(world).len() == 2).await;
    world.declare_integration(json!({"registrationIdPrefixes": ["fleet-"]}));
    world.until_idle(0).await;
    assert_eq!(notes(&world).len(), 2);
}
