//! Integrations: evaluated when they or what they refer to change. The registry owns what is known of
//! them and returns what should follow; it starts nothing.

mod admission;
mod change;
mod ended_calls;
mod evaluate;
mod namespaces;
mod references;
mod report;
mod reporting;
#[cfg(test)]
mod tests;
mod trials;
mod warnings;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

pub(super) use self::change::{Change, PermitChange, RecordedPause};
pub(super) use self::ended_calls::EndedCall;
use self::namespaces::Namespaces;
pub(super) use self::references::ReferenceChanges;
use self::references::References;
use self::report::Counters;
pub(super) use self::report::Report;
use self::reporting::Reporting;
use self::warnings::Warnings;
use crate::api::conditions::Reason;
use crate::api::integration::DpsIntegration;
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::config::Config;
use crate::controller::device::act::UsableIntegration;
use crate::controller::integration::acceptance::Acceptance;
use crate::controller::integration::consent::Consent;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::health::Health;
use crate::controller::integration::issuers::Issuers;
use crate::controller::integration::secret_versions::SecretVersions;
use crate::controller::integration::target::Target;
use crate::controller::integration::unusable::Unusable;
use crate::dps::attestation::CredentialId;
use crate::dps::connections::Connections;
use crate::dps::observe::Observer;
use crate::fleet::intern::{Interner, Sym};
use crate::schedule::permits::Limits;
use crate::schedule::ready::ReadyQueue;

/// Whether devices can be registered with an integration.
#[derive(Default)]
enum State {
    /// Not everything that it refers to has been read yet.
    #[default]
    Unread,
    Usable(UsableIntegration),
    Unusable(Unusable),
}

/// An integration as it stands.
#[derive(Default)]
struct Integration {
    object: Option<Arc<DpsIntegration>>,
    state: State,
    health: Health,
    issuers: Issuers,
    acceptance: Acceptance,
    /// Which other namespaces may refer to it.
    consent: Consent,
    limits: Limits,
    /// Both credentials as they were asked for, when there were two of them.
    asked_for: Option<Credentials>,
    secret_versions: SecretVersions,
    /// Calls a minute of its scope, when checks come to more than that.
    insufficient: Option<u32>,
    /// Generation of the object that was judged last: a newer one may refer to what is not read yet.
    judged: Option<i64>,
    /// It has been judged usable before, since the start.
    known: bool,
    unusable_since: Option<Instant>,
    /// Moves whenever the target changes or there is none any more; answers to calls that were made under
    /// another one are ignored.
    revision: u64,
    reporting: Reporting,
    warnings: Warnings,
}

impl Integration {
    fn usable(&self) -> Option<&UsableIntegration> {
        match &self.state {
            State::Usable(usable) => Some(usable),
            State::Unread | State::Unusable(_) => None,
        }
    }

    fn target(&self) -> Option<&Target> {
        self.usable().map(|usable| &*usable.target)
    }

    /// The id scope in which DPS has once accepted a credential of this integration, whether it can
    /// be used now or not: its devices' claims on their registration ids stand.
    fn accepted_scope(&self) -> Option<&str> {
        let object = self.object.as_ref()?;
        let scope = object.spec.id_scope.as_str();
        // Another id scope in the status is not what DPS has accepted for this spec.
        let recorded = object.status.as_ref().and_then(|status| status.accepted_id_scope.as_deref());
        let in_use = self.health.accepted() && self.target().is_some_and(|target| target.scope() == scope);
        (recorded == Some(scope) || in_use || self.acceptance.is_in_scope(scope)).then_some(scope)
    }

    /// Registrations a minute that a rotation may come to; `rate`: what the operator allows an id scope.
    fn pace(&self, rate: u32) -> u32 {
        [self.limits.share, self.limits.rollout].into_iter().flatten().fold(rate, u32::min)
    }

