//! Integrations: evaluated when they or what they refer to change, told what DPS answers, and
//! written with their counters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{Engine, Message};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::integration::{DpsIntegration, DpsIntegrationStatus};
use crate::clock;
use crate::config::Config;
use crate::controller::device::failure;
use crate::controller::integration::decide::{Unusable, Usable, references, resolve};
use crate::controller::integration::status::{self, Difference, View};
use crate::controller::integration::{Ready, SlotKey};
use crate::dps::client::{ClientError, DpsClient};
use crate::dps::error::{DpsError, RetryClass};
use crate::dps::queue::{Narrow, Outcome, Permit};
use crate::fleet::counts::{self, Counts};
use crate::fleet::hash::Hash;
use crate::fleet::intern::Sym;
use crate::fleet::record::version;
use crate::fleet::referred::{Reference, Referred};
use crate::fleet::{DeviceId, retry};
use crate::kube_io::error::ApiError;

/// Counters wait this long for more of the same,
const COUNT_AFTER: Duration = Duration::from_secs(1);
/// and are written at most this often.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Refusals in a row before a key that worked is called wrong: one could concern one device only.
const REFUSALS_THAT_COUNT: u32 = 3;

/// An integration as it stands.
#[derive(Default)]
pub(super) struct Integration {
    pub object: Option<Arc<DpsIntegration>>,
    outcome: Option<Result<Arc<Ready>, Unusable>>,
    share: Option<u32>,
    unusable_since: Option<Instant>,
    /// DPS accepted the active key for the present scope.
    pub accepted: bool,
    /// What real traffic says is wrong.
    trouble: Option<(Option<i32>, Unusable)>,
    pub epoch: u64,
    /// A status write is in flight.
    pub writing: bool,
    /// Something other than counters may have changed.
    dirty: bool,
    counted_at: Option<Instant>,
    unanswered: u32,
    not_before: Option<Instant>,
}

impl Integration {
    pub fn ready(&self) -> Option<&Ready> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_deref().ok())
    }

    pub fn shared(&self) -> Option<Arc<Ready>> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()).cloned()
    }
}

/// One client for each set of roots.
pub(super) struct Clients {
    config: Arc<Config>,
    made: HashMap<Option<Hash>, DpsClient>,
}

impl Clients {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, made: HashMap::new() }
    }

    fn get(&mut self, ca_bundle: Option<&[u8]>) -> Result<DpsClient, ClientError> {
        let key = ca_bundle.map(|pem| Hash::of("roots", [pem]));
        if let Some(client) = self.made.get(&key) {
            return Ok(client.clone());
        }
        let suffixes = self.config.allowed_hub_suffixes.clone();
        let client = DpsClient::new(ca_bundle, self.config.dps_proxy.as_deref(), suffixes)?;
        self.made.insert(key, client.clone());
        Ok(client)
    }
}

/// When counters are taken.
#[derive(Default)]
pub(super) struct Counters {
    changed_at: Option<Instant>,
    last: HashMap<Sym, Counts>,
}

impl Counters {
    /// Some device changed.
    pub(super) fn touch(&mut self) {
        self.changed_at.get_or_insert_with(|| clock::now().mono);
    }
}

impl Engine {
    pub(super) fn integration_changed(&mut self, key: &str, object: Option<DpsIntegration>) {
        let sym = self.fleet.names.intern(key);
        let integration = self.integrations.entry(sym).or_default();
        let Some(object) = object else {
            if integration.object.is_some() {
                *integration = Integration { epoch: integration.epoch + 1, ..Integration::default() };
                integration.unusable_since = Some(clock::now().mono);
                self.leave_queue(sym);
            }
            return;
        };
        let newer = version(object.metadata.resource_version.as_deref());
        let held = integration.object.as_ref().map(|held| version(held.metadata.resource_version.as_deref()));
        if held.is_some_and(|held| held >= newer) {
            return;
        }
        integration.object = Some(Arc::new(object));
        integration.dirty = true;
        self.evaluate(sym);
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
    fn evaluate(&mut self, sym: Sym) {
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
            Ok((ready, share)) => self.usable(sym, &object, ready, share),
            Err(unusable) => self.unusable(sym, unusable),
        }
    }

