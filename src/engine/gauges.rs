//! What metrics show of the fleet and the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::dps::observe::Observer;
use crate::fleet::counts::Counts;
use crate::fleet::intern::Sym;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::{IntegrationGauges, QueueGauges, Rotation, Strays};

/// Counts requests to DPS.
#[derive(Debug)]
pub(super) struct CountCalls(pub Arc<Telemetry>);

impl Observer for CountCalls {
    fn request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.0.metrics.dps_request(operation, outcome, took);
    }
}

impl Engine {
    pub(super) fn publish_queue(&self, now: Instant) {
        self.telemetry.metrics.queue(&QueueGauges {
            waiting: self.queue.waiting(),
            in_flight: self.queue.in_flight(),
            throttled_scopes: self.queue.throttled_scopes(now),
            rate_factor: self.queue.slowest(now),
        });
    }

    /// Integrations in the order of their names, so that those beyond the bound are always the same.
    pub(super) fn publish_fleet(&self) {
        let mut shown: Vec<IntegrationGauges> =
            self.integrations.keys().filter_map(|sym| self.gauges(*sym)).collect();
        shown.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.telemetry.metrics.fleet(shown, self.counters.strays.clone());
    }

    /// Devices that no integration serves, by their own namespace and in its order. One pass over all
    /// devices, most of which are judged like the one before.
    pub(super) fn strays(&self) -> Vec<Strays> {
        let mut strays: BTreeMap<&str, usize> = BTreeMap::new();
        let mut judged = None;
        for (_, record) in self.fleet.iter() {
            let pair = (record.integration, record.namespace);
            let served = match judged {
                Some((last, served)) if last == pair => served,
                _ => self.serves(record.integration, record.namespace),
            };
            judged = Some((pair, served));
            if !served {
                *strays.entry(self.fleet.names.text(record.namespace)).or_default() += 1;
            }
        }
        let shown = |(namespace, devices): (&str, usize)| Strays { namespace: namespace.to_owned(), devices };
        strays.into_iter().map(shown).collect()
    }

    /// The integration exists and is for devices of this namespace, whether it can be used or not.
    fn serves(&self, integration: Sym, namespace: Sym) -> bool {
        let Some(found) = self.integrations.get(&integration).filter(|found| found.object.is_some()) else {
            return false;
        };
        self.is_of_namespace(integration, namespace)
            || found.consent.admits(self.namespaces.labels(self.fleet.names.text(namespace))) == Some(true)
    }

    fn gauges(&self, sym: Sym) -> Option<IntegrationGauges> {
        let integration = self.integrations.get(&sym)?;
        let object = integration.object.as_ref()?;
        let none = Counts::default();
        let counts = self.counters.last.get(&sym).unwrap_or(&none);
        let status = object.status.as_ref();
        let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let reason = conditions::reason_of(conditions, ConditionType::Ready).map_or("", Reason::as_str);
        let rotation = status.and_then(|status| status.key_rotation.as_ref());
        let devices = &counts.devices;
        Some(IntegrationGauges {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            ready: conditions::is_true(conditions, ConditionType::Ready),
            reason: reason.to_owned(),
            devices: [
                ("ready", devices.ready),
                ("pending", devices.pending),
                ("failed", devices.failed),
                ("suspended", devices.suspended),
            ],
            assigned: devices.assigned,
            hubs: counts.hubs.iter().map(|hub| (hub.hostname.clone(), hub.devices)).collect(),
            failures: counts.failures.iter().map(|f| (f.reason.clone(), f.devices)).collect(),
            fallen_back: integration.fallen_back && integration.ready().is_some(),
            rotation: rotation.map(|rotation| Rotation {
                total: rotation.total,
                pending: rotation.pending,
                blocked: rotation.blocked,
            }),
        })
    }
}
