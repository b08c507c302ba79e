//! Counters of an integration's status, taken from the index in one pass.

mod certificates;

use std::collections::{BTreeMap, HashMap};

pub use self::certificates::CertificateCounts;
use self::certificates::CertificateTally;
use super::inherit::Policy;
use super::intern::Sym;
use super::record::{Record, Wanted};
use super::{DeviceId, Fleet};
use crate::api::integration::{DeviceCounts, FailureCount, HubCount};

/// Hubs that are named; further ones are added up.
const HUBS_SHOWN: usize = 50;

/// An integration's share of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub devices: DeviceCounts,
    pub hubs: Vec<HubCount>,
    pub other_hubs: i32,
    pub failures: Vec<FailureCount>,
    pub rotation: Rotation,
    /// If any device has a certificate.
    pub certificates: Option<CertificateCounts>,
    /// Devices that have not served the integration's token.
    pub tokens_pending: i32,
    /// Calls a minute that checks and periodic registrations come to.
    pub demand: f64,
}

/// How far a fleet has moved to its integration's key, or to another CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Registered devices.
    pub total: i32,
    /// Those registered with another key, or with a certificate of another CA than that of their next one.
    pub pending: i32,
    /// Those of them that are not going to be moved: suspended, or with policy Never.
    pub excluded: i32,
}

impl Rotation {
    /// A device that is registered with something else than it should be.
    fn add_mover(&mut self, record: &Record, policy: Policy) {
        let stays = record.suspended || policy == Policy::Never;
        *if stays { &mut self.excluded } else { &mut self.pending } += 1;
    }
}

#[derive(Default)]
struct Tally {
    devices: DeviceCounts,
    hubs: BTreeMap<Sym, i32>,
    failures: BTreeMap<&'static str, i32>,
    rotation: Rotation,
    certificates: CertificateTally,
    tokens_pending: i32,
    demand: f64,
}

/// All devices, counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// Those that their integration admits, by integration.
    pub admitted: HashMap<Sym, Counts>,
    /// The others, by their own namespace: they count for no integration.
    pub strays: HashMap<Sym, usize>,
}

/// Counts every integration's devices that it admits; `now` in seconds since 1970. Suspended, ready, failed and pending partition
/// the total, in this order.
pub fn count<'a>(
    fleet: &Fleet,
    now: i64,
    mut admits: impl FnMut(&Record) -> bool,
    wanted: impl Fn(Sym) -> Option<Wanted<'a>>,
) -> Counted {
    let mut tallies: HashMap<Sym, Tally> = HashMap::new();
    let mut strays: HashMap<Sym, usize> = HashMap::new();
    for (id, record) in fleet.iter() {
        if !admits(record) {
            *strays.entry(record.namespace).or_default() += 1;
            continue;
        }
        let tally = tallies.entry(record.integration).or_default();
        if let Some(wanted) = wanted(record.integration) {
            tally.add_planned(record, wanted);
            tally.add_certificate(fleet, (id, record), wanted, now);
        }
        let Tally { devices, hubs, failures, .. } = tally;
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
        let failing = record.reason.filter(|r| r.is_stalled() || (r.is_reconciling() && !r.takes_long()));
        if let Some(reason) = failing {
            *failures.entry(reason.as_str()).or_default() += 1;
        }
    }
    let admitted = tallies.into_iter().map(|(integration, tally)| (integration, tally.finish(fleet)));
    Counted { admitted: admitted.collect(), strays }
}

impl Tally {
    /// Adds what rotation and checks mean for one device.
    fn add_planned(&mut self, record: &Record, wanted: Wanted<'_>) {
        let schedule = record.schedule.or(wanted.inherited.schedule);
        // Devices with credentials of their own are no part of a rotation.
        let shared = record.credential.filter(|_| !record.has_own_credential());
        if shared.is_some() {
            self.rotation.total += 1;
        }
        if shared.is_some_and(|credential| credential != wanted.credential) {
            self.rotation.add_mover(record, schedule.policy);
        }
        if record.is_registered()
            && !record.suspended
            && wanted.inherited.token.is_some_and(|token| record.token != Some(token))
        {
            self.tokens_pending += 1;
        }
        let period = match schedule.policy {
            Policy::Periodic(period) => Some(period),
            Policy::OnChange | Policy::Never => None,
        };
        if record.settled.is_some() {
            let intervals = schedule.drift.into_iter().chain(period).filter(|interval| *interval > 0);
            self.demand += intervals.map(|interval| 60.0 / f64::from(interval)).sum::<f64>();
        }
    }

    /// Adds how its certificate stands, if it has one.
    fn add_certificate(
        &mut self,
        fleet: &Fleet,
        (id, record): (DeviceId, &Record),
        wanted: Wanted<'_>,
        now: i64,
    ) {
        let reads = fleet.reads_certificate(id);
        if !reads && record.certificate.is_none() {
            return;
        }
        let newer = reads && fleet.has_unregistered(id);
        let next_ca = fleet.next_ca(id);
        self.certificates.add(record, newer, next_ca, now);
        if newer && next_ca.is_some() && record.is_registered() {
            let schedule = record.schedule.or(wanted.inherited.schedule);
            self.rotation.add_mover(record, schedule.policy);
            self.rotation.total += 1;
        }
    }

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
        let rotation = Rotation { total: self.rotation.total + self.certificates.moved(), ..self.rotation };
        Counts {
            devices: self.devices,
            hubs,
            other_hubs,
            failures: failures
                .map(|(reason, devices)| FailureCount { reason: reason.to_owned(), devices })
                .collect(),
            rotation,
            certificates: self.certificates.finish(&fleet.names),
            tokens_pending: self.tokens_pending,
            demand: self.demand,
        }
    }
}
