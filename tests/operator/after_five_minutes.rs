//! First in a run, by its name: tests start in the order of their names, and this one takes longest.
//! It needs nothing but time, so the others run beside it. Devices that wait for minutes say for what.

use std::time::Duration;

use crate::world::{INTEGRATION, Setup, World, condition};

/// What waits for five minutes, and some more for a busy machine.
const PATIENCE: Duration = Duration::from_secs(7 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_minutes_a_device_reports_whether_it_is_queued_or_being_registered() {
    let mut world = World::without_operator(Setup::default()).await;
    world.patience = PATIENCE;
    world.registrations_per_minute = 1;
    world.dps.set_think_time(Duration::from_secs(3600));
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ledger("the first registration", |_| world.registers() == 1).await;
    // One is admitted a minute, so after five the last of these still waits.
    let others = world.devices("other", 9).await;

    let last = world.wait_reason(&others[8], "Queued").await;
    assert_eq!(condition(&last, "Reconciling").unwrap().reason, "Queued");
    assert!(!condition(&last, "Ready").unwrap().is_true());

    let first = world.wait_reason("first", "Registering").await;
    assert_eq!(condition(&first, "Reconciling").unwrap().reason, "Registering");
    assert_eq!(condition(&first, "Registered").unwrap().reason, "NeverRegistered");
    assert_eq!(condition(&first, "SecretReady").unwrap().reason, "Missing");
    assert_eq!(first["status"]["attempts"], 1);
}
