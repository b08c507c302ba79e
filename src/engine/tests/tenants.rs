//! Devices of another namespace, which an integration does not admit.

use std::time::Duration;

use serde_json::{Value, json};

use super::{World, condition};
use crate::engine::party;

const SECOND: Duration = Duration::from_secs(1);

/// A device in namespace `tenant` that refers to an integration in `fleet`.
fn stranger(world: &mut World, name: &str, integration: &str, change: Value) {
    let mut spec = json!({"integrationRef": {"namespace": "fleet", "name": integration}});
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    world.api.apply("provisioneddevices", &format!("tenant/{name}"), json!({"spec": spec}));
    world.deliver();
}

fn events_of(world: &World, reason: &str) -> Vec<Value> {
    let all = world.api.names("events").into_iter().map(|name| world.api.get("events", &name).unwrap());
    all.filter(|event| event["reason"] == reason).collect()
}

#[tokio::test]
async fn an_integration_that_is_not_for_them_looks_to_all_as_if_there_were_none_also_in_time() {
    let mut world = World::start(&[]).await;
    world.api.apply("dpsintegrations", "deleted", json!({"spec": {"idScope": "0ne1", "attestation": {}}}));
    world.deliver();
    world.delete("dpsintegrations", "deleted");
    world.declare_integration(json!({"suspend": true}));
    world.until_idle(0).await;
    // In trouble for long.
    world.pass(SECOND * 3600);
    for integration in ["factory", "deleted", "missing"] {
        stranger(&mut world, &format!("to-{integration}"), integration, json!({}));
    }
    world.until_idle(0).await;
    let untold = |world: &World| {
        ["factory", "deleted", "missing"].map(|name| world.reason(&format!("tenant/to-{name}")))
    };

    world.pass(SECOND * 15);
    // What happens to the integration is nothing to them.
    world.declare_integration(json!({"suspend": true, "rateLimit": {"registrationsPerMinute": 7}}));
    world.until_idle(0).await;
    world.pass(SECOND * 14);
    world.until_idle(0).await;
    assert_eq!(untold(&world), ["", "", ""]);
    world.pass(SECOND * 2);
    world.until_idle(0).await;
    // One after the other.
    world.pass(SECOND);
    world.until_reason("tenant/to-missing", "ReferenceNotAllowed").await;
    world.until_idle(0).await;

    assert_eq!(untold(&world), ["ReferenceNotAllowed"; 3]);
    // But for the name that they wrote themselves.
    let said = |integration: &str| {
        let message =
            condition(&world.status(&format!("tenant/to-{integration}")), "Ready")["message"].to_string();
        assert!(message.contains(&format!("{integration}\\\"")), "{message}");
        message.replacen(integration, "it", 1)
    };
    assert!(said("factory") == said("missing") && said("deleted") == said("missing"));
}

#[tokio::test]
async fn the_cost_of_a_device_is_borne_by_its_namespace_with_its_integration() {
    let mut world = World::start(&[]).await;
    for (name, integration) in [("a", "factory"), ("b", "factory"), ("c", "other")] {
        world.declare(name, json!({"integrationRef": {"name": integration}}));
    }
    stranger(&mut world, "d", "factory", json!({}));
    let party = |namespace: &str, name: &str| {
        party(&world.engine.fleet, world.engine.fleet.find(namespace, name).unwrap())
    };
    let [a, b, c, d] =
        [("fleet", "a"), ("fleet", "b"), ("fleet", "c"), ("tenant", "d")].map(|(of, name)| party(of, name));
    assert_eq!(a, b);
    assert!(a.namespace == c.namespace && a.integration != c.integration, "{a:?} {c:?}");
    assert!(a.namespace != d.namespace && a.integration == d.integration, "{a:?} {d:?}");
}

#[tokio::test]
async fn a_registration_id_is_not_taken_by_a_device_that_is_not_admitted_or_may_not_have_it() {
    for allowed in [None, Some(json!({"from": "All", "registrationIdPrefixes": ["{namespace}."]}))] {
        let mut world = World::start(&[]).await;
        if let Some(allowed) = allowed {
            world.declare_integration(json!({"allowedNamespaces": allowed}));
        }
        world.declare("first", json!({}));
        world.until_ready("first").await;
        // The older one, and somebody has written into its status that it is registered.
        stranger(&mut world, "squatter", "factory", json!({"registrationId": "fleet.truck"}));
        let forged =
            json!({"assignedHub": super::HUBS[0], "registrationId": "fleet.truck", "observedGeneration": 1});
        world.api.apply("provisioneddevices", "tenant/squatter", json!({"status": forged}));
        world.deliver();
        world.until_idle(0).await;

        world.declare("truck", json!({"registrationId": "fleet.truck"}));

        world.until_ready("truck").await;
        assert_eq!(world.registers(), 2);
    }
}