    fn connect(&mut self, usable: Usable) -> Result<(Ready, Option<u32>), Unusable> {
        let Usable { scope, endpoint, active, other, ca_bundle, prefixes, key_secrets, share, suspended } =
            usable;
        let client = self.clients.get(ca_bundle.as_deref()).map_err(|error| {
            Unusable::new(Reason::CaBundleInvalid, format!("The CA bundle cannot be used: {error}."))
        })?;
        Ok((
            Ready { scope, endpoint, client, active, other, prefixes, key_secrets, suspended, epoch: 0 },
            share,
        ))
    }

    fn usable(&mut self, sym: Sym, object: &DpsIntegration, mut ready: Ready, share: Option<u32>) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.dirty = true;
        let before = integration.shared();
        let same = before.as_ref().is_some_and(|before| before.same_for_devices(&ready))
            && integration.share == share;
        if same {
            return;
        }
        let same_key = before.as_ref().is_some_and(|b| b.active == ready.active && b.scope == ready.scope);
        if !same_key {
            integration.accepted = status::was_accepted(object, &ready.active);
        }
        integration.epoch += 1;
        ready.epoch = integration.epoch;
        integration.trouble = None;
        integration.unusable_since = None;
        integration.share = share;
        let (scope, accepted) = (ready.scope.clone(), integration.accepted);
        integration.outcome = Some(Ok(Arc::new(ready)));
        self.queue.admit(sym.index(), scope, accepted, share, clock::now().mono);
        self.wake_devices(sym);
    }

    fn unusable(&mut self, sym: Sym, unusable: Unusable) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.dirty = true;
        let was_usable = !matches!(integration.outcome, Some(Err(_)));
        integration.outcome = Some(Err(unusable));
        if was_usable {
            integration.epoch += 1;
            integration.trouble = None;
            integration.unusable_since = Some(clock::now().mono);
            self.leave_queue(sym);
        }
    }

    /// Those who wait for a permit wait for the integration now.
    fn leave_queue(&mut self, sym: Sym) {
        for waiter in self.queue.dismiss(sym.index()) {
            self.waiting.remove(&waiter);
        }
        self.wake_devices(sym);
    }

    fn wake_devices(&mut self, sym: Sym) {
        for id in self.fleet.of_integration(sym) {
            self.tell_at.remove(&id);
            self.runner.wake(id);
        }
    }

    pub(super) fn unusable_since(&self, sym: Sym) -> Option<Instant> {
        self.integrations.get(&sym).and_then(|integration| integration.unusable_since)
    }

    /// Takes in how a registration ended: for the queue, and for what the integration says.
    pub(super) fn dps_answered(&mut self, id: DeviceId, permit: Permit, error: Option<&DpsError>) {
        self.queue.finished(permit.tenant, outcome(error), clock::now().mono);
        let Some(sym) = self.fleet.get(id).map(|record| record.integration) else { return };
        if sym.index() != permit.tenant {
            return;
        }
        let narrow = self.queue.narrow(permit.tenant);
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        let was = integration.spoken_of();
        match error {
            None | Some(DpsError::Disabled(_) | DpsError::AllocationFailed(_)) => {
                integration.accepted = true;
                integration.trouble = None;
            }
            Some(error) => integration.note_trouble(error, narrow),
        }
        integration.dirty |= was != integration.spoken_of();
    }

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
            self.counters.last = counts::count(&self.fleet);
            for integration in
                self.integrations.values_mut().filter(|integration| integration.object.is_some())
            {
                integration.counted_at = Some(now);
                integration.dirty = true;
            }
        }
        let ready = |i: &Integration| i.dirty && !i.writing && i.not_before.is_none_or(|at| at <= now);
        let dirty: Vec<Sym> =
            self.integrations.iter().filter(|(_, i)| ready(i)).map(|(sym, _)| *sym).collect();
        dirty.into_iter().for_each(|sym| self.write_integration(sym));
    }

    fn write_integration(&mut self, sym: Sym) {
        let none = Counts::default();
        let counted = self.counters.last.get(&sym).or(Some(&none)).filter(|_| self.progress.running());
        let now = clock::now();
        let throttled =
            self.queue.paused_until(sym.index()).and_then(|at| at.checked_duration_since(now.mono));
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
                accepted: integration.accepted && keys.is_ok(),
                keys,
                trouble: integration.trouble.as_ref().map(|(_, trouble)| trouble),
                throttled_until: throttled.and_then(|wait| now.wall.checked_add(wait).ok()),
                // Before the first count the counters stay as they are written.
                counts: counted.filter(|_| integration.counted_at.is_some()),
            },
            now.wall,
        );
        if status::difference(object.status.as_ref(), &wanted) == Difference::None {
            return;
        }
        log(&object, &wanted);
        integration.writing = true;
        let (writer, sender) = (self.writer.clone(), self.sender.clone());
        let written = Arc::make_mut(integration.object.get_or_insert(object.clone()));
        written.status = Some(wanted.clone());
        tokio::spawn(async move {
            let result = writer.replace_status(&*object, &wanted).await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::IntegrationWritten(sym, result)).await;
        });
    }

    pub(super) fn integration_written(&mut self, sym: Sym, result: Result<u64, ApiError>) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        integration.writing = false;
        match result {
            Ok(written) => {
                integration.unanswered = 0;
                integration.not_before = None;
                if let Some(object) = &mut integration.object {
                    Arc::make_mut(object).metadata.resource_version = Some(written.to_string());
                }
            }
            // Changed by somebody else, or gone: the watch tells, and then it is written anew.
            Err(ApiError::Conflict | ApiError::NotFound) => {}
            Err(_) => {
                integration.unanswered += 1;
                let wait = retry::wait(RetryClass::Transient, integration.unanswered, u64::from(sym.index()));
                integration.not_before = Some(clock::now().mono + wait);
                integration.dirty = true;
            }
        }
    }
}

