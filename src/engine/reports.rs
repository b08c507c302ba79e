//! What integrations report: conditions at once, counters seldom.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::answers::REFUSALS_THAT_COUNT;
use super::integrations::Integration;
use super::{Engine, Message};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus};
use crate::api::names::RECONCILE_REQUESTED_AT;
use crate::api::version;
use crate::clock;
use crate::controller::events;
use crate::controller::integration::SlotKey;
use crate::controller::integration::decide::Unusable;
use crate::controller::integration::status::{self, View};
use crate::fleet::counts::{self, Counts};
use crate::fleet::intern::Sym;
use crate::kube_io::error::ApiError;
use crate::kube_io::events::reference;
use crate::schedule::permits::Narrow;
use crate::schedule::retry::{self, RetryClass};
use crate::telemetry::metrics::Strays;

/// Counters wait this long for more of the same,
const COUNT_AFTER: Duration = Duration::from_secs(1);
/// and are written at most this often.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// After a conflict the watch brings the new object; it is not waited for any longer.
const CONFLICT_WAIT: Duration = Duration::from_secs(10);

/// When counters are taken.
#[derive(Default)]
pub(super) struct Counters {
    changed_at: Option<Instant>,
    pub(super) last: HashMap<Sym, Counts>,
    /// Devices that no integration serves.
    pub(super) strays: Vec<Strays>,
}

impl Counters {
    /// Some device changed.
    pub(super) fn touch(&mut self) {
        self.changed_at.get_or_insert_with(|| clock::now().mono);
    }
}

impl Engine {
    /// When statuses have to be looked at again if nothing else happens.
    pub(super) fn next_flush(&self) -> Option<Instant> {
        let count = self.counters.changed_at.filter(|_| self.progress.running()).map(|at| self.count_due(at));
        let waiting = self.integrations.values().filter(|i| i.dirty && !i.writing).map(|i| i.not_before);
        waiting.flatten().chain(count).min()
    }

    fn count_due(&self, changed_at: Instant) -> Instant {
        let last = self.integrations.values().filter_map(|integration| integration.counted_at).max();
        last.map_or(changed_at + COUNT_AFTER, |last| (last + COUNT_INTERVAL).max(changed_at + COUNT_AFTER))
    }

    pub(super) fn flush_integrations(&mut self, now: Instant) {
        let due = self
            .counters
            .changed_at
            .filter(|_| self.progress.running())
            .is_some_and(|at| self.count_due(at) <= now);
        if due {
            self.counters.changed_at = None;
            self.make_peace(now);
            self.counters.last = counts::count(&self.fleet, |sym| self.integrations.get(&sym)?.target());
            self.counters.strays = self.strays();
            self.compare_demand();
            for integration in
                self.integrations.values_mut().filter(|integration| integration.object.is_some())
            {
                (integration.counted_at, integration.counted_epoch) = (Some(now), Some(integration.epoch));
                integration.dirty = true;
            }
        }
        let ready = |i: &Integration| i.dirty && !i.writing && i.not_before.is_none_or(|at| at <= now);
        let dirty: Vec<Sym> =
            self.integrations.iter().filter(|(_, i)| ready(i)).map(|(sym, _)| *sym).collect();
        if due || !dirty.is_empty() {
            dirty.into_iter().for_each(|sym| self.write_integration(sym));
            if self.progress.running() {
                self.publish_fleet();
            }
        }
    }