    /// DPS has accepted it in its id scope since this process leads: no status says so.
    fn is_proven(&self) -> bool {
        self.object.as_ref().is_some_and(|object| self.acceptance.is_in_scope(&object.spec.id_scope))
    }

    /// Those of its credentials that DPS has accepted in its id scope.
    fn proven(&self) -> Vec<CredentialId> {
        let Some(target) = self.target() else { return Vec::new() };
        let (in_use, other) = (target.credentials.in_use(), target.credentials.other());
        let accepts_it = self.health.accepted();
        let is_proven =
            |id: &CredentialId| (accepts_it && *id == in_use) || self.acceptance.holds(&target.instance, *id);
        std::iter::once(in_use).chain(other).filter(is_proven).collect()
    }

    /// Those of which DPS has said so since this process leads: no status says it.
    fn accepted_here(&self) -> Vec<CredentialId> {
        let Some(target) = self.target() else { return Vec::new() };
        let both = std::iter::once(target.credentials.in_use()).chain(target.credentials.other());
        both.filter(|id| self.acceptance.holds(&target.instance, *id)).collect()
    }

    /// It could be used, but is suspended or in trouble: new devices have to wait.
    fn holds_up(&self) -> bool {
        self.health.trouble().is_some() || self.target().is_some_and(|target| target.suspended)
    }
}

/// All integrations.
pub(super) struct Registry {
    config: Arc<Config>,
    integrations: HashMap<Sym, Integration>,
    references: References,
    namespaces: Namespaces,
    connections: Connections,
    counters: Counters,
    /// Whose status has to be rendered, and when that of others has to be.
    reports: ReadyQueue,
    /// Status writes in flight.
    writing: HashSet<Sym>,
    /// The last revision that was given to a target.
    revisions: u64,
}

impl Registry {
    pub fn new(config: Arc<Config>, observer: Arc<dyn Observer>) -> Self {
        let suffixes = config.allowed_hub_suffixes.clone();
        Self {
            connections: Connections::new(config.dps_proxy.clone(), suffixes, observer),
            config,
            integrations: HashMap::new(),
            references: References::default(),
            namespaces: Namespaces::default(),
            counters: Counters::default(),
            reports: ReadyQueue::default(),
            writing: HashSet::new(),
            revisions: 0,
        }
    }

    /// Goes on with the connections of one that is no longer needed: to make some takes tens of milliseconds.
    #[cfg(test)]
    pub fn inherit_connections(&mut self, before: &mut Self) {
        std::mem::swap(&mut self.connections, &mut before.connections);
    }

    // What is known of an integration.

    /// Integrations that are declared.
    pub fn declared(&self) -> impl Iterator<Item = Sym> {
        self.integrations.iter().filter(|(_, i)| i.object.is_some()).map(|(sym, _)| *sym)
    }

    /// Integrations of which something is known, declared or not.
    pub fn known(&self) -> impl Iterator<Item = Sym> {
        self.integrations.keys().chain(&self.writing).copied()
    }

    pub fn object(&self, sym: Sym) -> Option<&Arc<DpsIntegration>> {
        self.integrations.get(&sym)?.object.as_ref()
    }

    pub fn usable(&self, sym: Sym) -> Option<&UsableIntegration> {
        self.integrations.get(&sym)?.usable()
    }

    pub fn target(&self, sym: Sym) -> Option<&Target> {
        self.integrations.get(&sym)?.target()
    }

    pub fn limits(&self, sym: Sym) -> Limits {
        self.integrations.get(&sym).map(|integration| integration.limits).unwrap_or_default()
    }

    pub fn accepted_scope(&self, sym: Sym) -> Option<&str> {
        self.integrations.get(&sym)?.accepted_scope()
    }

    /// DPS has accepted it in its id scope since this process leads.
    pub fn is_proven(&self, sym: Sym) -> bool {
        self.integrations.get(&sym).is_some_and(Integration::is_proven)
    }

