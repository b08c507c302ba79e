//! The first measurement: what one run of the operator costs, beside a bare loop that makes the
//! same two writes per device through the same client library.
//!
//! `make bench-smoke N=1000`, or `cargo bench --bench smoke -- --devices 1000 --grow-to 5000 --rotate-at 1200 --storms`.

mod bare;
mod neighbours;
mod report;
mod rotation;
mod setup;
mod states;
mod storms;

use std::time::Duration;

use clap::Parser;

use self::report::{DpsCalls, Outcome, Requests, print_calls, print_requests, say, seconds};
use self::setup::Setup;

#[derive(Debug, Parser)]
struct Args {
    /// Devices of the main measurement.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Goes on to this many devices for the slope of resident memory; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    grow_to: usize,
    /// Then moves the fleet to another group key at this many calls a minute; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    rotate_at: u32,
    /// Then deletes the integration and creates it again, and makes DPS unavailable now and then.
    #[arg(long)]
    storms: bool,
    /// Only what this many devices cost in memory in each state.
    #[arg(long, default_value_t = 0, conflicts_with = "neighbours")]
    states: usize,
    /// Of these without those in which one device after the other says so, 50 a second.
    #[arg(long, requires = "states")]
    quick: bool,
    /// Only how long new devices of another integration take while something happens to this many.
    #[arg(long, default_value_t = 0)]
    neighbours: usize,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Outcome<()> {
    // It fails when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let n = args.devices;
    say("starting control plane and simulator…")?;
    let mut setup = Setup::start().await?;
    if args.states > 0 {
        states::run(&mut setup, args.states, args.quick).await?;
        return setup.stop_operator();
    }
    if args.neighbours > 0 {
        neighbours::run(&mut setup, args.neighbours).await?;
        return setup.stop_operator();
    }
    let result = measure(&mut setup, n).await?;
    let resident_kib = result.restart.resident_kib;
    print(&result)?;
    if args.rotate_at > 0 {
        rotation::run(&mut setup, n + 2, args.rotate_at).await?;
    }
    if args.storms {
        let late = if args.rotate_at > 0 { rotation::NEW + 1 } else { 0 };
        storms::run(&mut setup, n + 2 + late).await?;
    }
    if args.grow_to > n {
        grow(&mut setup, n, args.grow_to, resident_kib).await?;
    }
    setup.stop_operator()
}

/// The main measurement.
struct Measured {
    devices: usize,
    /// The time of the bare loop.
    bare: Duration,
    /// The time for the first device of an idle operator.
    first: Duration,
    idle_kib: u64,
    /// The time for all devices, from the operator's start to the last Ready.
    taken: Duration,
    settled_kib: u64,
    requests: Requests,
    calls: DpsCalls,
    restart: Restart,
}

/// A restart with everything settled.
struct Restart {
    /// The time until a new device is Ready.
    taken: Duration,
    requests: Requests,
    calls: DpsCalls,
    resident_kib: u64,
}

async fn measure(setup: &mut Setup, devices: usize) -> Outcome<Measured> {
    bare::warm_up(setup).await?;
    say(&format!("bare loop: {devices} devices, the same two writes each, 16 in flight…"))?;
    let bare = bare::run(setup, devices).await?;

    say("first device of an idle operator…")?;
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let first = setup.time_to_ready("first").await?;
    let idle_kib = setup.resident_kib().await?;
    setup.stop_operator()?;

    say(&format!("operator: {devices} devices that are there before it starts…"))?;
    setup.create_devices(0, devices).await?;
    setup.reset_counts();
    setup.start_operator()?;
    let taken = setup.wait_ready(devices, devices + 2).await?;
    let settled_kib = setup.resident_kib().await?;
    let requests = setup.requests()?;
    let calls = setup.dps_calls();
    let restart = measure_restart(setup).await?;
    Ok(Measured { devices, bare, first, idle_kib, taken, settled_kib, requests, calls, restart })
}

async fn measure_restart(setup: &mut Setup) -> Outcome<Restart> {
    say("restart with everything settled…")?;
    setup.stop_operator()?;
    setup.reset_counts();
    setup.start_operator()?;
    Ok(Restart {
        taken: setup.await_extra_device().await?,
        requests: setup.requests()?,
        calls: setup.dps_calls(),
        resident_kib: setup.resident_kib().await?,
    })
}

fn print(result: &Measured) -> Outcome<()> {
    let Measured { devices, bare, first, idle_kib, taken, settled_kib, requests, calls, restart } = result;
    say("\nresult")?;
    say(&format!("  devices                        {devices}"))?;
    say(&format!("  bare loop                      {}", seconds(*bare)))?;
    say(&format!("  operator, start to last Ready  {}", seconds(*taken)))?;
    say(&format!("  ratio                          {:.2}", taken.as_secs_f64() / bare.as_secs_f64()))?;
    say(&format!("  first device, apply to Ready   {} ms (no think time)", first.as_millis()))?;
    print_calls(calls, *devices)?;
    say("  API server requests")?;
    print_requests(requests, *devices)?;
    say(&format!(
        "  resident memory                {idle_kib} KiB idle, {settled_kib} KiB with {devices} settled, {} KiB after a restart",
        restart.resident_kib
    ))?;
    say(&format!(
        "  restart: DPS calls             {} (register and poll of the one device created after it)",
        restart.calls.sum()
    ))?;
    say(&format!("  restart: ready to serve in     {}", seconds(restart.taken)))?;
    say("  restart: API server requests")?;
    print_requests(&restart.requests, *devices)
}

/// The slope of resident memory, measured after restarts: the memory for devices, without that for open
/// calls.
async fn grow(setup: &mut Setup, from: usize, to: usize, before_kib: u64) -> Outcome<()> {
    say(&format!("growing to {to} devices…"))?;
    // The measurements before this one have created devices of their own.
    let before = setup.count_ready().await?;
    setup.reset_counts();
    setup.create_devices(from, to).await?;
    setup.wait_ready(to - from, before + to - from).await?;
    let grown_kib = setup.resident_kib().await?;
    setup.stop_operator()?;
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let fresh_kib = setup.resident_kib().await?;
    let slope = (fresh_kib as f64 - before_kib as f64) * 1024.0 / (to - from) as f64;
    say(&format!(
        "  resident memory                {grown_kib} KiB with {to} settled, {fresh_kib} KiB after a restart"
    ))?;
    say(&format!("  slope between the restarts     {slope:.0} bytes a device"))
}
