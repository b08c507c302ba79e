//! What DPS's answers come to: for the device that gets one, and for the others.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind, RegistrationStatus};
use serde_json::json;

use super::{World, condition};

const WRONG: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=";
const WRONG_TOO: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvb28=";
const SECOND: Duration = Duration::from_secs(1);

fn message(status: &serde_json::Value) -> String {
    condition(status, "Ready")["message"].as_str().unwrap_or_default().to_owned()
}

/// Six devices that are settled, and their names.
async fn six_settled(world: &mut World) -> [String; 6] {
    let names = [0, 1, 2, 3, 4, 5].map(|n| format!("truck-{n}"));
    for name in &names {
        world.declare(name, json!({}));
        world.pass(SECOND);
        world.until_ready(name).await;
    }
    world.until_idle(0).await;
    names
}

#[tokio::test]
async fn calls_that_are_under_way_when_the_clock_jumps_condemn_no_key_and_move_no_device() {
    let mut world = World::start(&[]).await;
    let names = six_settled(&mut world).await;
    let late = FaultAction::Delay { time: Duration::from_millis(800) };
    world.dps.control().inject(Fault::global(late).after_processing().times(6)).unwrap();
    world.dps.control().set_clock_ahead(2 * 3600);
    for name in &names {
        let asked = json!({"metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": "1"}}});
        world.api.apply("provisioneddevices", name, asked);
        world.deliver();
    }
    for called in 7..=12 {
        world.pass(SECOND / 5);
        world.until("its call", |world| world.registers() >= called).await;
    }
    world.until_idle(0).await;
    world.dps.control().clear_faults();

    let served = |world: &World, name: &str| world.status(name)["lastHandledReprovisionToken"] == "1";
    for _ in 0..30 {
        world.pass(SECOND);
        world.until_idle(0).await;
    }

    for name in &names {
        assert!(served(&world, name), "{name}: {}", world.status(name));
        assert_eq!(world.reason(name), "Provisioned");
        assert_eq!(world.status(name)["credential"]["slot"], "Primary");
    }
    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.integration()["credentials"]["inUse"], "Primary");
    assert_eq!(world.registers(), 6 + 6 + 6, "each was refused once");
}

#[tokio::test]
async fn a_clock_that_is_days_off_is_named_on_the_integration_and_another_key_is_not_tried() {
    let mut world = World::start(&[]).await;
    six_settled(&mut world).await;
    world.dps.control().set_clock_ahead(3 * 86_400);
    for name in ["new-1", "new-2", "new-3"] {
        world.declare(name, json!({}));
        world.pass(10 * SECOND);
        world.until_reason(name, "Unauthorized").await;
    }
    world.declare("new-4", json!({}));

    world.until("the integration says so", |world| world.integration_reason() == "Unauthorized").await;
    world.until_idle(0).await;

    for status in [world.integration(), world.status("new-1")] {
        let said = message(&status);
        assert!(said.contains("more than a day behind") && said.contains("node"), "{said}");
    }
    assert_eq!(world.integration()["credentials"]["inUse"], "Primary");
    assert_eq!(world.registers(), 6 + 3, "three are refused, the others wait");

    world.dps.control().set_clock_ahead(0);
    for _ in 0..20 {
        world.pass(10 * SECOND);
        world.until_idle(0).await;
    }
    assert_eq!(
        (world.integration_reason(), world.reason("new-4")),
        ("Available".into(), "Provisioned".into())
    );
}

#[tokio::test]
async fn a_hub_that_refuses_dps_is_no_word_about_the_key() {
    let mut world = World::start(&[]).await;
    let stale = FaultAction::Outcome {
        status: RegistrationStatus::Failed,
        error_code: Some(401_002),
        error_message: Some("Unauthorized access".to_owned()),
    };
    world.dps.control().inject(Fault::global(stale).times(4)).unwrap();
    for name in ["a", "b", "c", "d"] {
        world.declare(name, json!({}));
        world.pass(SECOND);
        world.until_reason(name, "AllocationFailed").await;
    }
    world.until_idle(0).await;

    world.declare("healthy", json!({}));
    world.pass(SECOND);
    world.until_ready("healthy").await;
    world.until_idle(0).await;

    let said = message(&world.status("a"));
    assert!(said.contains("linked") && said.contains("401002") && !said.contains("enrollment"), "{said}");
    let integration = world.integration();
    assert_eq!(
        (world.integration_reason(), &integration["credentials"]["working"]),
        ("Available".into(), &json!("Primary"))
    );
    assert_eq!(integration["acceptedIdScope"], super::SCOPE);
}

