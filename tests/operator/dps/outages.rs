//! DPS cannot be reached, fails, throttles, or takes its time.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind};
use serde_json::{Value, json};

use crate::world::objects::{is_ready, ready_reason};
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, PATIENCE, POLL, Setup, World, condition};

/// Two failures are not reported, whichever device they hit; the third is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_errors_are_reported_from_the_third_on_and_cleared_by_success() {
    tokio::join!(two_server_errors_are_not_reported(), three_server_errors_are_reported());
}

async fn two_server_errors_are_not_reported() {
    let world = World::accepted().await;
    world.dps.inject(Fault::device("truck-1", FaultAction::status(503)).times(2)).unwrap();

    world.device("truck-1").await;

    let unreported = |device: &Value| {
        let reason = ready_reason(device);
        assert!(reason == "Pending" || reason == "Provisioned", "{reason}");
        is_ready(device)
    };
    world.wait(Kind::Device, "truck-1", "Ready", unreported).await;
    assert_eq!(world.registers_of("truck-1"), 3);
}

async fn three_server_errors_are_reported() {
    let world = World::accepted().await;
    world.dps.inject(Fault::device("truck-1", FaultAction::status(500)).times(3)).unwrap();

    world.device("truck-1").await;

    let device = world.wait_reason("truck-1", "ServiceUnavailable").await;
    assert_eq!(world.registers_of("truck-1"), 3);
    assert_eq!(condition(&device, "Reconciling").unwrap().reason, "ServiceUnavailable");
    assert!(!condition(&device, "Ready").unwrap().is_true());
    assert_eq!(device["status"]["lastError"]["httpStatus"], 500);
    // A change is a reason to try at once; without one it would be tried after twenty seconds.
    world.patch(Kind::Device, "truck-1", json!({"spec": {"payload": {"site": "gdansk"}}})).await;
    let device = world.wait_ready("truck-1").await;
    assert!(condition(&device, "Reconciling").is_none());
    assert!(device["status"]["lastError"].is_null() && device["status"]["attempts"].is_null());
    assert_eq!(world.registers_of("truck-1"), 4);
    world.wait_integration(INTEGRATION, "Available").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_integration_waits_as_long_as_dps_asks() {
    let world = World::accepted().await;
    world.dps.inject(Fault::global(FaultAction::throttled("4")).times(1)).unwrap();

    world.device("truck-1").await;
    let integration = world.wait_integration(INTEGRATION, "Throttled").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "Throttled");
    assert!(integration["status"]["throttledUntil"].is_string());
    world.devices("later", 3).await;

    for name in ["truck-1", "later-1", "later-2", "later-3"] {
        world.wait_ready(name).await;
    }
    let ledger = world.ledger();
    let refused = ledger.iter().position(|entry| entry.status == Some(429)).unwrap();
    let waited = ledger[refused + 1].time.duration_since(ledger[refused].time);
    assert!(waited.as_secs_f64() >= 4.0, "{waited}");
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    assert!(integration["status"]["throttledUntil"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_whose_answer_was_lost_is_repeated_and_succeeds() {
    let world = World::accepted().await;
    let lost = Fault::device("truck-1", FaultAction::Reset).on(OperationKind::Register).times(1);
    world.dps.inject(lost.after_processing()).unwrap();
    let cut = Fault::device("truck-2", FaultAction::Truncated).on(OperationKind::Register).times(1);
    world.dps.inject(cut).unwrap();

    world.devices("truck", 2).await;

    for name in ["truck-1", "truck-2"] {
        world.wait_ready(name).await;
        assert_eq!(world.registers_of(name), 2, "{name}");
        assert!(world.hub_accepts(name, &format!("{name}-hub")).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_that_fail_are_repeated_within_the_same_operation() {
    let world = World::accepted().await;
    for (name, action) in [
        ("truck-1", FaultAction::Reset),
        ("truck-2", FaultAction::status(502)),
        ("truck-3", FaultAction::throttled("1")),
    ] {
        world.dps.inject(Fault::device(name, action).on(OperationKind::Poll).times(2)).unwrap();
    }

    world.devices("truck", 3).await;

    for name in ["truck-1", "truck-2", "truck-3"] {
        world.wait_ready(name).await;
        assert_eq!(world.registers_of(name), 1, "{name}");
    }
}

/// Counts connections to a port and closes each.
struct ConnectionCounter {
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl ConnectionCounter {
    fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for the runtime");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                drop(connection);
            }
        });
        Self { connections, task }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    async fn remove(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_gone_is_called_once_at_a_time_and_not_once_for_each_device() {
    let mut setup = Setup::default();
    let folder = std::env::temp_dir().join(format!("dps-operator-tests-ca-{}", std::process::id()));
    setup.simulator.tls.directory = Some(folder.clone());
    let mut world = World::with(setup).await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world.stop_dps().await;
    world.device("probe").await;
    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "EndpointUnreachable");

    let counter = ConnectionCounter::on(world.port());
    world.devices("truck", 20).await;

    // Two probes one after the other: time enough for twenty devices to have called.
    until_true(PATIENCE, POLL, async || counter.connections() >= 2).await;
    assert!((2..=4).contains(&counter.connections()), "{} connections", counter.connections());
    assert!(is_ready(&world.get(Kind::Device, "first").await), "provisioned devices are not affected");
    counter.remove().await;
    world.start_dps().await;

    world.wait_all_ready(22).await;
    world.wait_integration(INTEGRATION, "Available").await;
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_answers_is_reachable_even_if_it_refuses() {
    let world = World::start().await;
    let reset = world.dps.inject(Fault::global(FaultAction::Reset)).unwrap();
    // Of two faults the first one counts.
    world.dps.inject(Fault::global(not_found())).unwrap();
    world.device("truck-1").await;
    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    assert!(!condition(&integration, "Ready").unwrap().is_true());

    world.dps.clear_fault(reset);

    world.wait_reason("truck-1", "EnrollmentNotFound").await;
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    assert!(condition(&integration, "Ready").unwrap().is_true());
    assert!(condition(&integration, "Reconciling").is_none());
    assert!(integration["status"]["acceptedIdScope"].is_null(), "nothing was ever registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_dps_no_longer_knows_is_begun_again() {
    let world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(1));
    world.device("truck-1").await;
    world.wait_ledger("a registration", |_| world.registers_of("truck-1") == 1).await;
    world.dps.inject(Fault::device("truck-1", not_found()).on(OperationKind::Poll).times(1)).unwrap();

    world.wait_ready("truck-1").await;

    assert_eq!(world.registers_of("truck-1"), 2);
}

fn not_found() -> FaultAction {
    FaultAction::Status { status: 404, retry_after: None, error_code: Some(404_201) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_takes_seconds_is_polled_a_few_times_only() {
    let world = World::accepted().await;
    world.dps.set_think_time(Duration::from_secs(5));
    world.dps.set_retry_after(Some(Duration::from_secs(3)));

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    let polls = world.calls(OperationKind::Poll).of("truck-1");
    assert!((1..=2).contains(&polls), "{polls} polls");
    assert_eq!(world.registers_of("truck-1"), 1);
}
