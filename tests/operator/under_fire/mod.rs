//! Every request of the operator may be lost, late or answered wrongly, and it may die at every one of them.

mod api_server;
mod blows;
mod clocks;
mod dps_answers;
mod dps_connections;
mod dps_operations;
mod dps_rates;
mod enumerator;
mod fields;
mod flows;
mod leader;
mod objects;
mod relay;
mod rows;
mod scale;
mod snapshot;
mod soak;

use std::time::Duration;

use serde_json::Value;

use crate::world::proxy::{Armed, Rule, Side, status};
use crate::world::waiting::until;
use crate::world::{INTEGRATION, Kind, Setup, World};

/// What the operator watches in a namespace.
const WATCHES: [&str; 4] =
    ["watch provisioneddevices", "watch dpsintegrations", "watch secrets", "watch configmaps"];

/// Whether everything is tried, and for as long as faults may last; otherwise what fits into a minute.
fn is_thorough() -> bool {
    std::env::var("DPS_FAULTS").is_ok_and(|which| which == "all")
}

fn seconds(smoke: u64, thorough: u64) -> Duration {
    Duration::from_secs(if is_thorough() { thorough } else { smoke })
}

/// A world with a proxy before everything, in which device `first` is Ready.
async fn fired_at() -> World {
    let world = World::with(Setup { proxied: true, ..Setup::default() }).await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    world
}

/// The next watches are refused as too old: everything is listed.
fn expire_watches(world: &World) -> Vec<Armed> {
    let expired = || status(410, "Expired", "too old resource version");
    WATCHES.map(|watch| world.proxies().arm(Side::ApiServer, Rule::next(watch, expired()))).into()
}

impl World {
    /// Waits until nothing is asked of DPS and nothing written for a moment, but for the Lease; then nothing
    /// may be for a long time.
    async fn come_to_rest(&self) {
        let effects = || {
            let records = self.proxies().records.all().into_iter();
            let lasting =
                records.filter(|record| record.call.is_effect() && record.call.resource != "leases");
            lasting.collect::<Vec<_>>()
        };
        // The counters of an integration follow within ten seconds, or later if writing them has failed.
        let rest = Duration::from_secs(11);
        let resting = until(self.patience * 2, Duration::ZERO, async || {
            let before = effects().len();
            tokio::time::sleep(rest).await;
            if effects().len() == before && self.counters_are_right().await { Ok(before) } else { Err(()) }
        });
        let before = resting.await.unwrap_or_else(|()| self.give_up("it never comes to rest", &Value::Null));
        tokio::time::sleep(seconds(0, 60)).await;
        let late: Vec<String> = effects()
            .split_off(before)
            .iter()
            .map(|record| format!("{} {} {}", record.call, record.call.name, record.body["status"]))
            .collect();
        assert_eq!(late, [""; 0], "after everything had come to rest");
    }

    /// Each integration counts the devices that refer to it.
    async fn counters_are_right(&self) -> bool {
        let devices = self.list(Kind::Device).await;
        self.list(Kind::Integration).await.iter().all(|integration| {
            let is_its =
                |device: &&Value| device["spec"]["integrationRef"]["name"] == integration["metadata"]["name"];
            integration["status"]["devices"]["total"] == devices.iter().filter(is_its).count()
        })
    }
}
