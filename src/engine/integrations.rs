//! Integrations: evaluated when they or what they refer to change, told what DPS answers, and
//! written with their counters.

use std::collections::HashMap;
use std::sync::Arc;

use kube::ResourceExt;
use tokio::time::Instant;

use super::Engine;
use super::gauges::CountCalls;
use crate::api::attestation::KeySlot;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::integration::DpsIntegration;
use crate::api::names::RECONCILE_REQUESTED_AT;
use crate::api::references::{Reference, Referred};
use crate::api::version;
use crate::clock;
use crate::config::Config;
use crate::controller::integration::Ready;
use crate::controller::integration::consent::Consent;
use crate::controller::integration::decide::{Unusable, Usable, references, resolve};
use crate::controller::integration::status::{self};
use crate::dps::client::{ClientError, ClockOffset, DpsClient};
use crate::dps::key::Fingerprint;
use crate::dps::observe;
use crate::fleet::counts::Target;
use crate::fleet::hash::Hash;
use crate::fleet::inherit::Inherited;
use crate::fleet::intern::Sym;
use crate::schedule::permits::Limits;
use crate::telemetry::Telemetry;

/// An integration as it stands.
#[derive(Default)]
pub(super) struct Integration {
    pub object: Option<Arc<DpsIntegration>>,
    pub outcome: Option<Result<Arc<Ready>, Unusable>>,
    /// Who else may refer to it.
    pub consent: Consent,
    pub limits: Limits,
    /// The slot that was asked for is refused, and the other one is used.
    pub fallen_back: bool,
    /// The slot that was asked for and the other one, when they were last at hand.
    pub keys: Option<[(KeySlot, Fingerprint); 2]>,
    /// The other slot has been tried since the keys changed.
    pub tried_other: bool,
    /// Calls a minute of its scope, when checks come to more than that.
    pub insufficient: Option<u32>,
    /// It has been judged usable before, since the start.
    pub known: bool,
    pub unusable_since: Option<Instant>,
    /// DPS accepted the active key for the present scope.
    pub accepted: bool,
    /// What real traffic says is wrong.
    pub trouble: Option<(Option<i32>, Unusable)>,
    /// Moves whenever something changes for its devices; unique among all integrations.
    pub epoch: u64,
    /// A status write is in flight.
    pub writing: bool,
    /// Something other than counters may have changed.
    pub dirty: bool,
    /// The last status did not reach the API server.
    pub unwritten: bool,
    pub counted_at: Option<Instant>,
    /// `epoch` when its devices were counted last.
    pub counted_epoch: Option<u64>,
    pub unanswered: u32,
    pub not_before: Option<Instant>,
}

impl Integration {
    pub fn ready(&self) -> Option<&Ready> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_deref().ok())
    }

    /// What its devices are compared with.
    pub fn target(&self) -> Option<Target<'_>> {
        let ready = self.ready()?;
        Some(Target { fingerprint: ready.active.fingerprint, inherited: &ready.inherited })
    }

    /// The id scope in which DPS has once accepted a key of this integration, whether it can be
    /// used now or not: its devices' claims on their registration ids stand.
    pub fn accepted_scope(&self) -> Option<&str> {
        let object = self.object.as_ref()?;
        let recorded = object.status.as_ref().is_some_and(|status| status.accepted_id_scope.is_some());
        (self.accepted || recorded).then_some(object.spec.id_scope.as_str())
    }

    /// It could be used, but is suspended or in trouble: new devices have to wait.
    pub fn holds_up(&self) -> bool {
        self.trouble.is_some() || self.ready().is_some_and(|ready| ready.suspended)
    }

    pub fn shared(&self) -> Option<Arc<Ready>> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()).cloned()
    }
}

/// So many sets of roots are remembered.
const CLIENTS: usize = 64;

/// One client for each set of roots.
pub(super) struct Clients {
    config: Arc<Config>,
    telemetry: Arc<Telemetry>,
    made: HashMap<Option<Hash>, DpsClient>,
}

impl Clients {
    pub(super) fn new(config: Arc<Config>, telemetry: Arc<Telemetry>) -> Self {
        telemetry.metrics.dps_begins_at_zero(&observe::OPERATIONS, &observe::OUTCOMES);
        Self { config, telemetry, made: HashMap::new() }
    }

