//! What one run of the operator costs, beside two floors: a bare loop that makes the same two writes per
//! device through the same client library, and one whose objects are watched meanwhile, as any operator's are.
//! Each round has a control plane of its own and measures all three one after the other: in every second round
//! the operator comes first.
//!
//! `make bench-smoke N=1000`, or `cargo bench --bench smoke -- --devices 1000 --grow-to 5000 --rotate-at 1200 --storms`.

mod bare;
mod cert_manager;
mod certificates;
mod figures;
mod manifests;
mod measure;
mod neighbours;
mod report;
mod rotation;
mod setup;
mod states;
mod storms;

use clap::Parser;

use self::measure::Measured;
use self::report::{Outcome, say};
use self::setup::Setup;

#[derive(Debug, Parser)]
struct Args {
    /// Devices of the main measurement.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Rounds of it; the medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
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
    /// Of these without those that follow from this.
    #[arg(long, requires = "states", value_enum, value_delimiter = ',')]
    skip: Vec<states::Part>,
    /// Only how long new devices of another integration take while something happens to this many.
    #[arg(long, default_value_t = 0)]
    neighbours: usize,
    /// Only what this many devices with certificates cost, beside as many with a group's key.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["states", "neighbours"])]
    certificates: usize,
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
    if args.states > 0 {
        let mut setup = start().await?;
        states::run(&mut setup, args.states, args.quick, &args.skip).await?;
        return setup.stop_operator();
    }
    if args.neighbours > 0 {
        let mut setup = start().await?;
        neighbours::run(&mut setup, args.neighbours).await?;
        return setup.stop_operator();
    }
    if args.certificates > 0 {
        return certificates::run(args.certificates, args.grow_to).await;
    }
    let (mut setup, resident_kib) = rounds(args).await?;
    more(args, &mut setup, resident_kib).await?;
    setup.stop_operator()
}

async fn start() -> Outcome<Setup> {
    say("starting control plane and simulator…")?;
    Setup::start().await
}

/// The main measurement. Returns what the last round has left, with the operator's memory then.
async fn rounds(args: &Args) -> Outcome<(Setup, u64)> {
    let mut measured: Vec<Measured> = Vec::new();
    loop {
        say(&format!("\nround {} of {}", measured.len() + 1, args.rounds))?;
        let mut setup = start().await?;
        let floors_first = measured.len().is_multiple_of(2);
        measured.push(measure::run(&mut setup, args.devices, floors_first).await?);
        if measured.len() >= args.rounds as usize {
            measure::print(&measured)?;
            let resident_kib = measured.last().map_or(0, |last| last.restart.resident_kib);
            return Ok((setup, resident_kib));
        }
        setup.stop_operator()?;
    }
}

/// What may follow on the last round's control plane.
async fn more(args: &Args, setup: &mut Setup, resident_kib: u64) -> Outcome<()> {
    let n = args.devices;
    if args.rotate_at > 0 {
        rotation::run(setup, n + 2, args.rotate_at).await?;
    }
    if args.storms {
        let late = if args.rotate_at > 0 { rotation::NEW + 1 } else { 0 };
        storms::run(setup, n + 2 + late).await?;
    }
    if args.grow_to > n {
        grow(setup, n, args.grow_to, resident_kib).await?;
    }
    Ok(())
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
