//! The fleet's state by integration, as it was counted last, and the devices that have none.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// Integrations that are shown; each comes to some dozens of series.
pub(super) const INTEGRATIONS_SHOWN: usize = 500;
/// Namespaces with devices without an integration that are shown.
pub(super) const NAMESPACES_SHOWN: usize = 500;

/// One integration and its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntegrationGauges {
    pub namespace: String,
    pub name: String,
    pub ready: bool,
    /// Reason of its Ready condition; empty before the first.
    pub reason: String,
    /// Its devices by state; the states add up to all of them.
    pub devices: [(&'static str, i32); 4],
    pub assigned: i32,
    /// The largest hubs.
    pub hubs: Vec<(String, i32)>,
    pub failures: Vec<(String, i32)>,
    /// DPS refuses the key that was asked for, and the other slot's is used.
    pub fallen_back: bool,
    /// Present if any device has a certificate.
    pub certificates: Option<CertificateGauges>,
    /// Present while a new key is rolled out.
    pub rotation: Option<RotationGauges>,
}

/// Devices of a namespace whose integration does not exist or does not admit them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unserved {
    pub namespace: String,
    pub devices: usize,
}

/// How the certificates of devices stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateGauges {
    /// Devices by state.
    pub states: [(&'static str, i32); 6],
    /// When the first of them expires, in seconds since 1970.
    pub earliest_expiry: Option<u32>,
}

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotationGauges {
    pub total: i32,
    pub pending: i32,
    pub blocked: bool,
}

/// Makes the series when they are asked for, so that those of an integration that is gone are gone.
#[derive(Clone, Debug)]
pub(super) struct FleetCollector {
    seen: Arc<Mutex<(Vec<IntegrationGauges>, Vec<Unserved>)>>,
    descriptions: Arc<[Desc]>,
}

struct Families {
    ready: IntGaugeVec,
    devices: IntGaugeVec,
    assigned: IntGaugeVec,
    hubs: IntGaugeVec,
    failures: IntGaugeVec,
    fallback: IntGaugeVec,
    rotation_devices: IntGaugeVec,
    rotation_pending: IntGaugeVec,
    rotation_blocked: IntGaugeVec,
    certificates: IntGaugeVec,
    earliest_expiry: IntGaugeVec,
    unserved: IntGaugeVec,
    hidden: IntGaugeVec,
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let make = |name, help, own: &[&str]| {
            let labels: Vec<&str> = ["namespace", "integration"].iter().chain(own).copied().collect();
            IntGaugeVec::new(Opts::new(name, help).namespace("dps_operator"), &labels)
        };
        let hidden = Opts::new("integrations_not_shown", "Integrations that are left out of these metrics.");
        let unserved = Opts::new(
            "devices_without_integration",
            "Devices of a namespace whose integration does not exist or does not admit them.",
        );
        Ok(Self {
            ready: make(
                "integration_ready",
                "1 if the integration is Ready; the reason says more.",
                &["reason"],
            )?,
            devices: make("devices", "Devices by state.", &["state"])?,
            assigned: make("devices_assigned", "Devices that have a hub.", &[])?,
            hubs: make("hub_devices", "Devices by hub, of the 50 largest hubs.", &["hub"])?,
            failures: make("device_failures", "Devices in trouble by reason.", &["reason"])?,
            fallback: make(
                "key_fallback",
                "1 while DPS refuses the key that was asked for and the other slot's is used.",
                &[],
            )?,
            rotation_devices: make(
                "key_rotation_devices",
                "Registered devices while a new key is rolled out.",
                &[],
            )?,
            rotation_pending: make(
                "key_rotation_pending",
                "Devices that are still to get the new key.",
                &[],
            )?,
            rotation_blocked: make(
                "key_rotation_blocked",
                "1 while DPS refuses the new key and nothing is rolled out.",
                &[],
            )?,
            certificates: make(
                "certificates",
                "Devices with a certificate by its state: current, unregistered (a newer one is in its Secret), overdue (past five sixths of its life), expired, missing, invalid.",
                &["state"],
            )?,
            earliest_expiry: make(
                "certificate_earliest_expiry_timestamp_seconds",
                "When the first certificate expires that devices are registered with.",
                &[],
            )?,
            unserved: IntGaugeVec::new(unserved.namespace("dps_operator"), &["namespace"])?,
            hidden: IntGaugeVec::new(hidden.namespace("dps_operator"), &[])?,
        })
    }

    fn all(&self) -> [&IntGaugeVec; 13] {
        let Self { ready, devices, assigned, hubs, failures, .. } = self;
        let Self { fallback, rotation_devices, rotation_pending, rotation_blocked, unserved, hidden, .. } =
            self;
        let Self { certificates, earliest_expiry, .. } = self;
        [
            ready,
            devices,
            assigned,
            hubs,
            failures,
            fallback,
            rotation_devices,
            rotation_pending,
            rotation_blocked,
            certificates,
            earliest_expiry,
            unserved,
            hidden,
        ]
    }

    fn add(&self, of: &IntegrationGauges) {
        let key = [of.namespace.as_str(), of.name.as_str()];
        let set = |family: &IntGaugeVec, label: Option<&str>, value: i64| {
            let labels: Vec<&str> = key.iter().copied().chain(label).collect();
            family.with_label_values(&labels).set(value);
        };
        set(&self.ready, Some(&of.reason), i64::from(of.ready));
        of.devices.iter().for_each(|(state, count)| set(&self.devices, Some(state), (*count).into()));
        set(&self.assigned, None, of.assigned.into());
        of.hubs.iter().for_each(|(hub, count)| set(&self.hubs, Some(hub), (*count).into()));
        of.failures.iter().for_each(|(reason, count)| set(&self.failures, Some(reason), (*count).into()));
        set(&self.fallback, None, of.fallen_back.into());
        if let Some(of) = &of.certificates {
            of.states.iter().for_each(|(state, count)| set(&self.certificates, Some(state), (*count).into()));
            of.earliest_expiry.iter().for_each(|at| set(&self.earliest_expiry, None, (*at).into()));
        }
        if let Some(rotation) = of.rotation {
            set(&self.rotation_devices, None, rotation.total.into());
            set(&self.rotation_pending, None, rotation.pending.into());
            set(&self.rotation_blocked, None, rotation.blocked.into());
        }
    }
}

