//! DPS throttles, serves others, too, or fails now and then: calls become fewer, devices are registered all
//! the same, and nothing grows.

use std::time::Duration;

use dps_simulator::config::Quotas;
use dps_simulator::{Fault, FaultAction, LedgerEntry, OperationKind};
use jiff::{SignedDuration, Timestamp};

use super::{fired_at, is_thorough, seconds};
use crate::world::objects::is_ready;
use crate::world::{INTEGRATION, Kind, SCOPE, Setup, World, condition};

fn registers(ledger: Vec<LedgerEntry>) -> Vec<LedgerEntry> {
    ledger.into_iter().filter(|entry| entry.operation == OperationKind::Register).collect()
}

fn in_seconds(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_retry_after_is_waited_for_and_nonsense_counts_as_none() {
    let world = World::accepted().await;
    let earlier = in_seconds(-3600);
    for (number, (text, least, most)) in [
        ("0", 1.0, 10.0),
        (earlier.as_str(), 1.0, 10.0),
        ("-1", 5.0, 15.0),
        ("soon", 5.0, 15.0),
        ("1.5", 5.0, 15.0),
        ("", 5.0, 15.0),
    ]
    .into_iter()
    .chain([("date", 4.0, 16.0)])
    .enumerate()
    {
        let text = if text == "date" { in_seconds(6) } else { text.to_owned() };
        let device = format!("truck-{number}");
        world.dps.inject(Fault::global(FaultAction::throttled(&text)).times(1)).unwrap();

        world.device(&device).await;

        world.wait_ready(&device).await;
        let calls = registers(world.ledger());
        let refused = calls.iter().rposition(|entry| entry.status == Some(429)).unwrap();
        let waited = calls[refused + 1].time.duration_since(calls[refused].time).as_secs_f64();
        assert!((least..most).contains(&waited), "{text:?}: {waited}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_of_ages_is_an_hour() {
    for text in ["1000000000000", "99999999999999999999999999", &in_seconds(40 * 365 * 86_400)] {
        let world = World::accepted().await;
        world.dps.inject(Fault::global(FaultAction::throttled(text)).times(1)).unwrap();

        world.device("truck-1").await;

        let integration = world.wait_integration(INTEGRATION, "Throttled").await;
        let until: Timestamp = integration["status"]["throttledUntil"].as_str().unwrap().parse().unwrap();
        let wait = until.duration_since(Timestamp::now()).as_secs();
        assert!((3500..=3600).contains(&wait), "{text:?}: {wait}");
        assert!(is_ready(&world.get(Kind::Device, "first").await));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_error_that_asks_for_a_long_wait_is_spoken_of_at_once_and_holds_up_no_other_device() {
    let world = fired_at().await;
    let retry_after = Some("3600".to_owned());
    let busy = FaultAction::Status { status: 503, retry_after, error_code: None };
    world.dps.inject(Fault::device("truck-1", busy).times(1)).unwrap();

    world.device("truck-1").await;
    world.device("truck-2").await;

    world.wait_ready("truck-2").await;
    let device = world.wait_reason("truck-1", "ServiceUnavailable").await;
    let said = condition(&device, "Reconciling").unwrap().message;
    assert!(said.contains("asks to wait"), "{said}");
    assert_eq!(world.registers_of("truck-1"), 1);
    world.request_lookup(Kind::Device, "truck-1", "now").await;
    world.wait_ready("truck-1").await;
    world.come_to_rest().await;
    assert_eq!(world.registers_of("truck-1"), 2);
}

/// Most of these calls within a second.
fn most_in_a_second(calls: &[LedgerEntry]) -> usize {
    let within = |first: &LedgerEntry| {
        let later = |entry: &&LedgerEntry| {
            let after = entry.time.duration_since(first.time);
            (SignedDuration::ZERO..SignedDuration::from_secs(1)).contains(&after)
        };
        calls.iter().filter(later).count()
    };
    calls.iter().map(within).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_without_a_time_for_long_makes_calls_fewer_and_they_come_back_one_by_one() {
    const PER_MINUTE: u32 = 600;
    let mut world = World::without_operator(Setup::default()).await;
    world.registrations_per_minute = PER_MINUTE;
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    let throttled = world.dps.inject(Fault::global(FaultAction::status(429))).unwrap();
    world.device("probe").await;
    world.wait_integration(INTEGRATION, "Throttled").await;
    let before = world.mark().await;
    world.devices("truck", 30).await;

    let time = seconds(12, 300);
    tokio::time::sleep(time).await;

    // After 5, 15, 35, 75, 155 and 315 seconds.
    let asked = registers(world.ledger_since(before)).len();
    assert!((1..=seconds(2, 6).as_secs() as usize).contains(&asked), "{asked} calls in {time:?}");
    world.dps.clear_fault(throttled);
    let after = world.mark().await;
    // The last wait is as long as all before it.
    world.patience = seconds(60, 420);
    world.wait_all_ready(32).await;
    world.wait_integration(INTEGRATION, "Available").await;
    let calls = registers(world.ledger_since(after));
    assert_eq!(calls.len(), 31);
    let most = most_in_a_second(&calls);
    assert!(most <= PER_MINUTE as usize / 60 / 2 + 5, "{most} calls in a second, at half the rate");
}

/// What is free of a quota goes to whoever asks first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_devices_are_registered_although_others_use_most_of_the_quota() {
    const QUOTA: u32 = 40;
    let mut setup = Setup::default();
    setup.simulator.quotas = Quotas { registrations_per_minute: Some(QUOTA), polls_per_ten_seconds: None };
    let mut world = World::with(setup).await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    // Half of it, or nine tenths.
    let every = if is_thorough() { Duration::from_millis(1667) } else { Duration::from_secs(3) };
    let control = world.dps.clone();
    assert_eq!(control.spend_quota(SCOPE, QUOTA - 6).unwrap(), QUOTA - 6);
    let others = tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            control.spend_quota(SCOPE, 1).unwrap();
        }
    });
    world.devices("truck", 12).await;

    world.patience = seconds(150, 600);
    world.wait_all_ready(13).await;

    others.abort();
    let refused = registers(world.ledger()).iter().filter(|entry| entry.status == Some(429)).count();
    assert!((1..=10).contains(&refused), "{refused} calls were refused");
    assert_eq!(world.assert_secrets_accepted().await, 13);
    println!("{refused} calls were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fails_every_third_time_registers_all_and_is_hardly_spoken_of() {
    let rounds = if is_thorough() { 5 } else { 1 };
    let mut world = fired_at().await;
    world.patience = Duration::from_secs(180);
    let fails = |action: &FaultAction| world.dps.inject(Fault::global(action.clone()).every(3)).unwrap();
    let registered = world.registers();
    let mut fault = fails(&FaultAction::status(500));

    world.devices("truck", 12).await;
    world.wait_all_ready(13).await;
    let actions = [FaultAction::Reset, FaultAction::status(503), FaultAction::Truncated];
    for (round, action) in (0..rounds).zip(actions.iter().cycle()) {
        world.dps.clear_fault(fault);
        fault = fails(action);
        let token = format!("round-{round}");
        world.request_registration(Kind::Integration, INTEGRATION, &token).await;
        world.wait_registration_request(Kind::Integration, INTEGRATION, &token).await;
    }

    world.come_to_rest().await;
    assert_eq!(world.assert_secrets_accepted().await, 13);
    let needed = 12 + 13 * rounds;
    let made = world.registers() - registered;
    assert!((needed + 1..=2 * needed).contains(&made), "{made} registrations where {needed} were needed");
    let events = world.list(Kind::Event).await;
    let events = events.iter().filter(|event| event["reason"] != "HubAssigned").count();
    assert!(events <= 13 + 2 * rounds, "{events} events");
    println!("{made} registrations for {needed}, {events} events");
}