impl Integration {
    /// What DPS's answers may change about the status.
    fn spoken_of(&self) -> (bool, Option<Reason>) {
        (self.accepted, self.trouble.as_ref().map(|(_, trouble)| trouble.reason))
    }

    /// The first failure of its kind is kept, so that repeating it writes nothing.
    fn note_trouble(&mut self, error: &DpsError, narrow: Option<Narrow>) {
        let reason = match (error, narrow) {
            (DpsError::Unauthorized(_), Some(Narrow::Refused(times)))
                if !self.accepted || times >= REFUSALS_THAT_COUNT =>
            {
                self.accepted = false;
                Reason::Unauthorized
            }
            (DpsError::Throttled { .. }, _) => Reason::Throttled,
            (_, Some(Narrow::Down(_))) => Reason::EndpointUnreachable,
            _ => return,
        };
        let detail = error.detail();
        let code = detail.and_then(|detail| detail.code);
        if self.trouble.as_ref().is_some_and(|(had, trouble)| trouble.reason == reason && *had == code) {
            return;
        }
        let tracking = detail.and_then(|detail| detail.tracking_id.as_deref());
        let tracking =
            tracking.map(|id| format!(" Tracking id of the first refusal: {id}.")).unwrap_or_default();
        self.trouble = Some((code, Unusable::new(reason, format!("{}{tracking}", failure::message(error)))));
    }
}

/// What a result means for the queue. Whatever DPS says about the enrollment or the hubs, it
/// accepted the key before it said so.
fn outcome(error: Option<&DpsError>) -> Outcome {
    match error {
        None | Some(DpsError::Disabled(_) | DpsError::AllocationFailed(_)) => Outcome::Accepted,
        Some(DpsError::Unauthorized(_)) => Outcome::Refused,
        Some(DpsError::Unreachable(_)) => Outcome::Unreachable,
        Some(DpsError::Server { .. }) => Outcome::ServerError,
        Some(DpsError::Throttled { retry_after, .. }) => Outcome::Throttled { retry_after: *retry_after },
        Some(
            DpsError::Conflict(_)
            | DpsError::Deadline
            | DpsError::NotFound(_)
            | DpsError::Rejected(_)
            | DpsError::InvalidResponse(_),
        ) => Outcome::Neutral,
    }
}

fn log(object: &DpsIntegration, status: &DpsIntegrationStatus) {
    let reason =
        |status: &DpsIntegrationStatus| conditions::reason_of(&status.conditions, ConditionType::Ready);
    let after = reason(status);
    if object.status.as_ref().and_then(reason) != after {
        info!(
            namespace = object.metadata.namespace,
            integration = object.metadata.name,
            reason = after.map(Reason::as_str),
            "integration"
        );
    }
}