    fn write_integration(&mut self, sym: Sym) {
        let none = Counts::default();
        let counted = self.counters.last.get(&sym).or(Some(&none)).filter(|_| self.progress.running());
        let now = clock::now();
        let throttled =
            self.queue.paused_until(sym.index()).and_then(|at| at.checked_duration_since(now.mono));
        let narrow = self.queue.narrow(sym.index());
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.dirty = false;
        let (Some(object), Some(outcome)) = (integration.object.clone(), &integration.outcome) else {
            return;
        };
        let keys: Result<(&SlotKey, Option<&SlotKey>), &Unusable> =
            outcome.as_ref().map(|ready| (&ready.active, ready.other.as_ref()));
        let wanted = status::render(
            &object,
            &View {
                suspended: object.spec.suspend,
                fallback: integration.fallen_back,
                blocked: matches!(narrow, Some(Narrow::Refused(times)) if times >= REFUSALS_THAT_COUNT)
                    && !integration.accepted,
                insufficient: integration.insufficient,
                reconcile_at: reconcile_at(&object),
                accepted: integration.accepted && keys.is_ok(),
                keys,
                trouble: integration.trouble.as_ref().map(|(_, trouble)| trouble),
                throttled_until: throttled.and_then(|wait| now.wall.checked_add(wait).ok()),
                // Before the first count, or since something else is wanted, they stay as they are written.
                counts: counted.filter(|_| integration.counted_epoch == Some(integration.epoch)),
            },
            now.wall,
        );
        if status::is_equal(object.status.as_ref(), &wanted) && !integration.unwritten {
            return;
        }
        log(&object, &wanted);
        let told = events::of_integration(object.status.as_ref(), &wanted);
        integration.writing = true;
        let (writer, sender) = (self.writer.clone(), self.sender.clone());
        let written = Arc::make_mut(integration.object.get_or_insert(object.clone()));
        written.status = Some(wanted.clone());
        let regarding = reference(&*object);
        told.into_iter().for_each(|told| self.tell(sym, &regarding, told));
        tokio::spawn(async move {
            let result = writer.replace_status(&*object, &wanted).await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::IntegrationWritten(sym, result)).await;
        });
    }

    /// Finds integrations whose checks come to more than their rate.
    fn compare_demand(&mut self) {
        let mut by_scope: HashMap<String, f64> = HashMap::new();
        for (sym, integration) in &self.integrations {
            let demand = self.counters.last.get(sym).map_or(0.0, |counts| counts.demand);
            if let Some(ready) = integration.ready() {
                *by_scope.entry(ready.scope.to_string()).or_default() += demand;
            }
        }
        for (sym, integration) in &mut self.integrations {
            let own = self.counters.last.get(sym).map_or(0.0, |counts| counts.demand);
            let scope = integration.ready().and_then(|ready| by_scope.get(ready.scope.as_str()).copied());
            let rate = self.config.registrations_per_minute;
            let share = integration.limits.share.map(|share| (own, share));
            let over = |(demand, rate): &(f64, u32)| *demand > f64::from(*rate);
            integration.insufficient = [Some((scope.unwrap_or(0.0), rate)), share]
                .into_iter()
                .flatten()
                .find(over)
                .map(|(_, rate)| rate);
        }
    }

    pub(super) fn integration_written(&mut self, sym: Sym, result: Result<u64, ApiError>) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.writing = false;
        match result {
            Ok(written) => {
                integration.unanswered = 0;
                integration.not_before = None;
                integration.unwritten = false;
                let held = integration.object.as_ref().map(|o| version::of(&o.metadata));
                if let Some(object) = integration.object.as_mut().filter(|_| held < Some(written)) {
                    Arc::make_mut(object).metadata.resource_version = Some(written.to_string());
                }
            }
            // Changed by somebody else, or gone: the watch tells. If it does not, it is tried again.
            Err(ApiError::Conflict | ApiError::NotFound) => {
                integration.unwritten = true;
                integration.not_before = Some(clock::now().mono + CONFLICT_WAIT);
                integration.dirty = true;
            }
            Err(_) => {
                integration.unwritten = true;
                integration.unanswered += 1;
                let wait = retry::wait(RetryClass::Transient, integration.unanswered, u64::from(sym.index()));
                integration.not_before = Some(clock::now().mono + wait);
                integration.dirty = true;
            }
        }
    }
}

fn reconcile_at(object: &DpsIntegration) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(RECONCILE_REQUESTED_AT).map(String::as_str)
}

fn log(object: &DpsIntegration, status: &DpsIntegrationStatus) {
    let reason =
        |status: &DpsIntegrationStatus| conditions::reason_of(&status.conditions, ConditionType::Ready);
    let after = reason(status);
    if object.status.as_ref().and_then(reason) == after {
        return;
    }
    let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
    let trouble = after.filter(|reason| reason.is_stalled() || reason.is_reconciling());
    let ready = conditions::find(&status.conditions, ConditionType::Ready);
    match (trouble, ready) {
        (Some(reason), Some(ready)) => {
            warn!(
                namespace,
                integration = name,
                reason = reason.as_str(),
                why = ready.message,
                "integration"
            );
        }
        _ => info!(namespace, integration = name, reason = after.map(Reason::as_str), "integration"),
    }
}
