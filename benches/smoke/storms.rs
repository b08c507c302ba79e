//! What disturbances cost: a wrong key over a good one, forged Secrets, an integration that is deleted and
//! created again, and a DPS that is unavailable now and then while a fleet moves to another key.

use std::time::Duration;

use dps_simulator::Outage;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};

use crate::report::{DpsCalls, Outcome, print_requests, say};
use crate::setup::{FACTORY, ID_SCOPE, KEY, NAMESPACE, OTHER_KEY, Setup};

/// How long DPS is unavailable, and then available, `FLAPS` times.
const FLAP: Duration = Duration::from_secs(5);
const FLAPS: u32 = 6;
const FORGED: usize = 10_000;
const WRONG_KEY: &str = "YmVuY2htYXJrLWtleS1vZi1uby1ncm91cC1hbnl3aGVyZS13cm9uZw==";

/// `n` devices are settled.
pub async fn run(setup: &mut Setup, n: usize) -> Outcome<()> {
    setup.stop_operator()?;
    setup.start_operator()?;
    setup.await_extra_device().await?;
    wrong_key(setup, n + 1).await?;
    forged_secrets(setup).await?;
    deleted_integration(setup, n + 1).await?;
    flapping_dps(setup, n + 1).await
}

/// A key that DPS does not know, for a minute.
async fn wrong_key(setup: &mut Setup, n: usize) -> Outcome<()> {
    say(&format!("\na wrong key over the good one of {n} provisioned devices, for a minute…"))?;
    let good = setup.group_key().await?;
    setup.reset_counts();
    setup.set_group_key(WRONG_KEY).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    print(setup, n)?;
    say(&format!("  Ready meanwhile                {} of {n}", setup.count_ready().await?))?;
    say("the good one again…")?;
    setup.reset_counts();
    setup.set_group_key(&good).await?;
    setup.await_extra_device().await?;
    print(setup, n)
}

async fn forged_secrets(setup: &mut Setup) -> Outcome<()> {
    say(&format!("\n{FORGED} Secrets with the operator's label that no device names…"))?;
    let before = setup.resident_kib().await?;
    setup.reset_counts();
    let secrets = setup.secrets();
    let create = |number: usize| {
        let secrets = secrets.clone();
        async move { secrets.create(&PostParams::default(), &forged(number)).await.map(|_| ()) }
    };
    stream::iter((0..FORGED).map(create)).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    setup.await_extra_device().await?;
    print(setup, FORGED)?;
    let after = setup.resident_kib().await?;
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

async fn deleted_integration(setup: &mut Setup, n: usize) -> Outcome<()> {
    say(&format!("\nintegration with {n} devices deleted (they are told after 30 s, at 50 a second)…"))?;
    let integrations = setup.integrations();
    let mut factory = integrations.get(FACTORY).await?;
    setup.reset_counts();
    integrations.delete(FACTORY, &DeleteParams::default()).await?;
    setup.wait_written(n).await?;
    print(setup, n)?;

    say("made again with the same spec…")?;
    setup.reset_counts();
    (factory.metadata.resource_version, factory.metadata.uid, factory.status) = (None, None, None);
    factory.metadata.managed_fields = None;
    integrations.create(&PostParams::default(), &factory).await?;
    setup.wait_written(n).await?;
    print(setup, n)
}

async fn flapping_dps(setup: &mut Setup, n: usize) -> Outcome<()> {
    say(&format!(
        "DPS away and back {FLAPS} times, {} s each, while the fleet moves to another key…",
        FLAP.as_secs()
    ))?;
    let control = setup.dps.control();
    let key = if setup.group_key().await? == KEY { OTHER_KEY } else { KEY };
    setup.reset_counts();
    control.set_outage(Outage::Reset);
    control.set_group_keys(ID_SCOPE, "fleet", key, key)?;
    setup.set_group_key(key).await?;
    for _ in 0..FLAPS {
        tokio::time::sleep(FLAP).await;
        control.set_outage(Outage::None);
        tokio::time::sleep(FLAP).await;
        control.set_outage(Outage::Reset);
    }
    control.set_outage(Outage::None);
    setup.wait_written(n).await?;
    print(setup, n)
}

fn print(setup: &mut Setup, n: usize) -> Outcome<()> {
    let DpsCalls { register, poll, lookup, other } = setup.dps_calls();
    say(&format!(
        "  DPS calls                      {register} register, {poll} poll, {lookup} lookup, {other} other"
    ))?;
    print_requests(&setup.requests()?, n)
}
