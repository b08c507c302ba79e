//! The first measurement: what one run of the operator costs, beside a bare loop that makes the
//! same two writes per device through the same client library.
//!
//! `make bench-smoke N=1000`, or `cargo bench --bench smoke -- --devices 1000 --grow-to 5000 --rotate-at 1200 --storms`.

mod bare;
mod report;
mod rotation;
mod stage;
mod storms;

use clap::Parser;

use self::report::{Outcome, per, print_requests, say, seconds};
use self::stage::Stage;

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
    /// Then deletes the integration and makes it again, and lets DPS come and go.
    #[arg(long)]
    storms: bool,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Outcome<()> {
    // Whoever asked first has it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let n = args.devices;
    say("starting control plane and simulator…")?;
    let mut stage = Stage::start().await?;
    bare::warm_up(&stage).await?;

    say(&format!("bare loop: {n} devices, the same two writes each, 16 in flight…"))?;
    let bare = bare::run(&stage, n).await?;

    say("first device of an idle operator…")?;
    stage.start_operator()?;
    stage.fence().await?;
    let first = stage.first_device().await?;
    let idle_kib = stage.resident_kib().await?;
    stage.stop_operator()?;

    say(&format!("operator: {n} devices that are there before it starts…"))?;
    stage.create_devices(0, n).await?;
    stage.forget();
    stage.start_operator()?;
    let taken = stage.wait_ready(n, n + 2).await?;
    let settled_kib = stage.resident_kib().await?;
    let requests = stage.requests()?;
    let [register, poll, lookup, other] = stage.dps_calls();

    say("restart with everything settled…")?;
    stage.stop_operator()?;
    stage.forget();
    stage.start_operator()?;
    let fence = stage.fence().await?;
    let restart_requests = stage.requests()?;
    let restart_dps: u64 = stage.dps_calls().iter().sum();
    let restart_kib = stage.resident_kib().await?;

    say("\nresult")?;
    say(&format!("  devices                        {n}"))?;
    say(&format!("  bare loop                      {}", seconds(bare)))?;
    say(&format!("  operator, start to last Ready  {}", seconds(taken)))?;
    say(&format!("  ratio                          {:.2}", taken.as_secs_f64() / bare.as_secs_f64()))?;
    say(&format!("  first device, apply to Ready   {} ms (no think time)", first.as_millis()))?;
    say(&format!(
        "  DPS calls per device           {:.3} register, {:.3} poll, {} lookup, {} other",
        per(register, n),
        per(poll, n),
        lookup,
        other
    ))?;
    say("  API server requests")?;
    print_requests(&requests, n)?;
    say(&format!(
        "  resident memory                {idle_kib} KiB idle, {settled_kib} KiB with {n} settled, {restart_kib} KiB after a restart"
    ))?;
    say(&format!(
        "  restart: DPS calls             {} (register and poll of the one device created after it)",
        restart_dps
    ))?;
    say(&format!("  restart: ready to serve in     {}", seconds(fence)))?;
    say("  restart: API server requests")?;
    print_requests(&restart_requests, n)?;
    if args.rotate_at > 0 {
        rotation::run(&mut stage, n + 2, args.rotate_at).await?;
    }
    if args.storms {
        let late = if args.rotate_at > 0 { rotation::NEW + 1 } else { 0 };
        storms::run(&mut stage, n + 2 + late).await?;
    }
    if args.grow_to > n {
        grow(&mut stage, n, args.grow_to, restart_kib).await?;
    }
    stage.stop_operator()
}

/// The slope of resident memory, from one restart to another: what is kept, not what was in flight.
async fn grow(stage: &mut Stage, from: usize, to: usize, before_kib: u64) -> Outcome<()> {
    say(&format!("growing to {to} devices…"))?;
    stage.forget();
    stage.create_devices(from, to).await?;
    stage.wait_ready(to - from, to + 3).await?;
    let grown_kib = stage.resident_kib().await?;
    stage.stop_operator()?;
    stage.start_operator()?;
    stage.fence().await?;
    let fresh_kib = stage.resident_kib().await?;
    let slope = (fresh_kib as f64 - before_kib as f64) * 1024.0 / (to - from) as f64;
    say(&format!(
        "  resident memory                {grown_kib} KiB with {to} settled, {fresh_kib} KiB after a restart"
    ))?;
    say(&format!("  slope between the restarts     {slope:.0} bytes a device"))
}
