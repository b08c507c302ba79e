//! The main measurement: one round of it, and what all rounds say.

use std::time::Duration;

use dps_dev::process::own_cpu;

use crate::bare::{self, Taken};
use crate::figures::Figures;
use crate::report::{DpsCalls, Outcome, Requests, beside_watches, print_calls, print_requests, say, seconds};
use crate::setup::Setup;

/// One round.
pub struct Measured {
    pub devices: usize,
    pub floors: Floors,
    /// The time for the first device of an idle operator.
    pub first: Duration,
    pub idle_kib: u64,
    /// The time for all devices, from the operator's start to the last Ready.
    pub taken: Duration,
    /// Of a processor, in that time: the operator, and the simulator with what watches the devices.
    pub cpu: [Duration; 2],
    pub settled_kib: u64,
    pub requests: Requests,
    pub calls: DpsCalls,
    pub restart: Restart,
}

/// The bare loop, and the one whose objects are watched.
#[derive(Clone, Copy, Default)]
pub struct Floors {
    pub bare: Taken,
    pub watched: Taken,
}

/// A restart with everything settled.
pub struct Restart {
    /// The time until a new device is Ready.
    pub taken: Duration,
    /// The time in which the same objects are listed, in pages of 100 and of 500.
    pub lists: [Duration; 2],
    pub requests: Requests,
    pub calls: DpsCalls,
    pub resident_kib: u64,
}

/// `floors_first`: what comes later finds a control plane that holds the objects of what was before it. The
/// operator runs afterwards.
pub async fn run(setup: &mut Setup, devices: usize, floors_first: bool) -> Outcome<Measured> {
    bare::warm_up(setup).await?;
    if floors_first {
        let floors = floors(setup, devices).await?;
        return operator(setup, devices, floors).await;
    }
    let measured = operator(setup, devices, Floors::default()).await?;
    setup.stop_operator()?;
    let floors = floors(setup, devices).await?;
    setup.start_operator()?;
    Ok(Measured { floors, ..measured })
}

async fn floors(setup: &Setup, devices: usize) -> Outcome<Floors> {
    say(&format!("bare loop: {devices} devices, the same two writes each, 16 in flight…"))?;
    let bare = bare::run(setup, devices).await?;
    say("the same, watched…")?;
    Ok(Floors { bare, watched: bare::run_watched(setup, devices).await? })
}

async fn operator(setup: &mut Setup, devices: usize, floors: Floors) -> Outcome<Measured> {
    say("first device of an idle operator…")?;
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let first = setup.time_to_ready("first").await?;
    let idle_kib = setup.resident_kib().await?;
    setup.stop_operator()?;

    say(&format!("operator: {devices} devices that are there before it starts…"))?;
    setup.create_devices(0, devices).await?;
    setup.reset_counts();
    let used = own_cpu()?;
    setup.start_operator()?;
    let taken = setup.wait_ready(devices, devices + 2).await?;
    let cpu = [setup.operator_cpu()?, own_cpu()? - used];
    let settled_kib = setup.resident_kib().await?;
    let requests = setup.requests()?;
    let calls = setup.dps_calls();
    let restart = restart(setup).await?;
    Ok(Measured { devices, floors, first, idle_kib, taken, cpu, settled_kib, requests, calls, restart })
}

async fn restart(setup: &mut Setup) -> Outcome<Restart> {
    say("restart with everything settled…")?;
    setup.stop_operator()?;
    let lists = [bare::list(setup, 100).await?, bare::list(setup, 500).await?];
    setup.reset_counts();
    setup.start_operator()?;
    Ok(Restart {
        taken: setup.await_extra_device().await?,
        lists,
        requests: setup.requests()?,
        calls: setup.dps_calls(),
        resident_kib: setup.resident_kib().await?,
    })
}

/// Prints the details of the last round, and the medians of all beside those of the last run.
pub fn print(rounds: &[Measured]) -> Outcome<()> {
    let Some(last) = rounds.last() else { return Ok(()) };
    say("\nlast round")?;
    print_calls(&last.calls, last.devices)?;
    say("  API server requests")?;
    print_requests(&last.requests, last.devices)?;
    say(&format!(
        "  restart: DPS calls             {} (register and poll of the one device created after it)",
        last.restart.calls.sum()
    ))?;
    say("  restart: API server requests")?;
    print_requests(&last.restart.requests, last.devices)?;
    say("\nround     bare  watched  operator  to bare  to watched")?;
    for (number, round) in rounds.iter().enumerate() {
        say(&format!(
            "{:>5} {:>8} {:>8} {:>9} {:>8.2} {:>11.2}",
            number + 1,
            seconds(round.floors.bare.time),
            seconds(round.floors.watched.time),
            seconds(round.taken),
            ratio(round.taken, round.floors.bare.time),
            ratio(round.taken, round.floors.watched.time),
        ))?;
    }
    figures(rounds, last).print_beside_last_run(last.devices)
}

fn figures(rounds: &[Measured], last: &Measured) -> Figures {
    let restart_to =
        |list: usize| move |round: &Measured| ratio(round.restart.taken, round.restart.lists[list]);
    let mut figures = Figures::default();
    let mut add = |what: &str, figure: &dyn Fn(&Measured) -> f64| {
        figures.add(what, median(rounds.iter().map(figure).collect()));
    };
    add("operator, times the bare loop", &|round| ratio(round.taken, round.floors.bare.time));
    add("operator, times the watched loop", &|round| ratio(round.taken, round.floors.watched.time));
    let a_device = |cpu: Duration| cpu.as_secs_f64() * 1000.0 / last.devices as f64;
    add("processor a device: operator, ms", &|round| a_device(round.cpu[0]));
    add("processor a device: simulator and one watch, ms", &|round| a_device(round.cpu[1]));
    add("processor a device: the bare loop, ms", &|round| a_device(round.floors.bare.cpu));
    add("requests a device besides list and watch", &|round| {
        beside_watches(&round.requests) as f64 / last.devices as f64
    });
    add("first device, apply to Ready, ms", &|round| round.first.as_secs_f64() * 1000.0);
    add("resident memory idle, KiB", &|round| round.idle_kib as f64);
    add("resident memory settled, KiB", &|round| round.settled_kib as f64);
    add("resident memory after a restart, KiB", &|round| round.restart.resident_kib as f64);
    add("restart until a new device is Ready, s", &|round| round.restart.taken.as_secs_f64());
    add("restart, times a bare list, pages of 100", &restart_to(0));
    add("restart, times a bare list, pages of 500", &restart_to(1));
    figures
}

fn ratio(taken: Duration, floor: Duration) -> f64 {
    taken.as_secs_f64() / floor.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    // Of an even number the two in the middle count: one of them is of a round that began with the operator.
    let middle = &values[(values.len() - 1) / 2..=values.len() / 2];
    middle.iter().sum::<f64>() / middle.len() as f64
}
