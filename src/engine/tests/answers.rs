//! An answer of DPS counts only for what it was asked for.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind};
use serde_json::{Value, json};

use super::{OTHER_HUB, OTHER_SCOPE, World};
use crate::controller::device::decide::Call;
use crate::controller::device::facts::{Located, ServedRequests};
use crate::dps::answer::Assignment;
use crate::dps::error::{Detail, DpsError};
use crate::dps::ids::{HubHostname, IdScope, RegistrationId};
use crate::engine::Message;
use crate::engine::reconcile::outcome::{Called, Checked, Done, DpsResult, Outcome, Question};

const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// What a lookup in the first scope finds.
fn located(hub: &str) -> Located {
    Located {
        scope: IdScope::parse(super::SCOPE).unwrap(),
        registration_id: RegistrationId::parse("truck-1").unwrap(),
        assignment: assignment(hub, "truck-1"),
    }
}

pub(super) fn assignment(hub: &str, device_id: &str) -> Assignment {
    Assignment {
        hub: HubHostname::parse(hub, &[".azure-devices.net".to_owned()]).unwrap(),
        device_id: device_id.to_owned(),
        substatus: None,
        etag: None,
        created_time: None,
        last_updated_time: None,
        enrollment_group: None,
        payload: None,
        issued: None,
    }
}

impl World {
    /// What the one device's call in flight was asked under.
    fn question(&self) -> Question {
        let permit = self.engine.active.permit(0).unwrap().permit;
        let integration = self.engine.fleet.get(0).unwrap().integration;
        let target = self.engine.registry.target(integration).unwrap();
        let (revision, issuer) = (target.revision, target.credentials.in_use());
        Question { permit, revision, target: revision, issuer, ca: None }
    }

    fn answer(&mut self, effect: Outcome) {
        let uid = self.engine.fleet.get(0).unwrap().uid;
        self.take(Message::Outcome(Done { id: 0, uid, effect }));
    }

    /// The next operation of this kind never ends.
    fn hang(&self, operation: OperationKind) {
        self.dps.control().clear_faults();
        let hang = FaultAction::Delay { time: Duration::from_secs(3600) };
        self.dps.control().inject(Fault::device("truck-1", hang).on(operation).times(1)).unwrap();
    }

    fn hangs(&self) -> bool {
        self.dps.control().faults().iter().any(|fault| fault.hit == 1)
    }

    fn lookups(&self) -> usize {
        let ledger = self.dps.control().ledger();
        ledger.iter().filter(|entry| entry.operation == OperationKind::Lookup).count()
    }

    /// A provisioned device whose drift check is in flight, and another integration in another scope.
    async fn with_a_check_in_flight(spec: Value) -> Self {
        let mut world = Self::start(&[]).await;
        world.declare_integration_named("other", json!({"idScope": OTHER_SCOPE}));
        world.show_keys(super::KEY, super::OTHER_KEY);
        let mut device = json!({"driftCheck": {"interval": "10m"}});
        device.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        world.declare("truck-1", device);
        world.until_ready("truck-1").await;
        world.until_idle(0).await;
        world.hang(OperationKind::Lookup);
        world.pass(INTERVAL);
        world.until("the lookup", Self::hangs).await;
        assert!(world.engine.active.is_checking(0));
        world
    }

    fn connection_string(&self) -> String {
        let secret = self.api.get("secrets", "truck-1-hub").unwrap();
        secret["stringData"]["connectionString"]
            .as_str()
            .map_or_else(|| secret["data"]["connectionString"].as_str().unwrap().to_owned(), str::to_owned)
    }
}