#[tokio::test]
async fn a_forgotten_operation_is_registered_again_and_is_nobody_s_fault() {
    for status in [400, 404, 410] {
        let mut world = World::start(&[]).await;
        let forgotten = Fault::global(FaultAction::status(status)).on(OperationKind::Poll).times(1);
        world.dps.control().inject(forgotten).unwrap();
        world.declare("truck-1", json!({}));
        world.until("the poll", |world| world.dps.control().totals().poll == 1).await;
        world.until_idle(0).await;
        assert_eq!(world.reason("truck-1"), "", "{status}");

        world.pass(7 * SECOND);
        world.until_ready("truck-1").await;
        assert_eq!(world.registers(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_lookup_that_is_refused_with_an_accepted_key_counts_as_unknown() {
    let mut world = World::start(&[]).await;
    six_settled(&mut world).await;
    let unknown = Fault::global(FaultAction::status(401)).on(OperationKind::Lookup);
    world.dps.control().inject(unknown).unwrap();

    for name in ["new-1", "new-2", "new-3", "new-4"] {
        world.declare(name, json!({"registration": {"onCreate": "LookupFirst"}}));
        world.pass(SECOND);
        world.until_ready(name).await;
    }
    world.declare("never", json!({"reprovision": {"policy": "Never"}}));
    world.pass(SECOND);
    world.until_ready("never").await;

    world.until_idle(0).await;
    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.registers(), 6 + 5);
}

#[tokio::test]
async fn a_lookup_that_is_refused_with_a_key_that_was_never_accepted_registers_nothing() {
    let mut world = World::start(&[]).await;
    let unknown = Fault::global(FaultAction::status(401)).on(OperationKind::Lookup);
    world.dps.control().inject(unknown).unwrap();

    world.declare("new-1", json!({"registration": {"onCreate": "LookupFirst"}}));
    world.until_reason("new-1", "Unauthorized").await;

    let said = message(&world.status("new-1"));
    assert!(said.contains("registration.onCreate"), "{said}");
    assert_eq!(world.registers(), 0);
}

#[tokio::test]
async fn nor_does_one_with_a_key_that_has_taken_the_place_of_an_accepted_one() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.delete("provisioneddevices", "truck-1");
    world.show_keys(WRONG, WRONG_TOO);

    world.declare("new-1", json!({"registration": {"onCreate": "LookupFirst"}}));
    world.until_reason("new-1", "Unauthorized").await;
    for _ in 0..40 {
        world.pass(10 * SECOND);
        world.until_idle(0).await;
    }

    assert_eq!(world.registers(), 1);
}

#[tokio::test]
async fn nor_does_one_that_was_made_with_a_wrong_clock() {
    let mut world = World::start(&[]).await;
    six_settled(&mut world).await;
    world.dps.control().set_clock_ahead(3 * 86_400);

    world.declare("new-1", json!({"registration": {"onCreate": "LookupFirst"}}));
    world.until_reason("new-1", "Unauthorized").await;
    world.until_idle(0).await;

    assert_eq!(world.registers(), 6);
}

#[tokio::test]
async fn a_device_that_is_registered_stays_so_when_a_lookup_of_it_is_refused() {
    let mut world = World::start(&[]).await;
    let names = six_settled(&mut world).await;
    let refused = Fault::global(FaultAction::status(401)).on(OperationKind::Lookup);
    world.dps.control().inject(refused).unwrap();

    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "1"}}});
    world.api.apply("provisioneddevices", &names[0], asked);
    world.deliver();
    world.until("the lookup", |world| world.dps.control().totals().lookup > 0).await;
    for _ in 0..12 {
        world.pass(10 * SECOND);
        world.until_idle(0).await;
    }

    assert_eq!(world.registers(), 6);
}

#[tokio::test]
async fn a_record_of_a_failed_or_disabled_registration_is_none_to_take_over() {
    for state in ["failed", "disabled", "unassigned"] {
        let mut world = World::start(&[]).await;
        let record = FaultAction::rewrite_state("status", json!(state));
        world.declare("truck-1", json!({}));
        world.until_ready("truck-1").await;
        world.delete("provisioneddevices", "truck-1");
        world.delete("secrets", "truck-1-hub");
        world.dps.control().inject(Fault::global(record).on(OperationKind::Lookup)).unwrap();

        world.declare("truck-1", json!({"registration": {"onCreate": "LookupFirst"}}));
        world.pass(SECOND);
        world.until_ready("truck-1").await;

        assert_eq!(world.registers(), 2, "{state}");
    }
}
