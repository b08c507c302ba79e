//! Devices that claim one registration id: any number, of any integration in any namespace.

use serde_json::{Value, json};

use super::vouching::MINUTE;
use super::{HUBS, OTHER_SCOPE, SCOPE, World, seen};
use crate::controller::device::decide::IdStanding;
use crate::engine::Message;
use crate::engine::integrations::Change;
use crate::fleet::registration::Registration;
use crate::kube_io::watch::Observed;

const SHARED: &str = "fleet.shared";

impl World {
    /// The devices that are reconciled next.
    fn woken(&self) -> Vec<String> {
        let fleet = &self.engine.fleet;
        let woken = fleet.iter().filter(|(id, _)| self.engine.ready.is_ready(*id));
        let mut names: Vec<_> = woken.map(|(_, record)| record.name.to_string()).collect();
        names.sort();
        names
    }

    /// Two integrations of one id scope that DPS has accepted. A device of the first one is registered,
    /// and four of the second wait behind it for its registration id.
    async fn with_rivals() -> Self {
        let mut world = Self::start(&[]).await;
        world.declare_integration_named("second", json!({}));
        world.declare("warm", json!({"integrationRef": {"name": "second"}}));
        world.declare("holder", json!({"registrationId": SHARED}));
        world.until_ready("warm").await;
        world.until_ready("holder").await;
        for number in 1..=4 {
            let claim = json!({"registrationId": SHARED, "integrationRef": {"name": "second"}});
            world.declare(&format!("rival-{number}"), claim);
        }
        world.until_reason("rival-4", "DuplicateRegistrationId").await;
        world.until_idle(0).await;
        assert_eq!((world.woken(), world.registers()), (vec![], 2));
        world
    }

    fn show_labels(&mut self, namespace: &str, labels: Value) {
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        self.take(Message::Namespace(seen(object, false)));
    }
}

#[tokio::test]
async fn an_event_of_one_device_wakes_only_the_one_that_would_have_the_id_without_it() {
    let mut world = World::with_rivals().await;
    for (edited, woken) in [("rival-3", &["rival-3"][..]), ("holder", &["holder", "rival-1"])] {
        world.api.apply("provisioneddevices", edited, json!({"metadata": {"labels": {"edited": "1"}}}));
        world.deliver();
        assert_eq!(world.woken(), woken);
        world.until_idle(0).await;
    }

    world.delete("provisioneddevices", "rival-2");
    assert_eq!(world.woken(), [""; 0]);
    world.delete("provisioneddevices", "holder");
    assert_eq!(world.woken(), ["rival-1"]);

    world.until_ready("rival-1").await;
    world.until_idle(0).await;
    assert_eq!(world.registers(), 3);
    assert_eq!(["rival-3", "rival-4"].map(|name| world.reason(name)), ["DuplicateRegistrationId"; 2]);
}

#[tokio::test]
async fn one_scope_in_two_spellings_has_each_id_once() {
    let mut world = World::start(&[]).await;
    world.declare_integration_named("second", json!({"idScope": SCOPE.to_ascii_lowercase()}));
    world.declare("warm", json!({"integrationRef": {"name": "second"}}));
    world.declare("holder", json!({"registrationId": SHARED}));
    world.until_ready("warm").await;
    world.until_ready("holder").await;
    world.declare("rival", json!({"registrationId": SHARED, "integrationRef": {"name": "second"}}));
    world.until_reason("rival", "DuplicateRegistrationId").await;
}

#[tokio::test]
async fn whatever_takes_the_id_from_its_holder_gives_it_to_the_next() {
    type Make = fn(&mut World);
    let changes: [(&str, Make); 6] = [
        ("another id", |w| w.declare("holder", json!({"registrationId": "another"}))),
        ("another integration", |w| w.declare("holder", json!({"integrationRef": {"name": "third"}}))),
        ("no integration", |w| w.delete("dpsintegrations", "factory")),
        ("another scope", |w| w.declare_integration(json!({"idScope": OTHER_SCOPE}))),
        ("no such prefix", |w| w.declare_integration(json!({"registrationIdPrefixes": ["truck-"]}))),
        ("no such prefix of one that cannot be used", |w| {
            let nothing =
                json!({"symmetricKey": {"primaryKeyRef": {"name": "nothing", "key": "primaryKey"}}});
            w.declare_integration(json!({"attestation": nothing}));
            w.declare_integration(json!({"attestation": nothing, "registrationIdPrefixes": ["truck-"]}));
        }),
    ];
    for (what, make) in changes {
        let mut world = World::with_rivals().await;

        make(&mut world);

        let rivals = world.woken().into_iter().filter(|name| name.starts_with("rival"));
        assert!(rivals.eq(["rival-1"]), "{what}");
        world.until_ready("rival-1").await;
    }
}

