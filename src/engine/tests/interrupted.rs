//! A registration may have taken effect although no success was seen: DPS then holds something else than
//! what is known, also where that is what is wanted again.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind, RegistrationStatus};
use serde_json::{Value, json};

use super::{KEY, OTHER_KEY, World};

const LONG_AFTER: Duration = Duration::from_secs(2 * 3600);
const TOKEN: &str = "dps-operator.io/reprovision-requested-at";

fn of_site(site: &str) -> Value {
    json!({"payload": {"site": site}})
}

fn fault(action: FaultAction, operation: OperationKind) -> Fault {
    Fault::device("truck-1", action).on(operation).times(1)
}

/// Takes effect, and no answer comes.
fn lost() -> Fault {
    fault(FaultAction::Reset, OperationKind::Register).after_processing()
}

fn failed(status: RegistrationStatus) -> FaultAction {
    FaultAction::Outcome { status, error_code: None, error_message: None }
}

/// Takes effect, and goes on for ever.
fn hangs() -> Fault {
    let hang = FaultAction::Delay { time: Duration::from_secs(3600) };
    fault(hang, OperationKind::Register).after_processing()
}

impl World {
    /// A settled device of the first site, and a fault that the next registration meets.
    async fn settled_before(fault: Fault) -> Self {
        let mut world = Self::start(&["--registrations-per-minute=1000000"]).await;
        world.declare("truck-1", of_site("a"));
        world.until_ready("truck-1").await;
        world.until_idle(0).await;
        world.dps.control().inject(fault).unwrap();
        world
    }

    async fn until_hit(&mut self) {
        self.until("the fault", |world| world.dps.control().faults().iter().all(|fault| fault.hit == 1))
            .await;
    }

    /// All waits are over, and everything is done.
    async fn until_settled_later(&mut self) {
        for _ in 0..3 {
            self.pass(LONG_AFTER);
            self.until_idle(0).await;
        }
        assert_eq!(self.reason("truck-1"), "Provisioned", "{}", self.api.dump());
        let generation = &self.api.get("provisioneddevices", "truck-1").unwrap()["metadata"]["generation"];
        assert_eq!(&self.status("truck-1")["observedGeneration"], generation);
    }
}

#[tokio::test]
async fn a_change_that_is_taken_back_is_undone_at_dps_if_it_may_have_come_there() {
    let (register, poll) = (OperationKind::Register, OperationKind::Poll);
    let status = FaultAction::status;
    for (what, undone, fault) in [
        ("an answer that was lost", true, lost()),
        ("a server error", true, fault(status(500), register).after_processing()),
        ("an answer that is none", true, fault(FaultAction::Html, register).after_processing()),
        ("an operation of another", true, fault(status(409), register)),
        ("an operation that DPS forgot", true, fault(status(404), poll)),
        ("a poll that was refused", true, fault(status(403), poll)),
        ("a registration that failed", true, fault(failed(RegistrationStatus::Failed), poll)),
        ("one that is disabled", true, fault(failed(RegistrationStatus::Disabled), poll)),
        ("a request that was throttled", false, fault(status(429), register)),
        ("one that was invalid", false, fault(status(400), register)),
        ("one that was forbidden", false, fault(status(403), register)),
    ] {
        let mut world = World::settled_before(fault).await;
        world.declare("truck-1", of_site("b"));
        world.until_hit().await;
        world.until_idle(0).await;
        let before = world.registers();
        assert_eq!(before, 2, "{what}");

        world.declare("truck-1", of_site("a"));
        world.until_settled_later().await;
        assert_eq!(world.registers() - before, usize::from(undone), "{what}");
    }
}

/// A registration about whose end DPS wanted to be asked later.
#[tokio::test]
async fn also_if_dps_has_put_it_off_and_refuses_to_say_how_it_ended() {
    let mut world = World::settled_before(fault(FaultAction::status(403), OperationKind::Poll)).await;
    world.dps.control().set_retry_after(Some(Duration::from_secs(20 * 60)));
    world.declare("truck-1", of_site("b"));
    world.until("the registration", |world| world.registers() == 2).await;
    world.until_idle(0).await;
    world.dps.control().set_retry_after(Some(Duration::ZERO));
    world.declare("truck-1", of_site("a"));
    world.pass(Duration::from_secs(30 * 60));
    world.until_hit().await;
    world.until_settled_later().await;
    assert_eq!(world.registers(), 3);
}

#[tokio::test]
async fn also_if_the_device_was_held_meanwhile() {
    let hold = [
        ("by itself", json!({"suspend": true}), json!({})),
        ("by its integration", json!({}), json!({"suspend": true})),
        ("for want of it", json!({"integrationRef": {"name": "none"}}), json!({})),
    ];
    for (what, device, integration) in hold {
        let mut world = World::settled_before(lost()).await;
        world.declare("truck-1", of_site("b"));
        world.until_hit().await;
        world.until_idle(0).await;
        let mut held = of_site("a");
        held.as_object_mut().unwrap().extend(device.as_object().unwrap().clone());
        world.declare_integration(integration);
        world.declare("truck-1", held);
        world.pass(LONG_AFTER);
        world.until_idle(0).await;
        assert_eq!(world.registers(), 2, "{what}");

        world.declare_integration(json!({"suspend": null}));
        world.declare("truck-1", json!({"suspend": null, "payload": {"site": "a"}}));
        world.until_settled_later().await;
        assert_eq!(world.registers(), 3, "{what}");
    }
}