#[tokio::test]
async fn a_late_drift_check_says_nothing_of_the_registration_that_the_device_has_now() {
    let mut world = World::with_a_check_in_flight(json!({})).await;
    let late = world.question();
    world.declare("truck-1", json!({"integrationRef": {"name": "other"}}));
    world.until("the other hub", |world| world.status("truck-1")["assignedHub"] == OTHER_HUB).await;
    world.until_idle(0).await;
    let (status, secret) = (world.status("truck-1"), world.connection_string());

    let result = Ok(located("hub-b.azure-devices.net"));
    world.answer(Outcome::Checked(Box::new(Checked { question: late, result })));
    world.until_idle(0).await;

    assert_eq!(world.status("truck-1"), status);
    assert_eq!(world.connection_string(), secret);
}

#[tokio::test]
async fn a_late_lookup_says_nothing_of_another_registration() {
    let mut world = World::with_a_check_in_flight(json!({})).await;
    world.declare("truck-1", json!({"integrationRef": {"name": "other"}}));
    world.until("the other hub", |world| world.status("truck-1")["assignedHub"] == OTHER_HUB).await;
    world.until_idle(0).await;
    world.hang(OperationKind::Lookup);
    world.api.apply(
        "provisioneddevices",
        "truck-1",
        json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}}),
    );
    world.deliver();
    world.until("the lookup", World::hangs).await;

    let (question, result) = (world.question(), Ok(DpsResult::Found(located("hub-b.azure-devices.net"))));
    let served = ServedRequests { reconcile_at: Some("now".to_owned()), ..ServedRequests::default() };
    let called = Called { question, generation: 2, served, call: Call::Lookup, accepted: false, result };
    world.answer(Outcome::Called(Box::new(called)));
    world.until_idle(0).await;

    assert_eq!(world.status("truck-1")["assignedHub"], OTHER_HUB);
}

#[tokio::test]
async fn a_late_refusal_by_another_integration_is_not_the_devices() {
    let mut world = World::start(&[]).await;
    world.declare_integration_named("other", json!({"idScope": OTHER_SCOPE}));
    world.show_keys(super::KEY, super::OTHER_KEY);
    world.hang(OperationKind::Register);
    world.declare("truck-1", json!({}));
    world.until("the registration", World::hangs).await;
    let question = world.question();
    world.hang(OperationKind::Register);
    world.declare("truck-1", json!({"integrationRef": {"name": "other"}}));

    let result = Err(DpsError::Disabled(Detail::default()));
    let served = ServedRequests::default();
    let called = Called { question, generation: 1, served, call: Call::Register, accepted: false, result };
    world.answer(Outcome::Called(Box::new(called)));
    world.until("the other registration", World::hangs).await;
    world.until_idle(1).await;

    assert_eq!(world.reason("truck-1"), "");
}

#[tokio::test]
async fn a_check_ends_when_the_device_needs_more_than_that() {
    let mut world = World::with_a_check_in_flight(json!({})).await;

    world.declare("truck-1", json!({"driftCheck": {"interval": "10m"}, "secret": {"labels": {"a": "b"}}}));
    world
        .until("the label", |world| {
            world.api.get("secrets", "truck-1-hub").unwrap()["metadata"]["labels"]["a"] == "b"
        })
        .await;

    // It is made after that.
    world.until("another lookup", |world| world.lookups() == 1).await;
    world.until_idle(0).await;
}

#[tokio::test]
async fn a_device_whose_namespace_is_not_admitted_any_more_is_not_looked_up() {
    let mut world = World::start(&[]).await;
    let all = json!({"from": "All", "registrationIdPrefixes": [""]});
    world.declare_integration(json!({"allowedNamespaces": all}));
    let reference = json!({"name": "factory", "namespace": "fleet"});
    world.declare("tenant/truck-1", json!({"integrationRef": reference, "driftCheck": {"interval": "10m"}}));
    world.until_ready("tenant/truck-1").await;
    world.until_idle(0).await;
    world.declare_integration(json!({"allowedNamespaces": null}));

    // Its grace is over only later.
    world.engine.active.due(0, crate::engine::devices::DueWork::Check);
    world.engine.ready.wake(0);
    world.until_idle(0).await;

    assert_eq!(world.lookups(), 0);
}