#[tokio::test]
async fn the_id_of_a_namespace_that_is_no_longer_admitted_goes_to_the_next() {
    let admits = |labels: Value| {
        let selector = json!({"matchLabels": labels});
        json!({"allowedNamespaces": {"from": "Selector", "selector": selector, "registrationIdPrefixes": [""]}})
    };
    type Make = fn(&mut World);
    let changes: [(&str, Make); 2] = [
        ("labels", |w| w.show_labels("tenant", json!({}))),
        ("selector", |w| w.declare_integration(json!({"allowedNamespaces": {"from": "Same"}}))),
    ];
    for (what, make) in changes {
        let mut world = World::start(&[]).await;
        world.declare_integration(admits(json!({"of": "us"})));
        world.take(Message::Namespace(Observed::Listed));
        world.show_labels("tenant", json!({"of": "us"}));
        let claim =
            json!({"integrationRef": {"namespace": "fleet", "name": "factory"}, "registrationId": SHARED});
        world.api.apply("provisioneddevices", "tenant/holder", json!({"spec": claim}));
        world.api.apply("provisioneddevices", "tenant/other", json!({"spec": claim}));
        world.deliver();
        world.until_ready("tenant/holder").await;
        for device in ["rival-1", "rival-2"] {
            world.declare(device, json!({"registrationId": SHARED}));
            world.until_reason(device, "DuplicateRegistrationId").await;
        }
        world.until_idle(0).await;

        make(&mut world);

        world.until_ready("rival-1").await;
        world.until_idle(0).await;
        assert_eq!(world.reason("rival-2"), "DuplicateRegistrationId", "{what}");
        // And back again: both are registered, and the older one has it.
        world.declare_integration(admits(json!({"of": "us"})));
        world.show_labels("tenant", json!({"of": "us"}));
        world.until_reason("rival-1", "DuplicateRegistrationId").await;
    }
}

#[tokio::test]
async fn when_only_claims_count_otherwise_the_devices_that_lead_are_woken() {
    let mut world = World::with_rivals().await;
    let second = world.engine.fleet.names.get("fleet/second").unwrap();

    world.engine.apply(second, &Change { claims: true, ..Change::default() }, world.now);

    assert_eq!(world.woken(), ["holder", "rival-1"]);
}

#[tokio::test]
async fn that_a_device_is_registered_or_not_wakes_the_one_that_has_the_id_otherwise() {
    let mut world = World::with_rivals().await;
    let find = |world: &World, name: &str| world.engine.fleet.find("fleet", name).unwrap();
    for (device, registration, woken) in
        [("holder", Registration::None, "rival-1"), ("rival-1", Registration::Known, "holder")]
    {
        let (id, other) = (find(&world, device), find(&world, woken));

        world.engine.set_registered(id, registration);

        assert_eq!(world.woken(), [woken]);
        world.engine.ready.forget(other);
    }
    let standings = ["holder", "rival-1"].map(|name| world.engine.standing(find(&world, name)));
    assert_eq!(standings, [IdStanding::Taken, IdStanding::Free]);
}

#[tokio::test]
async fn a_status_alone_takes_no_id_from_a_device_that_is_registered() {
    for restart in [false, true] {
        let mut world = World::start(&[]).await;
        let older = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {
            "integrationRef": {"name": "factory"}, "registrationId": "truck-1", "suspend": true,
        }});
        world.api.apply("provisioneddevices", "older", older);
        world.declare("truck-1", json!({}));
        world.until_ready("truck-1").await;
        world.declare("older", json!({"suspend": false, "registrationId": "truck-1"}));
        world.until_reason("older", "DuplicateRegistrationId").await;
        world.until_idle(0).await;
        let calls = world.dps.control().ledger_len();

        let lie = json!({"assignedHub": HUBS[0], "deviceId": "truck-1", "idScope": SCOPE, "registrationId": "truck-1"});
        world.api.apply("provisioneddevices", "older", json!({"status": lie}));
        if restart {
            world.restart();
        }
        world.deliver();
        for _ in 0..3 {
            world.until_idle(0).await;
            world.pass(MINUTE);
        }

        assert_eq!(world.reason("truck-1"), "Provisioned", "{restart}");
        assert_eq!(world.reason("older"), "DuplicateRegistrationId", "{restart}");
        assert_eq!(world.dps.control().ledger_len(), calls);
    }
}

#[tokio::test]
async fn a_registration_in_one_id_scope_takes_no_id_in_another() {
    type Move = fn(&mut World);
    let moves: [(&str, Move); 2] = [
        ("the device", |w| w.declare("older", json!({"registrationId": "truck-1"}))),
        ("its integration", |w| w.declare_integration_named("second", json!({"idScope": SCOPE}))),
    ];
    for (what, make) in moves {
        for restart in [false, true] {
            let mut world = World::start(&[]).await;
            world.declare_integration_named("second", json!({"idScope": OTHER_SCOPE}));
            let older = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {
                "integrationRef": {"name": "second"}, "registrationId": "truck-1",
            }});
            world.api.apply("provisioneddevices", "older", older);
            world.declare("truck-1", json!({}));
            world.until_ready("truck-1").await;
            world.until_ready("older").await;
            world.until_idle(0).await;

            make(&mut world);
            if restart {
                world.restart();
            }
            world.declare("another", json!({"integrationRef": {"name": "second"}}));
            world.until_ready("another").await;
            for _ in 0..3 {
                world.until_idle(0).await;
                world.pass(MINUTE);
            }

            let reasons = ["truck-1", "older"].map(|name| world.reason(name));
            assert_eq!(reasons, ["Provisioned", "DuplicateRegistrationId"], "{what} is moved, {restart}");
        }
    }
}
