//! Counters of an integration's status, taken from the index in one pass.

use std::collections::{BTreeMap, HashMap};

use super::Fleet;
use super::intern::Sym;
use crate::api::conditions::Reason;
use crate::api::integration::{DeviceCounts, FailureCount, HubCount};

/// So many hubs are named; the others are added up.
const HUBS_SHOWN: usize = 50;

/// An integration's share of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub devices: DeviceCounts,
    pub hubs: Vec<HubCount>,
    pub other_hubs: i32,
    pub failures: Vec<FailureCount>,
}

#[derive(Default)]
struct Tally {
    devices: DeviceCounts,
    hubs: BTreeMap<Sym, i32>,
    failures: BTreeMap<&'static str, i32>,
}

/// Counts every integration's devices. Suspended, ready, failed and pending partition the total,
/// in this order.
pub fn count(fleet: &Fleet) -> HashMap<Sym, Counts> {
    let mut tallies: HashMap<Sym, Tally> = HashMap::new();
    for (_, record) in fleet.iter() {
        let Tally { devices, hubs, failures } = tallies.entry(record.integration).or_default();
        devices.total += 1;
        let class = match (record.suspended, record.ready, record.stalled) {
            (true, _, _) => &mut devices.suspended,
            (_, true, _) => &mut devices.ready,
            (_, _, true) => &mut devices.failed,
            _ => &mut devices.pending,
        };
        *class += 1;
        if let Some(hub) = record.hub {
            devices.assigned += 1;
            *hubs.entry(hub).or_default() += 1;
        }
        let failing =
            record.reason.filter(|r| r.is_stalled() || (r.is_reconciling() && *r != Reason::Queued));
        if let Some(reason) = failing {
            *failures.entry(reason.as_str()).or_default() += 1;
        }
    }
    tallies.into_iter().map(|(integration, tally)| (integration, tally.finish(fleet))).collect()
}

impl Tally {
    fn finish(self, fleet: &Fleet) -> Counts {
        let mut hubs: Vec<HubCount> = self
            .hubs
            .into_iter()
            .map(|(hub, devices)| HubCount { hostname: fleet.names.text(hub).to_owned(), devices })
            .collect();
        hubs.sort_by(|a, b| b.devices.cmp(&a.devices).then_with(|| a.hostname.cmp(&b.hostname)));
        let other_hubs = hubs.iter().skip(HUBS_SHOWN).map(|hub| hub.devices).sum();
        hubs.truncate(HUBS_SHOWN);
        let failures = self.failures.into_iter();
        Counts {
            devices: self.devices,
            hubs,
            other_hubs,
            failures: failures
                .map(|(reason, devices)| FailureCount { reason: reason.to_owned(), devices })
                .collect(),
        }
    }
}
