//! What trouble costs: a wrong key over a good one, forged Secrets, an integration that is deleted and
//! made again, and a DPS that comes and goes while a fleet wants to move.

use std::collections::BTreeMap;
use std::time::Duration;

use dps_operator::api::integration::DpsIntegration;
use dps_simulator::Outage;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};

use crate::report::{Outcome, print_requests, say};
use crate::stage::{KEY, NAMESPACE, OTHER_KEY, Stage};

/// DPS is there for so long, and then away for so long, this many times.
const FLAP: Duration = Duration::from_secs(5);
const FLAPS: u32 = 6;
const FORGED: usize = 10_000;
const WRONG_KEY: &str = "YmVuY2htYXJrLWtleS1vZi1uby1ncm91cC1hbnl3aGVyZS13cm9uZw==";

/// `n` devices are settled.
pub async fn run(stage: &mut Stage, n: usize) -> Outcome<()> {
    stage.stop_operator()?;
    stage.start_operator()?;
    stage.fence().await?;
    wrong_key(stage, n + 1).await?;
    forged_secrets(stage).await?;
    deleted_integration(stage, n + 1).await?;
    flapping_dps(stage, n + 1).await
}

/// A key that DPS does not know, for a minute.
async fn wrong_key(stage: &mut Stage, n: usize) -> Outcome<()> {
    say(&format!("\na wrong key over the good one of {n} provisioned devices, for a minute…"))?;
    let good = stage.group_key().await?;
    stage.forget();
    stage.set_group_key(WRONG_KEY).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    print(stage, n)?;
    say(&format!("  Ready meanwhile                {} of {n}", stage.ready().await?))?;
    say("the good one again…")?;
    stage.forget();
    stage.set_group_key(&good).await?;
    stage.fence().await?;
    print(stage, n)
}

async fn forged_secrets(stage: &mut Stage) -> Outcome<()> {
    say(&format!("\n{FORGED} Secrets with the operator's label that no device names…"))?;
    let before = stage.resident_kib().await?;
    stage.forget();
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let create = |number: usize| {
        let secrets = secrets.clone();
        async move { secrets.create(&PostParams::default(), &forged(number)).await.map(|_| ()) }
    };
    stream::iter((0..FORGED).map(create)).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    stage.fence().await?;
    print(stage, FORGED)?;
    let after = stage.resident_kib().await?;
    say(&format!("  resident memory                {before} KiB before, {after} KiB after"))
}

fn forged(number: usize) -> Secret {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "dps-operator".to_owned())];
    let annotations = [("dps-operator.io/device".to_owned(), format!("{NAMESPACE}/truck-{number:06}"))];
    Secret {
        metadata: ObjectMeta {
            name: Some(format!("forged-{number}")),
            labels: Some(labels.into()),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    }
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
    let key = if stage.group_key().await? == KEY { OTHER_KEY } else { KEY };
    stage.forget();
    control.set_outage(Outage::Reset);
    control.set_group_keys("0neBENCH", "fleet", key, key)?;
    stage.set_group_key(key).await?;
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