    /// DPS has accepted the credential in use, and not only one that was in its place before.
    pub fn accepts_credential_in_use(&self, sym: Sym) -> bool {
        self.integrations.get(&sym).is_some_and(|integration| integration.health.accepted())
    }

    pub fn holds_up(&self, sym: Sym) -> bool {
        self.integrations.get(&sym).is_some_and(Integration::holds_up)
    }

    /// The same for devices with credentials of their own: that DPS refuses the shared one does not matter to
    /// them.
    pub fn holds_up_alone(&self, sym: Sym) -> bool {
        let Some(integration) = self.integrations.get(&sym) else { return false };
        let trouble = integration.health.trouble().map(|trouble| trouble.reason);
        let is_of_shared = matches!(trouble, Some(Reason::Unauthorized | Reason::EnrollmentNotFound));
        let shared = integration.target().is_some_and(|target| target.credentials.are_shared());
        integration.target().is_some_and(|target| target.suspended)
            || (trouble.is_some() && !(shared && is_of_shared))
    }

    pub fn unusable_since(&self, sym: Sym) -> Option<Instant> {
        self.integrations.get(&sym)?.unusable_since
    }

    // What watches show.

    /// An integration is gone.
    pub fn gone(&mut self, sym: Sym, now: Instant) -> Change {
        let Some(integration) = self.integrations.get_mut(&sym).filter(|found| found.object.is_some()) else {
            return Change::default();
        };
        let (known, unusable_since) = (true, Some(now));
        let before = Some(std::mem::take(&mut integration.consent));
        self.references.set(sym, BTreeMap::new());
        *integration = Integration { known, unusable_since, ..Integration::default() };
        self.counters.touch(now);
        Change { permits: Some(PermitChange::Dismiss), wake_devices: true, before, ..Change::default() }
    }

    /// Integrations of a watch's list that were not in it.
    pub fn unlisted(&self, listed: &BTreeSet<String>, only: Option<&str>, names: &Interner) -> Vec<Sym> {
        let in_scope = |key: &str| only.is_none_or(|only| key.split('/').next() == Some(only));
        let gone = |key: &str| in_scope(key) && !listed.contains(key);
        self.declared().filter(|sym| gone(names.text(*sym))).collect()
    }

    /// What should be watched of all that integrations refer to, as far as that has changed since this
    /// was asked last.
    pub fn take_reference_changes(&mut self) -> ReferenceChanges {
        self.references.take_changes()
    }

    /// What is referred to has been read or has changed; returns who refers to it.
    pub fn referred_observed(&mut self, reference: &Reference, referred: Referred) -> Vec<Sym> {
        self.references.observed(reference, referred)
    }

    pub fn is_referred_to(&self, reference: &Reference) -> bool {
        self.references.contains(reference)
    }

    /// True if this Secret holds the key of an enrollment group.
    pub fn is_group_key(&self, namespace: &str, name: String) -> bool {
        let namespace = namespace.to_owned();
        self.is_referred_to(&Reference { kind: ReferredKind::Secret, namespace, name })
    }

    pub fn references_are_read(&self) -> bool {
        self.namespaces.are_read() && self.references.are_read()
    }

    /// True the first time that an integration needs the labels of namespaces.
    pub fn begins_to_need_labels(&mut self, readings: usize) -> bool {
        let needed = self.integrations.values().any(|integration| integration.consent.needs_labels());
        needed && self.namespaces.ask(readings)
    }

    pub fn labels_observed(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.observed(namespace, labels)
    }

    pub fn labels_gone(&mut self, namespace: &str) {
        self.namespaces.gone(namespace);
    }

    pub fn labels_read(&mut self) {
        self.namespaces.read();
    }
}

/// True if the integration of this key (`namespace/name`) is in this namespace.
pub(super) fn is_of_namespace(integration: Sym, namespace: Sym, names: &Interner) -> bool {
    let own = names.text(integration).split_once('/');
    own.is_some_and(|(own, _)| own == names.text(namespace))
}