    fn get(&mut self, key: Option<Hash>, ca_bundle: Option<&[u8]>) -> Result<DpsClient, ClientError> {
        if let Some(client) = self.made.get(&key) {
            return Ok(client.clone());
        }
        if self.made.len() >= CLIENTS {
            // Whoever uses one of them keeps it; only sharing is lost.
            self.made.clear();
        }
        let suffixes = self.config.allowed_hub_suffixes.clone();
        let observer = Arc::new(CountCalls(self.telemetry.clone()));
        let client = DpsClient::new(ca_bundle, self.config.dps_proxy.as_deref(), suffixes, observer)?;
        self.made.insert(key, client.clone());
        Ok(client)
    }
}

impl Engine {
    pub(super) fn integration_changed(&mut self, key: &str, object: Option<DpsIntegration>) {
        let sym = self.fleet.names.intern(key);
        let integration = self.integrations.entry(sym).or_default();
        let Some(object) = object else {
            if integration.object.is_some() {
                let (known, unusable_since) = (true, Some(clock::now().mono));
                *integration = Integration { known, unusable_since, ..Integration::default() };
                self.counters.touch();
                self.leave_queue(sym);
            }
            return;
        };
        let newer = version::of(&object.metadata);
        let held = integration.object.as_ref().map(|held| version::of(&held.metadata));
        if held.is_some_and(|held| held >= newer) {
            return;
        }
        let asked = |object: &DpsIntegration| object.annotations().get(RECONCILE_REQUESTED_AT).cloned();
        if integration.object.as_ref().is_some_and(|held| asked(held) != asked(&object)) {
            // Whatever was refused may have been mended in Azure.
            (integration.outcome, integration.keys) = (None, None);
        }
        let consent = Consent::of(&object.spec).unwrap_or_default();
        let before = std::mem::replace(&mut integration.consent, consent.clone());
        integration.object = Some(Arc::new(object));
        (integration.dirty, integration.unwritten, integration.not_before) = (true, false, None);
        if consent.needs_labels() {
            self.watch_namespaces();
        }
        self.evaluate(sym);
        if consent != before {
            self.wake_devices(sym);
        }
    }

    pub(super) fn evaluate_users_of(&mut self, reference: &Reference) {
        let uses = |integration: &Integration| {
            integration.object.as_ref().is_some_and(|object| {
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                references(namespace, &object.spec).contains(reference)
            })
        };
        let users: Vec<Sym> =
            self.integrations.iter().filter(|(_, i)| uses(i)).map(|(sym, _)| *sym).collect();
        users.into_iter().for_each(|sym| self.evaluate(sym));
    }

    /// Judges an integration anew and tells its devices if that changes anything for them.
    pub(super) fn evaluate(&mut self, sym: Sym) {
        let Some(object) = self.integrations.get(&sym).and_then(|integration| integration.object.clone())
        else {
            return;
        };
        let unread = Referred::Unread;
        let find = |reference: &Reference| self.referred.get(reference).unwrap_or(&unread);
        let resolved = match resolve(&object, &self.config.allowed_dps_hosts, find) {
            Ok(None) => return,
            Ok(Some(usable)) => Ok(usable),
            Err(unusable) => Err(unusable),
        };
        match resolved.and_then(|usable| self.connect(usable)) {
            Ok((ready, limits)) => self.usable(sym, &object, ready, limits),
            Err(unusable) => self.unusable(sym, unusable),
        }
    }

    fn connect(&mut self, usable: Usable) -> Result<(Ready, Limits), Unusable> {
        let Usable {
            scope,
            endpoint,
            active,
            other,
            ca_bundle,
            prefixes,
            namespace,
            foreign_prefixes,
            defaults,
            token,
            limits,
            suspended,
        } = usable;
        let inherited = Inherited::new(defaults.as_ref(), &endpoint.to_string(), token.as_deref());
        let roots = ca_bundle.as_deref().map(|pem| Hash::of("roots", [pem]));
        let client = self.clients.get(roots, ca_bundle.as_deref()).map_err(|error| match error {
            ClientError::Setup(_) => Unusable::new(
                Reason::InvalidConfiguration,
                "The operator's HTTP client cannot be set up; check its --dps-proxy.",
            ),
            ClientError::NoCertificate | ClientError::BadCertificate => {
                Unusable::new(Reason::CaBundleInvalid, format!("The CA bundle cannot be used: {error}."))
            }
        })?;
        Ok((
            Ready {
                scope,
                endpoint,
                client,
                roots,
                active,
                other,
                prefixes,
                namespace,
                foreign_prefixes,
                defaults: defaults.map(Arc::new),
                inherited: Arc::new(inherited),
                token,
                clock: Arc::new(ClockOffset::default()),
                suspended,
                epoch: 0,
                as_recorded: false,
            },
            limits,
        ))
    }