impl FleetCollector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let descriptions =
            Families::new()?.all().into_iter().flat_map(|f| f.desc().into_iter().cloned()).collect();
        Ok(Self { seen: Arc::default(), descriptions })
    }

    pub(super) fn set(&self, integrations: Vec<IntegrationGauges>, unserved: Vec<Unserved>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (in_turn(integrations), unserved);
    }
}

/// The first of each namespace before the second of any, always the same ones: however many integrations
/// one has, those of others are shown.
fn in_turn(mut integrations: Vec<IntegrationGauges>) -> Vec<IntegrationGauges> {
    integrations.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let of_namespaces = integrations.chunk_by(|a, b| a.namespace == b.namespace);
    let mut numbered: Vec<_> = of_namespaces.flat_map(|of_one| of_one.iter().enumerate()).collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, integration)| integration.clone()).collect()
}

impl Collector for FleetCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(families) = Families::new() else { return Vec::new() };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (integrations, unserved) = &*seen;
        integrations.iter().take(INTEGRATIONS_SHOWN).for_each(|integration| families.add(integration));
        let hidden = integrations.len().saturating_sub(INTEGRATIONS_SHOWN);
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        for of in unserved.iter().take(NAMESPACES_SHOWN) {
            families.unserved.with_label_values(&[&of.namespace]).set(number(of.devices));
        }
        families.hidden.with_label_values::<&str>(&[]).set(number(hidden));
        let collected = families.all().into_iter().flat_map(Collector::collect);
        collected.filter(|family| !family.get_metric().is_empty()).collect()
    }
}
