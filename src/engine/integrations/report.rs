//! What integrations report: conditions at once, counters seldom.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;
use tracing::{info, warn};

use super::reporting::COUNT_INTERVAL;
use super::{Integration, Registry, State};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus};
use crate::api::names::RECONCILE_REQUESTED_AT;
use crate::api::version;
use crate::clock::Now;
use crate::controller::events::{self, EventNote};
use crate::controller::integration::status::{self, View};
use crate::fleet::Fleet;
use crate::fleet::counts::{self, Counted, Counts};
use crate::fleet::intern::{Interner, Sym};
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Stored;
use crate::schedule::room::Everywhere;
use crate::schedule::turns::Party;
use crate::telemetry::metrics::{CertificateGauges, IntegrationGauges, RotationGauges, Unserved};

/// An integration that is gone is remembered for as long as devices wait before they say so, and more.
const GONE_MATTERS: Duration = Duration::from_secs(60);
/// Counters wait this long for more of the same.
const COUNT_AFTER: Duration = Duration::from_secs(1);

/// When counters are taken, and what they came to.
#[derive(Default)]
pub(super) struct Counters {
    changed_at: Option<Instant>,
    /// When they were taken last.
    taken_at: Option<Instant>,
    /// Another credential is in use: a rotation may be over before counters would be taken.
    hurries: bool,
    last: HashMap<Sym, Counts>,
    unserved: Vec<Unserved>,
}

impl Counters {
    /// Some device has changed.
    pub(super) fn touch(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// Another credential is in use.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.hurries, true) {
            self.changed_at = Some(now);
        }
    }
}

/// A status that should be written.
pub(in crate::engine) struct Report {
    pub integration: Sym,
    pub object: Arc<DpsIntegration>,
    pub status: DpsIntegrationStatus,
    /// Events that it is worth.
    pub notes: Vec<EventNote>,
    /// It is from now on known to have another writer.
    pub contested: bool,
}

impl Registry {
    /// Some device has changed: counters have to be taken.
    pub fn recount(&mut self, now: Instant) {
        self.counters.touch(now);
    }

    /// The integration's status may have to say something else.
    pub(super) fn needs_report(&mut self, sym: Sym) {
        if let Some(found) = self.integrations.get_mut(&sym) {
            found.reporting.dirty = true;
            self.reports.wake(sym.index());
        }
    }

    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// The API server answers again.
    pub fn outage_ended(&mut self, now: Instant) {
        for (sym, integration) in &mut self.integrations {
            if integration.reporting.outage_ended() {
                self.reports.wake_by(sym.index(), now);
            }
        }
    }

    /// When statuses have to be rendered if nothing else happens. `counting`: every watch has been
    /// read.
    pub fn next_report(&self, counting: bool) -> Option<Instant> {
        let count = self.counters.changed_at.filter(|_| counting).map(|at| self.count_due(at));
        self.reports.next_due().into_iter().chain(count).min()
    }

    fn count_due(&self, changed_at: Instant) -> Instant {
        if self.counters.hurries {
            // However often keys are changed, the whole fleet is not counted all the time.
            return self.counters.taken_at.map_or(changed_at, |last| (last + COUNT_AFTER).max(changed_at));
        }
        let soonest = changed_at + COUNT_AFTER;
        self.counters.taken_at.map_or(soonest, |last| (last + COUNT_INTERVAL).max(soonest))
    }

    /// Takes counters if they are due; true if it did.
    pub fn count_if_due(&mut self, fleet: &Fleet, now: Now) -> bool {
        let Now { wall, mono: now } = now;
        if self.counters.changed_at.is_none_or(|at| self.count_due(at) > now) {
            return false;
        }
        self.counters.changed_at = None;
        self.counters.hurries = false;
        let Counted { admitted, strays } =
            counts::count(fleet, wall.as_second(), self.admission(fleet), |sym| {
                Some(self.target(sym)?.wanted())
            });
        self.counters.last = admitted;
        self.counters.taken_at = Some(now);
        self.counters.unserved = unserved(&strays, &fleet.names);
        self.compare_demand();
        for (sym, integration) in self.integrations.iter_mut().filter(|(_, found)| found.object.is_some()) {
            integration.reporting.counted_revision = Some(integration.revision);
            integration.reporting.dirty = true;
            self.reports.wake(sym.index());
        }
        self.forget_gone(now);
        true
    }