#[tokio::test]
async fn also_with_policy_never_once_a_token_has_begun_it() {
    let mut world = World::settled_before(lost()).await;
    let never = |site: &str, token: Value| {
        json!({
            "metadata": {"annotations": {TOKEN: token}},
            "spec": {"reprovision": {"policy": "Never"}, "payload": {"site": site}},
        })
    };
    for (site, token) in [("b", json!("1")), ("a", Value::Null)] {
        world.api.apply("provisioneddevices", "truck-1", never(site, token));
        world.deliver();
        world.until_hit().await;
        world.until_idle(0).await;
    }
    world.until_settled_later().await;
    assert_eq!(world.registers(), 3);
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_undone_too_and_so_is_a_default_of_the_fleet() {
    let mut world = World::settled_before(lost()).await;
    world.show_keys(OTHER_KEY, KEY);
    world.until_hit().await;
    world.until_idle(0).await;
    world.show_keys(KEY, OTHER_KEY);
    world.until_settled_later().await;
    assert_eq!(world.registers(), 3);

    let defaults = |site: &str| json!({"deviceDefaults": {"payload": {"site": site}}});
    let mut world = World::start(&["--registrations-per-minute=1000000"]).await;
    world.declare_integration(defaults("a"));
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world.dps.control().inject(lost()).unwrap();
    world.declare_integration(defaults("b"));
    world.until_hit().await;
    world.until_idle(0).await;
    world.declare_integration(defaults("a"));
    world.until_settled_later().await;
    assert_eq!(world.registers(), 3);
}

/// How a device goes, and another one of its name comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Gone,
    ReplacedBeforeThatWasSeen,
    GoneAfterAFinalizer,
    RestoredWithItsStatus,
}

impl World {
    fn replace(&mut self, way: Way) {
        let mut object = json!({"spec": {"integrationRef": {"name": "factory"}, "payload": {"site": "a"}}});
        match way {
            Way::Gone => self.delete("provisioneddevices", "truck-1"),
            Way::ReplacedBeforeThatWasSeen => {
                self.api.delete("provisioneddevices", "truck-1");
                self.api.changes();
            }
            Way::GoneAfterAFinalizer => {
                let since = "2026-11-23T10:00:00Z";
                let ends = json!({"deletionTimestamp": since, "finalizers": ["example.com/other"]});
                self.api.apply("provisioneddevices", "truck-1", json!({"metadata": ends}));
                self.deliver();
                self.engine.turn(true, self.now);
                self.delete("provisioneddevices", "truck-1");
            }
            Way::RestoredWithItsStatus => {
                object["status"] = self.status("truck-1");
                self.delete("provisioneddevices", "truck-1");
            }
        }
        self.api.apply("provisioneddevices", "truck-1", object);
        self.deliver();
    }
}

#[tokio::test]
async fn a_device_that_takes_over_the_secret_of_one_that_is_gone_registers_if_dps_may_hold_something_else() {
    let ways =
        [Way::Gone, Way::ReplacedBeforeThatWasSeen, Way::GoneAfterAFinalizer, Way::RestoredWithItsStatus];
    for way in ways {
        for (when, fault) in [("in flight", hangs()), ("lost", lost())] {
            let mut world = World::settled_before(fault).await;
            world.declare("truck-1", of_site("b"));
            world.until_hit().await;
            if when == "lost" {
                world.until_idle(0).await;
            }
            world.replace(way);
            world.until_settled_later().await;
            assert_eq!(world.registers(), 3, "{when}, {way:?}");
        }
    }
}

#[tokio::test]
async fn also_if_dps_had_answered_and_nothing_was_written() {
    let mut world = World::settled_before(fault(FaultAction::Assigning, OperationKind::Poll)).await;
    world.api.set_unavailable(&["secrets"]);
    world.declare("truck-1", of_site("b"));
    world
        .until("the end of the registration", |world| {
            world.registers() == 2
                && world.engine.active.answered() == 0
                && world.engine.active.work(0).is_some_and(|work| work.facts.fresh && work.task.is_none())
        })
        .await;
    world.delete("provisioneddevices", "truck-1");
    world.api.set_unavailable(&[]);
    world.declare("truck-1", of_site("a"));
    world.until_settled_later().await;
    assert_eq!(world.registers(), 3);
}

#[tokio::test]
async fn a_device_that_takes_over_what_dps_holds_does_not_call() {
    let mut world = World::settled_before(lost()).await;
    world.dps.control().clear_faults();
    world.declare("truck-1", of_site("b"));
    world.until("the other site", |world| world.registers() == 2).await;
    world.until_idle(0).await;
    world.delete("provisioneddevices", "truck-1");
    world.declare("truck-1", of_site("b"));
    world.until_settled_later().await;
    assert_eq!(world.registers(), 2);
}
