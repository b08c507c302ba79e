//! A registration id goes to another device and comes back: what was known of the first one is not what DPS holds
//! any more.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind};
use serde_json::{Value, json};

use super::{HUBS, SCOPE, World};

const LONG_AFTER: Duration = Duration::from_secs(2 * 3600);

fn of_site(site: &str) -> Value {
    json!({"payload": {"site": site}})
}

impl World {
    /// `truck-1` was registered, and declared again while its Secret was still there; meanwhile `rival` has
    /// registered the same id with a payload of its own.
    async fn displaced(policy: &str) -> Self {
        let mut world = Self::start(&["--registrations-per-minute=1000000"]).await;
        world.declare("truck-1", of_site("a"));
        world.until_ready("truck-1").await;
        world.pass(Duration::from_secs(1));
        world.declare("rival", json!({"registrationId": "truck-1", "payload": {"site": "b"}}));
        world.until_reason("rival", "DuplicateRegistrationId").await;
        world.api.delete("provisioneddevices", "truck-1");
        world.declare("truck-1", json!({"payload": {"site": "a"}, "reprovision": {"policy": policy}}));
        world.until_ready("rival").await;
        world.until_reason("truck-1", "DuplicateRegistrationId").await;
        world.until_idle(0).await;
        assert_eq!(world.registers(), 2);
        let hub = world.assigned_hub();
        let other = HUBS.into_iter().find(|other| *other != hub).unwrap();
        world.dps.control().move_device(SCOPE, "truck-1", other).unwrap();
        world
    }

    async fn until_at_rest(&mut self) {
        for _ in 0..2 {
            self.until_ready("truck-1").await;
            self.until_idle(0).await;
            self.pass(LONG_AFTER);
        }
        assert_eq!(self.status("truck-1")["assignedHub"], self.assigned_hub());
    }

    /// DPS writes the record of `truck` without moving it, and a drift check takes that in.
    async fn write_record_again(&mut self, mut spec: Value) {
        let hub = self.status("truck-1")["assignedHub"].as_str().unwrap().to_owned();
        self.dps.control().move_device(SCOPE, "truck", &hub).unwrap();
        spec["driftCheck"] = json!({"interval": "10m"});
        self.declare("truck-1", spec);
        self.until_ready("truck-1").await;
        self.until_idle(0).await;
        let calls = self.calls_of("truck").len();
        self.pass(LONG_AFTER);
        self.until("its drift check", |world| world.calls_of("truck").len() > calls).await;
        self.until_idle(0).await;
    }

    fn assigned_hub(&self) -> String {
        self.dps.control().registration(SCOPE, "truck-1").unwrap().assigned_hub.unwrap()
    }
}

#[tokio::test]
async fn a_device_that_gets_its_id_back_registers_whatever_its_secret_says() {
    type Leave = fn(&mut World);
    let ways: [(&str, Leave); 4] = [
        ("deleted", |w| w.delete("provisioneddevices", "rival")),
        ("another id", |w| w.declare("rival", json!({"registrationId": "rival"}))),
        ("another integration", |w| w.declare("rival", json!({"integrationRef": {"name": "none"}}))),
        ("deleted while no operator ran", |w| {
            w.api.delete("provisioneddevices", "rival");
            w.restart();
        }),
    ];
    for (what, leave) in ways {
        let mut world = World::displaced("OnChange").await;
        leave(&mut world);
        world.until_at_rest().await;
        let others = usize::from(what == "another id");
        assert_eq!(world.registers(), 3 + others, "{what}");

        // It was registered since: another operator has nothing to make good.
        world.restart();
        world.until_at_rest().await;
        assert_eq!(world.registers(), 3 + others, "{what}");
    }
}

#[tokio::test]
async fn with_policy_never_it_is_looked_up() {
    let mut world = World::displaced("Never").await;
    world.delete("provisioneddevices", "rival");
    world.until_at_rest().await;
    assert_eq!(world.registers(), 2);
}

/// Which of the two came last DPS alone would know.
#[tokio::test]
async fn a_device_is_not_registered_while_another_one_is_under_the_same_id() {
    for (integration, waits) in [("factory", true), ("second", false)] {
        let mut world = World::start(&["--registrations-per-minute=1000000"]).await;
        world.declare_integration_named("second", json!({}));
        let hang = FaultAction::Delay { time: LONG_AFTER };
        let hang = Fault::device("truck-1", hang).on(OperationKind::Register).times(1);
        world.dps.control().inject(hang).unwrap();
        let rival = json!({"registrationId": "truck-1", "integrationRef": {"name": integration}});
        world.declare("rival", rival);
        world.until("its registration", |world| world.registers() == 1).await;

        world.declare("truck-1", json!({}));
        world.engine.turn(true, world.now);
        if waits {
            world.until_idle(1).await;
            assert_eq!(world.registers(), 1);
            world.delete("provisioneddevices", "rival");
            world.pass(Duration::from_secs(1));
        }
        // A stranger's integration, which DPS has not accepted, keeps no other one waiting.
        world.until_ready("truck-1").await;
        assert_eq!(world.registers(), 2, "{integration}");
    }
}

/// `truck-1` is retained, another device has its id for a while and goes, and it is declared again.
#[tokio::test]
async fn a_retained_secret_of_before_another_device_had_the_id_is_not_believed() {
    let retained = |payload: &str, policy: &str| {
        json!({
            "registrationId": "truck", "payload": {"site": payload}, "secret": {"deletionPolicy": "Retain"},
            "reprovision": {"policy": policy},
        })
    };
    type Leave = fn(&mut World, Value);
    let ways: [(&str, Leave); 4] = [
        ("deleted", |w, _| w.delete("provisioneddevices", "rival")),
        ("another id", |w, mut spec| {
            spec["registrationId"] = json!("rival");
            w.declare("rival", spec);
        }),
        ("no other device", |_, _| {}),
        ("no other device, but DPS has written its record again", |_, _| {}),
    ];
    for (what, leave) in ways {
        for policy in ["OnChange", "Never"] {
            let mut world = World::start(&["--registrations-per-minute=1000000"]).await;
            world.declare("truck-1", retained("a", policy));
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            if what.contains("again") {
                world.write_record_again(retained("a", policy)).await;
            }
            world.delete("provisioneddevices", "truck-1");
            if !what.contains("no other device") {
                world.declare("rival", retained("b", "OnChange"));
                world.until_ready("rival").await;
                world.until_idle(0).await;
                leave(&mut world, retained("b", "OnChange"));
                world.until_idle(0).await;
            }
            let before = world.calls_of("truck").len();

            world.declare("truck-1", retained("a", policy));
            world.until_ready("truck-1").await;
            world.until_idle(0).await;

            let calls = world.calls_of("truck").len() - before;
            match (what, policy) {
                (alone, _) if alone.contains("no other device") => assert_eq!(calls, 0, "{what}, {policy}"),
                (_, "Never") => assert_eq!(calls, 1, "{what}: it is looked up"),
                (_, _) => assert!(calls >= 1, "{what}"),
            }
            // Once is enough: nothing is asked the next time that the Secret is read.
            let settled = world.calls_of("truck").len();
            world.api.apply("secrets", "truck-1-hub", json!({"data": {"deviceId": "eA=="}}));
            world.deliver();
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            world.delete("provisioneddevices", "truck-1");
            world.declare("truck-1", retained("a", policy));
            world.until_ready("truck-1").await;
            world.until_idle(0).await;
            assert_eq!(world.calls_of("truck").len(), settled, "{what}, {policy}");
        }
    }
}