    /// Forgets integrations that are gone: after this time nothing of them matters.
    fn forget_gone(&mut self, now: Instant) {
        let matters = |at: Instant| at + GONE_MATTERS > now;
        let writing = &self.writing;
        self.integrations.retain(|sym, found| {
            found.object.is_some() || found.unusable_since.is_some_and(matters) || writing.contains(sym)
        });
    }

    /// Integrations whose status has to be rendered.
    pub fn due(&mut self, now: Instant) -> Vec<Sym> {
        let mut due = Vec::new();
        while let Some(index) = self.reports.next(now, &Everywhere, |_| Party::default()) {
            let Some(sym) = Sym::at(index) else { continue };
            let Some(found) = self.integrations.get_mut(&sym) else { continue };
            match found.reporting.due_at(now) {
                Some(at) if at <= now => due.push(sym),
                Some(at) => self.reports.wake_by(index, at),
                None => {}
            }
        }
        due
    }

    /// What is to be said, once, of an integration that can be used all the same.
    pub fn warnings(&mut self, sym: Sym) -> Option<(Arc<DpsIntegration>, Vec<EventNote>)> {
        let integration = self.integrations.get_mut(&sym)?;
        let object = integration.object.clone()?;
        let accepted = integration.accepted_here();
        let notes = integration.warnings.take_new(&object, &accepted);
        (!notes.is_empty()).then_some((object, notes))
    }

    /// The status that should be written now, if it differs. `throttled_for`: how long DPS has asked
    /// the id scope to wait; `counting`: every watch has been read.
    pub fn report(
        &mut self,
        sym: Sym,
        throttled_for: Option<Duration>,
        counting: bool,
        now: Now,
    ) -> Option<Report> {
        let report = self.render(sym, throttled_for, counting, now);
        if report.is_some() {
            self.writing.insert(sym);
        }
        self.wake_report(sym, now.mono);
        report
    }

    /// Has the status rendered when it may be, if there is anything to render.
    fn wake_report(&mut self, sym: Sym, now: Instant) {
        let found = self.integrations.get_mut(&sym);
        if let Some(at) = found.and_then(|found| found.reporting.due_at(now)) {
            self.reports.wake_by(sym.index(), at);
        }
    }

    fn render(
        &mut self,
        sym: Sym,
        throttled_for: Option<Duration>,
        counting: bool,
        now: Now,
    ) -> Option<Report> {
        let none = Counts::default();
        let counts = self.counters.last.get(&sym).or(Some(&none)).filter(|_| counting);
        let integration = self.integrations.get_mut(&sym)?;
        integration.reporting.rendering();
        let object = integration.object.clone()?;
        if integration.judged != object.metadata.generation {
            // Nothing is known of it yet: it refers to what is being read.
            return None;
        }
        // Since something else is wanted, they stay as they are written until they are taken.
        let counted = integration.reporting.counted_revision == Some(integration.revision);
        let paused_until = integration.health.paused_until();
        let own_pause = paused_until.and_then(|until| until.checked_duration_since(now.mono));
        let warning = integration.warnings.shown(&integration.accepted_here());
        let mut view = View {
            credentials: match &integration.state {
                State::Unread => return None,
                State::Usable(usable) => Ok(&usable.target.credentials),
                State::Unusable(unusable) => Err(unusable),
            },
            proven: integration.proven(),
            secret_versions: &integration.secret_versions,
            accepted_scope: integration.accepted_scope().is_some(),
            suspended: object.spec.suspend,
            insufficient: integration.insufficient,
            reconcile_at: reconcile_at(&object),
            warning: warning.as_deref(),
            health: &integration.health,
            issuers: &integration.issuers,
            throttled_until: throttled_for.or(own_pause).and_then(|wait| now.wall.checked_add(wait).ok()),
            counts: counts.filter(|_| counted),
            begins: None,
            pace: integration.pace(self.config.registrations_per_minute),
        };
        let mut status = status::render(&object, &view, now.wall);
        let mut counters_differ = !status::counts_the_same(&object, &status);
        if counters_differ && !integration.reporting.may_write_counters(now.mono) {
            integration.reporting.keep_counters();
            view.begins = view.counts.map(|counts| counts.rotation);
            view.counts = None;
            status = status::render(&object, &view, now.wall);
            counters_differ = false;
        }
        if status::is_equal(&object, &status) && !integration.reporting.is_unwritten() {
            integration.reporting.agreed();
            return None;
        }
        log(&object, &status);
        let notes = events::of_integration(object.status.as_ref(), &status);
        let version = version::of(&object.metadata);
        let contested = integration.reporting.begin(version, counters_differ, now.mono);
        let written = Arc::make_mut(integration.object.get_or_insert_with(|| object.clone()));
        written.status = Some(status.clone());
        Some(Report { integration: sym, object, status, notes, contested })
    }