#[tokio::test]
async fn events_of_strangers_use_up_only_their_own() {
    let mut world = World::start(&[]).await;
    for number in 0..40 {
        stranger(&mut world, &format!("stranger-{number}"), "factory", json!({}));
    }
    world.until_idle(0).await;
    world.pass(SECOND * 31);
    world.until_idle(0).await;
    world.pass(SECOND);
    world.until_reason("tenant/stranger-39", "ReferenceNotAllowed").await;
    world.until_idle(0).await;
    world.until("events", |world| events_of(world, "ReferenceNotAllowed").len() == 30).await;
    assert_eq!(events_of(&world, "EventsHeldBack").len(), 0, "the integration has nothing to do with them");

    world.declare("large", json!({"payload": {"text": "x".repeat(66_000)}}));
    world.until_reason("large", "InvalidConfiguration").await;

    world.until("an event", |world| events_of(world, "InvalidConfiguration").len() == 1).await;
}

#[tokio::test]
async fn events_of_one_admitted_tenant_do_not_use_up_those_of_others() {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"allowedNamespaces": {"from": "All", "registrationIdPrefixes": [""]}}));
    let large = json!({"payload": {"text": "x".repeat(66_000)}});
    for number in 0..40 {
        stranger(&mut world, &format!("large-{number}"), "factory", large.clone());
    }
    world.until_reason("tenant/large-39", "InvalidConfiguration").await;
    world.until("all are told", |world| events_of(world, "EventsHeldBack").len() == 1).await;

    world.declare("own", large);
    world.until_reason("own", "InvalidConfiguration").await;

    let about_own = |event: &Value| event["regarding"]["name"] == "own";
    world.until("an event", |world| events_of(world, "InvalidConfiguration").iter().any(about_own)).await;
}

#[tokio::test]
async fn names_that_devices_once_had_are_not_kept_and_those_in_use_stay() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.declare_integration_named("spent", json!({}));
    world.delete("dpsintegrations", "spent");
    world.pass(SECOND * 300);
    world.until_idle(0).await;
    assert_eq!(world.engine.registry.known().count(), 1);
    let nothing = json!({"symmetricKey": {"primaryKeyRef": {"name": "nothing", "key": "primaryKey"}}});
    world.declare_integration_named("unusable", json!({"attestation": nothing}));
    stranger(&mut world, "gone", "factory", json!({}));
    world.delete("provisioneddevices", "tenant/gone");
    // The permits that the third had used are remembered until others need their place, and that a
    // device of the tenant is gone until the namespace has been looked at.
    let in_use = ["fleet", "fleet/factory", "fleet/spent", "fleet/unusable", "tenant"];
    let stand = |world: &World| in_use.map(|name| world.engine.fleet.names.get(name).unwrap());
    let before = stand(&world);
    let text = |world: &World, name: &str| {
        let names = &world.engine.fleet.names;
        names.get(name).map(|sym| names.text(sym).to_owned())
    };
    for number in 0..5000 {
        let name = format!("{:0>60}", number);
        stranger(&mut world, "once", &name, json!({}));
        world.delete("provisioneddevices", "tenant/once");
        if number % 500 == 0 {
            world.until_idle(0).await;
        }
    }
    world.until_idle(0).await;

    let kept = (0..5000).filter(|number| text(&world, &format!("fleet/{number:0>60}")).is_some()).count();
    assert!(kept <= 1100, "{kept}");
    assert_eq!(stand(&world), before);
    world.declare("truck-2", json!({}));
    world.until_ready("truck-2").await;
}

#[tokio::test]
async fn many_devices_of_one_namespace_make_no_other_wait_in_an_integration_that_admits_both() {
    let mut world = World::start(&["--registrations-per-minute=60"]).await;
    let all = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.declare_integration(json!({"allowedNamespaces": all}));
    world.declare("warm", json!({}));
    world.until_ready("warm").await;
    for number in 0..200 {
        stranger(&mut world, &format!("many-{number}"), "factory", json!({}));
    }
    world.until_idle(0).await;

    world.declare("late", json!({}));
    for _ in 0..4 {
        world.until_idle(0).await;
        world.pass(SECOND);
    }

    world.until_idle(0).await;
    assert_eq!(world.reason("late"), "Provisioned");
    assert!(world.registers() < 50);
}
