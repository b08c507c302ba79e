//! A settled fleet moves to another group key under a rate limit, while new devices come.

use std::time::{Duration, Instant};

use dps_simulator::OperationKind;

use crate::report::{Outcome, print_calls, print_requests, say, seconds};
use crate::setup::{ID_SCOPE, OTHER_KEY, Setup};

/// New devices that come during the rotation, one a second.
pub const NEW: usize = 20;

/// `n` devices are settled; the rate is calls a minute.
pub async fn run(setup: &mut Setup, n: usize, rate: u32) -> Outcome<()> {
    say(&format!(
        "rotation: {n} devices to another key at {rate} calls a minute, {NEW} new ones meanwhile…"
    ))?;
    setup.stop_operator()?;
    setup.start_operator_at(rate)?;
    setup.await_extra_device().await?;
    setup.reset_counts();
    let sequence = setup.dps.control().ledger().last().map_or(0, |entry| entry.sequence);
    setup.dps.control().set_group_keys(ID_SCOPE, "fleet", OTHER_KEY, OTHER_KEY)?;
    let begun = Instant::now();
    setup.set_group_key(OTHER_KEY).await?;

    let mut waits = Vec::new();
    for number in 0..NEW {
        waits.push(setup.time_to_ready(&format!("late-{number}")).await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    setup.wait_written(n + NEW).await?;
    let taken = begun.elapsed();
    waits.sort_unstable();

    let ledger = setup.dps.control().ledger_since(sequence);
    let registers: Vec<i128> = ledger
        .iter()
        .filter(|entry| entry.operation == OperationKind::Register)
        .map(|entry| entry.time.as_millisecond().into())
        .collect();
    let calls = setup.dps_calls();
    if registers.len() as u64 != calls.register {
        return Err(format!("the ledger holds {} of {} registers", registers.len(), calls.register).into());
    }
    let floor = Duration::from_secs_f64((n + NEW) as f64 * 60.0 / f64::from(rate));
    say("\nrotation")?;
    say(&format!("  taken                          {}", seconds(taken)))?;
    say(&format!("  number / rate                  {}", seconds(floor)))?;
    say(&format!("  ratio                          {:.2}", taken.as_secs_f64() / floor.as_secs_f64()))?;
    print_calls(&calls, n + NEW)?;
    say(&format!("  most registers in 60 s         {} of {rate}", most_in_a_minute(&registers)))?;
    say(&format!("  429 answers                    {}", setup.throttled()))?;
    say(&format!(
        "  new device, apply to Ready     {} ms median, {} ms longest",
        waits[NEW / 2].as_millis(),
        waits[NEW - 1].as_millis()
    ))?;
    say("  API server requests")?;
    print_requests(&setup.requests()?, n + NEW)
}

fn most_in_a_minute(times: &[i128]) -> usize {
    let (mut most, mut first) = (0, 0);
    for (last, time) in times.iter().enumerate() {
        while times[first] + 60_000 <= *time {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}