    /// A status was written, or not.
    pub fn written(&mut self, sym: Sym, result: &Result<Stored, ApiError>, now: Instant) {
        self.writing.remove(&sym);
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        let Integration { object, reporting, .. } = integration;
        let held = object.as_ref().map_or(0, |held| version::of(&held.metadata));
        let refused = reporting.ended(result, held, u64::from(sym.index()), now);
        if let (true, Err(error), Some(object)) = (refused, result, object.as_deref()) {
            let DpsIntegration { metadata: ObjectMeta { namespace, name, .. }, .. } = object;
            let next_step = error.next_step();
            warn!(namespace, integration = name, %error, next_step, "the API server refuses the status of an integration; it is tried again within ten minutes, and when the integration changes");
        }
        if let (Ok(stored), Some(object)) = (result, object)
            && held < stored.version
        {
            Arc::make_mut(object).metadata.resource_version = Some(stored.version.to_string());
        }
        self.wake_report(sym, now);
    }

    /// Integrations whose status has another writer.
    pub fn contested(&self, now: Instant) -> usize {
        self.integrations.values().filter(|found| found.reporting.is_contested(now)).count()
    }

    /// Finds integrations whose checks come to more than their rate.
    fn compare_demand(&mut self) {
        let demand = |sym: &Sym| self.counters.last.get(sym).map_or(0.0, |counts| counts.demand);
        let mut by_scope: HashMap<String, f64> = HashMap::new();
        for (sym, integration) in &self.integrations {
            // A stranger's integration says nothing of the scope, and does not learn of it.
            if let Some(target) = integration.target().filter(|_| integration.accepted_scope().is_some()) {
                *by_scope.entry(target.scope().to_ascii_lowercase()).or_default() += demand(sym);
            }
        }
        for (sym, integration) in &mut self.integrations {
            let own = demand(sym);
            let scope = integration.accepted_scope().map(str::to_ascii_lowercase);
            let of_scope = scope.and_then(|scope| by_scope.get(&scope).copied());
            let rate = self.config.registrations_per_minute;
            let limits =
                [Some((of_scope.unwrap_or(0.0), rate)), integration.limits.share.map(|share| (own, share))];
            let exceeded = limits.into_iter().flatten().find(|(demand, rate)| *demand > f64::from(*rate));
            integration.insufficient = exceeded.map(|(_, rate)| rate);
        }
    }

    pub fn unserved(&self) -> &[Unserved] {
        &self.counters.unserved
    }

    /// What metrics show of every declared integration.
    pub fn gauges(&self) -> Vec<IntegrationGauges> {
        self.declared().filter_map(|sym| self.gauges_of(sym)).collect()
    }

    fn gauges_of(&self, sym: Sym) -> Option<IntegrationGauges> {
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
            fallen_back: integration.health.has_fallen_back() && integration.usable().is_some(),
            certificates: counts.certificates.as_ref().map(|counts| CertificateGauges {
                states: [
                    ("current", counts.current),
                    ("unregistered", counts.unregistered),
                    ("overdue", counts.overdue),
                    ("expired", counts.expired),
                    ("missing", counts.missing),
                    ("invalid", counts.invalid),
                ],
                earliest_expiry: counts.earliest,
            }),
            rotation: rotation.map(|rotation| RotationGauges {
                total: rotation.total,
                pending: rotation.pending,
                blocked: rotation.blocked,
            }),
        })
    }
}

/// Devices that no integration admits, in the order of their namespaces.
fn unserved(strays: &HashMap<Sym, usize>, names: &Interner) -> Vec<Unserved> {
    let by_name: BTreeMap<&str, usize> =
        strays.iter().map(|(sym, devices)| (names.text(*sym), *devices)).collect();
    let shown = |(namespace, devices): (&str, usize)| Unserved { namespace: namespace.to_owned(), devices };
    by_name.into_iter().map(shown).collect()
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
                "an integration is in trouble"
            );
        }
        _ => {
            let reason = after.map(Reason::as_str);
            info!(namespace, integration = name, reason, "the state of an integration has changed");
        }
    }
}