    fn usable(&mut self, sym: Sym, object: &DpsIntegration, mut ready: Ready, limits: Limits) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.choose_key(object, &mut ready);
        let now = clock::now().mono;
        integration.dirty = true;
        let before = integration.shared();
        let new_limits = std::mem::replace(&mut integration.limits, limits) != limits || before.is_none();
        if before.as_ref().is_some_and(|before| before.same_for_devices(&ready)) {
            if new_limits {
                self.queue.limit(sym.index(), limits, now);
                self.counters.touch();
                self.wake_devices(sym);
            }
            return;
        }
        let same_key = before.as_ref().is_some_and(|b| b.active == ready.active && b.scope == ready.scope);
        if !same_key {
            integration.accepted = status::was_accepted(object, &ready.active);
        }
        ready.as_recorded = !integration.known && status::is_recorded(object, &ready.active);
        self.epochs += 1;
        (ready.epoch, integration.epoch, integration.known) = (self.epochs, self.epochs, true);
        let same_dps = before.filter(|before| before.same_for_dps(&ready));
        match &same_dps {
            Some(before) => ready.clock = before.clock.clone(),
            None => integration.trouble = ready.as_recorded.then(|| recorded_refusal(object)).flatten(),
        }
        integration.unusable_since = (ready.suspended || integration.trouble.is_some()).then_some(now);
        let refused = same_dps.is_none() && integration.trouble.is_some();
        let (scope, accepted) = (ready.scope.clone(), integration.accepted);
        integration.outcome = Some(Ok(Arc::new(ready)));
        self.queue.admit(sym.index(), scope, accepted, now);
        if refused {
            self.queue.recall_refusal(sym.index(), now);
        }
        self.queue.limit(sym.index(), limits, now);
        self.counters.touch();
        self.wake_devices(sym);
    }

    fn unusable(&mut self, sym: Sym, unusable: Unusable) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.dirty = true;
        let was_usable = !matches!(integration.outcome, Some(Err(_)));
        integration.outcome = Some(Err(unusable));
        if was_usable {
            self.epochs += 1;
            (integration.epoch, integration.trouble) = (self.epochs, None);
            integration.unusable_since = Some(clock::now().mono);
            self.counters.touch();
            self.leave_queue(sym);
        }
    }

    /// Those who wait for a permit wait for the integration now.
    fn leave_queue(&mut self, sym: Sym) {
        self.queue.dismiss(sym.index());
        self.wake_devices(sym);
    }

    /// What changed concerns all its devices, and those of others that share a registration id.
    pub(super) fn wake_devices(&mut self, sym: Sym) {
        for id in self.fleet.of_integration(sym) {
            self.tell_at.remove(&id);
            self.runner.wake_later(id);
            self.wake_rivals(id);
        }
    }

    pub(super) fn unusable_since(&self, sym: Sym) -> Option<Instant> {
        self.integrations.get(&sym).and_then(|integration| integration.unusable_since)
    }
}

impl Integration {
    /// While nothing about the keys has changed, the slot that was found to work stays in use.
    fn choose_key(&mut self, object: &DpsIntegration, ready: &mut Ready) {
        let Some(other) = ready.other.as_ref() else {
            (self.fallen_back, self.tried_other, self.keys) = (false, false, None);
            return;
        };
        let keys = [&ready.active, other].map(|key| (key.slot, key.fingerprint));
        if self.keys.replace(keys) != Some(keys) {
            self.fallen_back = !self.known && status::has_fallen_back(object, &ready.active, other);
            self.tried_other = self.fallen_back;
        }
        if self.fallen_back {
            ready.swap_keys();
        }
    }
}

/// The refusal that the status has recorded for the present key: after a start it still stands.
fn recorded_refusal(object: &DpsIntegration) -> Option<(Option<i32>, Unusable)> {
    let conditions = &object.status.as_ref()?.conditions;
    let ready = conditions::find(conditions, ConditionType::Ready)?;
    (ready.reason == Reason::Unauthorized.as_str())
        .then(|| (None, Unusable::new(Reason::Unauthorized, ready.message.clone())))
}
