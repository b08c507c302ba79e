//! What trouble costs in writes: an integration that is deleted and made again, and a DPS that comes
//! and goes while a fleet wants to move.

use std::collections::BTreeMap;
use std::time::Duration;

use dps_operator::api::integration::DpsIntegration;
use dps_simulator::Outage;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stage::{KEY, NAMESPACE, OTHER_KEY, Stage};
use crate::{Outcome, print_requests, say};

/// DPS is there for so long, and then away for so long, this many times.
const FLAP: Duration = Duration::from_secs(5);
const FLAPS: u32 = 6;

/// `n` devices are settled.
pub async fn run(stage: &mut Stage, n: usize) -> Outcome<()> {
    stage.stop_operator()?;
    stage.start_operator()?;
    stage.fence().await?;
    deleted_integration(stage, n + 1).await?;
    flapping_dps(stage, n + 1).await
}

async fn deleted_integration(stage: &mut Stage, n: usize) -> Outcome<()> {
    say(&format!("\nintegration with {n} devices deleted (they are told after 30 s, at 50 a second)…"))?;
    let integrations: Api<DpsIntegration> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let mut factory = integrations.get("factory").await?;
    stage.forget();
    integrations.delete("factory", &DeleteParams::default()).await?;
    stage.wait_written(n).await?;
    print(stage, n)?;

    say("made again with the same spec…")?;
    stage.forget();
    (factory.metadata.resource_version, factory.metadata.uid, factory.status) = (None, None, None);
    factory.metadata.managed_fields = None;
    integrations.create(&PostParams::default(), &factory).await?;
    stage.wait_written(n).await?;
    print(stage, n)
}

async fn flapping_dps(stage: &mut Stage, n: usize) -> Outcome<()> {
    say(&format!(
        "DPS away and back {FLAPS} times, {} s each, while the fleet moves to another key…",
        FLAP.as_secs()
    ))?;
    let control = stage.dps.control();
    stage.forget();
    control.set_outage(Outage::Reset);
    control.set_group_keys("0neBENCH", "fleet", KEY, OTHER_KEY)?;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"stringData": {"primaryKey": KEY}}));
    secrets.patch("key", &PatchParams::default(), &patch).await?;
    for _ in 0..FLAPS {
        tokio::time::sleep(FLAP).await;
        control.set_outage(Outage::None);
        tokio::time::sleep(FLAP).await;
        control.set_outage(Outage::Reset);
    }
    control.set_outage(Outage::None);
    stage.wait_written(n).await?;
    print(stage, n)
}

fn print(stage: &mut Stage, n: usize) -> Outcome<()> {
    let [register, poll, lookup, other] = stage.dps_calls();
    say(&format!(
        "  DPS calls                      {register} register, {poll} poll, {lookup} lookup, {other} other"
    ))?;
    let writes: BTreeMap<_, _> = stage.requests()?;
    print_requests(&writes, n)
}
