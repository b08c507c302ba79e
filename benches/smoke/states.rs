//! What devices cost in memory in each state that a whole fleet can be in.

use std::time::Duration;

use clap::ValueEnum;
use dps_simulator::{Fault, FaultAction, RegistrationStatus};
use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::report::{Outcome, say};
use crate::setup::{ID_SCOPE, Setup};

/// Nothing has changed for so long when memory is read.
const QUIET: Duration = Duration::from_secs(10);
/// Resident memory that varies by less than one in so many stands still.
const STILL: u64 = 100;

/// What may be left out of a run: with many devices each takes long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Part {
    Waiting,
    Failed,
    Suspended,
    Restored,
}

/// `n` devices in each state but those to `skip`; calls and writes on the way to it are not limited unless
/// the state is made by that. `quick`: without the states that are reported one device after the other.
pub async fn run(setup: &mut Setup, n: usize, quick: bool, skip: &[Part]) -> Outcome<()> {
    setup.start_operator()?;
    setup.await_extra_device().await?;
    let idle = resident(setup).await?;
    say(&format!("\n{:<44} {:>12} {:>12} {:>14}", "state", "resident KiB", "peak KiB", "bytes a device"))?;
    say(&format!("{:<44} {idle:>12} {:>12}", "no device", setup.peak_kib()?))?;
    setup.stop_operator()?;
    let table = Table { n, base: idle };

    setup.create_devices(0, n).await?;
    if !skip.contains(&Part::Waiting) {
        waiting(setup, &table, quick).await?;
    }
    if !skip.contains(&Part::Failed) {
        failed(setup, &table).await?;
    }
    provisioned(setup, &table).await?;
    if !skip.contains(&Part::Suspended) {
        suspended(setup, &table).await?;
    }
    if !skip.contains(&Part::Restored) {
        restored(setup, &table).await?;
    }
    Ok(())
}

/// Before the first registration.
async fn waiting(setup: &mut Setup, table: &Table, quick: bool) -> Outcome<()> {
    setup.start_operator_at(1)?;
    table.row(setup, "wait for the first registration").await?;
    if !quick {
        setup.reset_counts();
        // Each says so once, after five minutes.
        setup.wait_written(table.most()).await?;
        table.row(setup, "the same, and have said that they do").await?;
    }
    setup.stop_operator()?;
    setup.secrets().delete("key", &DeleteParams::default()).await?;
    setup.reset_counts();
    setup.start_operator()?;
    if !quick {
        setup.wait_written(table.most()).await?;
    }
    let integration =
        if quick { "integration cannot be used" } else { "integration cannot be used, and they say so" };
    table.row(setup, integration).await?;
    setup.stop_operator()?;
    setup.create_key("key").await
}

async fn provisioned(setup: &mut Setup, table: &Table) -> Outcome<()> {
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_written(table.most()).await?;
    table.row(setup, "settled, just registered").await?;
    table.row_after_restart(setup, "settled").await
}

async fn suspended(setup: &mut Setup, table: &Table) -> Outcome<()> {
    setup.reset_counts();
    patch_all(setup, table.n, false, &json!({"spec": {"suspend": true}})).await?;
    setup.wait_written(table.most()).await?;
    table.row_after_restart(setup, "suspended").await
}

async fn restored(setup: &mut Setup, table: &Table) -> Outcome<()> {
    setup.stop_operator()?;
    patch_all(setup, table.n, false, &json!({"spec": {"suspend": null}})).await?;
    patch_all(setup, table.n, true, &json!({"status": null})).await?;
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_written(table.most()).await?;
    table.row(setup, "restored without status").await
}

/// DPS takes each of them and has no hub for it.
async fn failed(setup: &mut Setup, table: &Table) -> Outcome<()> {
    setup.dps.control().inject(assign_no_hub())?;
    setup.reset_counts();
    setup.start_operator()?;
    setup.wait_written(table.most()).await?;
    table.row(setup, "failed: DPS assigns no hub").await?;
    table.row_after_restart(setup, "failed, after a restart").await?;
    setup.stop_operator()?;
    setup.dps.control().clear_faults();
    Ok(())
}

struct Table {
    n: usize,
    /// Resident memory without devices, in KiB.
    base: u64,
}

impl Table {
    /// Some are registered at the lowest rate, too.
    fn most(&self) -> usize {
        self.n * 99 / 100
    }

    async fn row(&self, setup: &mut Setup, state: &str) -> Outcome<()> {
        let resident = resident(setup).await?;
        let peak = setup.peak_kib()?;
        let each = (resident as f64 - self.base as f64) * 1024.0 / self.n as f64;
        say(&format!("{state:<44} {resident:>12} {peak:>12} {each:>14.0}"))
    }

    async fn row_after_restart(&self, setup: &mut Setup, state: &str) -> Outcome<()> {
        setup.stop_operator()?;
        setup.start_operator()?;
        setup.wait_read().await?;
        self.row(setup, state).await
    }
}

/// Resident memory once it stands still.
async fn resident(setup: &Setup) -> Outcome<u64> {
    let mut last = setup.resident_kib().await?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = setup.resident_kib().await?;
        if now.abs_diff(last) <= last / STILL {
            return Ok(now);
        }
        last = now;
    }
}

/// Patches the first `n` devices, or their statuses.
pub async fn patch_all(setup: &Setup, n: usize, status: bool, patch: &Value) -> Outcome<()> {
    let (devices, params, patch) = (setup.devices(), PatchParams::default(), Patch::Merge(patch));
    let one = |number: usize| {
        let name = Setup::device_name(number);
        let (devices, params, patch) = (&devices, &params, &patch);
        async move {
            match status {
                true => devices.patch_status(&name, params, patch).await,
                false => devices.patch(&name, params, patch).await,
            }
            .map(drop)
        }
    };
    Ok(stream::iter((0..n).map(one)).buffer_unordered(16).try_collect().await?)
}

/// Ends every registration without a hub.
fn assign_no_hub() -> Fault {
    let status = RegistrationStatus::Failed;
    let action = FaultAction::Outcome { status, error_code: None, error_message: None };
    Fault { id_scope: Some(ID_SCOPE.to_owned()), ..Fault::global(action) }
}
