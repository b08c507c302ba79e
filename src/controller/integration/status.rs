//! The status of an integration. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::credentials::{Credentials, asked_for};
use super::health::Health;
use super::issuers::Issuers;
use super::secret_versions::SecretVersions;
use super::unusable::Unusable;
use super::words::{self, Available, With};
use crate::api::attestation::{CredentialsStatus, KeySlot};
use crate::api::conditions::{self, ConditionStatus, ConditionType, Conditions, Reason};
use crate::api::integration::{CertificatesStatus, DpsIntegration, DpsIntegrationStatus, KeyRotationStatus};
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::api::state::State;
use crate::dps::attestation::CredentialId;
use crate::fleet::counts::{CertificateCounts, Counts, Rotation};

/// What is known of an integration at this moment.
#[derive(Debug)]
pub struct View<'a> {
    /// `Err` when it cannot be used; otherwise its credentials.
    pub credentials: Result<&'a Credentials, &'a Unusable>,
    /// Credentials that DPS has accepted in the id scope of the spec.
    pub proven: Vec<CredentialId>,
    pub secret_versions: &'a SecretVersions,
    /// DPS has accepted a credential in the id scope of the spec, whether it can be used now or not.
    pub accepted_scope: bool,
    pub suspended: bool,
    /// The rate in calls a minute, if checks and periodic registrations come to more.
    pub insufficient: Option<u32>,
    /// The annotation that asks for a check.
    pub reconcile_at: Option<&'a str>,
    /// What is to be said of it although it can be used.
    pub warning: Option<&'a str>,
    pub health: &'a Health,
    pub issuers: &'a Issuers,
    pub throttled_until: Option<Timestamp>,
    /// `None` before every watch has been read in full: then the counters stay as they are.
    pub counts: Option<&'a Counts>,
    /// A rotation that begins is shown at once, whenever counters are written.
    pub begins: Option<Rotation>,
    /// Registrations a minute that a rotation may come to.
    pub pace: u32,
}

/// The status that should be written.
pub fn render(integration: &DpsIntegration, view: &View<'_>, now: Timestamp) -> DpsIntegrationStatus {
    let before = integration.status.clone().unwrap_or_default();
    let generation = integration.metadata.generation.unwrap_or(0);
    let conditions_before = before.conditions;
    let throttled = throttled(view, before.throttled_until.zip(before.throttled_since), now).unzip();
    let token = integration.metadata.annotations.as_ref().and_then(|map| map.get(REPROVISION_REQUESTED_AT));
    let mut status = DpsIntegrationStatus {
        observed_generation: Some(generation),
        state: None,
        conditions: Vec::new(),
        // Another one there cannot be meant: the id scope is fixed once it is accepted.
        accepted_id_scope: view.accepted_scope.then(|| integration.spec.id_scope.clone()),
        credentials: credentials(view, before.credentials, before.observed_generation == Some(generation)),
        throttled_until: throttled.0,
        throttled_since: throttled.1,
        devices: before.devices,
        hubs: before.hubs,
        other_hubs: before.other_hubs,
        failures: before.failures,
        key_rotation: before.key_rotation,
        certificates: before.certificates,
        last_handled_reprovision_token: before.last_handled_reprovision_token,
        last_handled_reconcile_at: view.reconcile_at.map(str::to_owned).or(before.last_handled_reconcile_at),
    };
    if let Some(counts) = view.counts {
        status.devices = Some(counts.devices.clone());
        status.hubs.clone_from(&counts.hubs);
        status.other_hubs = Some(counts.other_hubs);
        status.failures.clone_from(&counts.failures);
        status.certificates = counts.certificates.as_ref().map(|counts| certificates(view, counts));
        // Without a credential it is not known what is to be done.
        if view.credentials.is_ok() {
            status.key_rotation = key_rotation(view, counts.rotation, status.key_rotation.take(), now);
        }
        if view.credentials.is_ok() && counts.tokens_pending == 0 {
            status.last_handled_reprovision_token = token.cloned().or(status.last_handled_reprovision_token);
        }
    }
    if let Some(rotation) = view.begins.filter(|_| view.credentials.is_ok()) {
        status.key_rotation = status.key_rotation.or_else(|| key_rotation(view, rotation, None, now));
    }
    // Whether it is held needs no counting.
    if let Some(rotation) = status.key_rotation.as_mut().filter(|_| view.credentials.is_ok()) {
        rotation.blocked = view.is_blocked();
        rotation.progress = Some(words::progress(rotation, is_paused(integration)));
    }
    status.conditions = conditions(integration, view, &status, &conditions_before, now);
    status.state = Some(State::of(integration.spec.suspend, &status.conditions));
    status
}

/// What is wrong with it or, if nothing is, how it stands. `status`: all the rest of what is to be written.
fn conditions(
    integration: &DpsIntegration,
    view: &View<'_>,
    status: &DpsIntegrationStatus,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = Conditions::new(before, integration.metadata.generation.unwrap_or(0), now);
    let of_cas = view.trouble_with_cas();
    let problem = view.credentials.err().or(view.health.trouble()).or(of_cas.as_ref());
    let ready = ConditionStatus::from_bool(problem.is_none());
    let (reason, message) = match problem {
        Some(problem) => (problem.reason, problem.message.clone()),
        None if view.suspended => (
            Reason::Suspended,
            "spec.suspend is true: no DPS operation is started for its devices.".to_owned(),
        ),
        None if view.health.has_fallen_back() => {
            let in_use = status.credentials.as_ref().and_then(|credentials| credentials.in_use);
            (Reason::Available, fallen_back(in_use))
        }
        None => (Reason::Available, available(integration, view, status)),
    };
    let message = with_hints(reason, message, view, status);
    let message = with_host(reason, message, &integration.spec.hostname);
    conditions.set(ConditionType::Ready, ready, reason, &message);
    conditions.set_progress(reason, &message);
    if let Some(rate) = view.insufficient {
        let message = insufficient(rate);
        let kind = ConditionType::QuotaInsufficient;
        conditions.set(kind, ConditionStatus::True, Reason::QuotaInsufficient, &message);
    }
    conditions.finish()
}

fn available(integration: &DpsIntegration, view: &View<'_>, status: &DpsIntegrationStatus) -> String {
    let in_use = status.credentials.as_ref().and_then(|credentials| credentials.in_use);
    let certificates = view.credentials.is_ok_and(|credentials| credentials.certificates().is_some());
    let (with, accepted) = match in_use {
        Some(slot) => (With::Key(slot), view.health.accepted()),
        None if certificates => (With::Certificates, accepts_certificates(status)),
        None => (With::OwnCredentials, view.accepted_scope),
    };
    let rotation = status.key_rotation.as_ref();
    let has_certificates = status.certificates.is_some();
    let paused = is_paused(integration);
    Available { with, accepted, rotation, has_certificates, paused, pace: view.pace }.message()
}

fn accepts_certificates(status: &DpsIntegrationStatus) -> bool {
    let issuers = status.certificates.iter().flat_map(|certificates| &certificates.issuers);
    issuers.into_iter().any(|issuer| issuer.accepted)
}

fn is_paused(integration: &DpsIntegration) -> bool {
    integration.spec.rollout.as_ref().is_some_and(|rollout| rollout.paused)
}

impl View<'_> {
    /// DPS refuses the certificates of a CA that the integration's own devices have by its word.
    fn trouble_with_cas(&self) -> Option<Unusable> {
        self.credentials.ok()?.certificates()?;
        self.issuers.trouble()
    }

    fn is_blocked(&self) -> bool {
        self.health.is_blocked() || self.trouble_with_cas().is_some()
    }
}

fn certificates(view: &View<'_>, counts: &CertificateCounts) -> CertificatesStatus {
    let (issuers, others) = view.issuers.shown(counts);
    let earliest = counts.earliest.and_then(|at| Timestamp::from_second(at.into()).ok());
    CertificatesStatus {
        earliest_not_after: earliest.map(Time),
        unregistered: counts.unregistered,
        overdue: counts.overdue,
        expired: counts.expired,
        issuers,
        other_issuers: (others > 0).then_some(others),
    }
}

/// A pause that ends so much later than it was written is written once more.
const WORTH_A_WRITE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Until when calls are held, and since when: as it is written, unless it has become noticeably longer.
fn throttled(view: &View<'_>, written: Option<(Time, Time)>, now: Timestamp) -> Option<(Time, Time)> {
    let until = Time(view.throttled_until?);
    // One that lies further ahead than DPS can ask for is not ours.
    let ours = |written: &Time| written.0 <= now.saturating_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX);
    let stands = |written: &(Time, Time)| ours(&written.0) && !is_later(Some(&written.0), Some(&until));
    Some(written.filter(stands).unwrap_or((until, Time(now))))
}

/// The key of the other slot is in use.
fn fallen_back(in_use: Option<KeySlot>) -> String {
    let (refused, used) = match in_use {
        Some(KeySlot::Primary) => (KeySlot::Secondary, KeySlot::Primary),
        Some(KeySlot::Secondary) | None => (KeySlot::Primary, KeySlot::Secondary),
    };
    format!(
        "DPS refuses the {refused:?} key, which spec.attestation.symmetricKey.active asks for, so the {used:?} key is used. Put the right key into the Secret, or set active to {used:?}."
    )
}

/// What cannot be reached, unless the message was recalled from a status that says it.
fn with_host(reason: Reason, message: String, hostname: &str) -> String {
    let host = format!("spec.hostname is {hostname}.");
    if reason != Reason::EndpointUnreachable || message.contains(&host) {
        return message;
    }
    format!("{message} {host}")
}

const GOES_ON: &str = "Calls go on at";

/// With what may be the cause, or would be said nowhere else.
fn with_hints(reason: Reason, message: String, view: &View<'_>, status: &DpsIntegrationStatus) -> String {
    let hint = match (reason, view.credentials) {
        (Reason::Available | Reason::Suspended | Reason::EndpointUnreachable, _) => {
            view.warning.map(str::to_owned)
        }
        (Reason::Throttled, _) => {
            let until = status.throttled_until.as_ref().map(|until| until.0.strftime("%H:%M:%S"));
            until.map(|until| format!("{GOES_ON} {until} UTC."))
        }
        (Reason::Unauthorized, Ok(credentials)) => credentials.oddities(),
        _ => None,
    };
    let message =
        message.split_once(GOES_ON).map_or(message.as_str(), |(message, _)| message.trim_end()).to_owned();
    // A message that was recalled from the status has it already.
    match hint.filter(|hint| !message.contains(hint)) {
        Some(hint) => format!("{message} {hint}"),
        None => message,
    }
}

fn insufficient(rate: u32) -> String {
    format!(
        "Drift checks and periodic registrations come to more than {rate} calls a minute, which is the rate. Make their intervals longer, or raise the rate."
    )
}

/// Progress, while there are devices to be moved.
fn key_rotation(
    view: &View<'_>,
    rotation: Rotation,
    before: Option<KeyRotationStatus>,
    now: Timestamp,
) -> Option<KeyRotationStatus> {
    (rotation.pending > 0).then(|| KeyRotationStatus {
        total: rotation.total,
        pending: rotation.pending,
        excluded: rotation.excluded,
        blocked: view.is_blocked(),
        progress: None,
        started_at: before.map_or_else(|| Time(now), |before| before.started_at),
    })
}

/// True if writing would change nothing for a reader.
pub fn is_equal(integration: &DpsIntegration, wanted: &DpsIntegrationStatus) -> bool {
    let Some(written) = &integration.status else { return false };
    if is_later(written.throttled_until.as_ref(), wanted.throttled_until.as_ref()) {
        return false;
    }
    let (written, mut wanted) = (timeless(written), timeless(wanted));
    // Version 0.1.0 did not have these two fields: that is worth no write, and what the second one does not say is
    // that all is as asked for.
    wanted.state = wanted.state.filter(|_| written.state.is_some());
    keep_early_words(&written, &mut wanted);
    if let (Some(before), Some(after)) = (&written.credentials, &mut wanted.credentials)
        && before.in_use.is_none()
        && after.in_use == asked_for(&integration.spec.attestation)
    {
        after.in_use = None;
    }
    written == wanted
}

/// Version 0.1.0 said the same of all that could be used: that is worth no write. To be removed with version 0.3.
fn keep_early_words(written: &DpsIntegrationStatus, wanted: &mut DpsIntegrationStatus) {
    const EARLY: &str = "The configuration is valid and nothing is known to be wrong.";
    let early =
        conditions::find(&written.conditions, ConditionType::Ready).filter(|old| old.message == EARLY);
    let ready = wanted.conditions.iter_mut().find(|ready| ready.type_ == ConditionType::Ready.as_str());
    if let Some((early, ready)) = early.zip(ready).filter(|(_, ready)| words::is_plain(&ready.message)) {
        ready.message.clone_from(&early.message);
    }
}

/// True if DPS has asked for a pause that lasts noticeably longer.
fn is_later(written: Option<&Time>, wanted: Option<&Time>) -> bool {
    let longer = |(written, wanted): (&Time, &Time)| {
        Duration::try_from(wanted.0.duration_since(written.0)).is_ok_and(|longer| longer >= WORTH_A_WRITE)
    };
    written.zip(wanted).is_some_and(longer)
}

/// True if both say the same of devices.
pub fn counts_the_same(integration: &DpsIntegration, wanted: &DpsIntegrationStatus) -> bool {
    let none = DpsIntegrationStatus::default();
    let counters = |status: &DpsIntegrationStatus| {
        let DpsIntegrationStatus { devices, hubs, other_hubs, failures, key_rotation, certificates, .. } =
            status.clone();
        let rotation = key_rotation.map(|rotation| (rotation.total, rotation.pending, rotation.excluded));
        (devices, hubs, other_hubs, failures, rotation, certificates)
    };
    counters(integration.status.as_ref().unwrap_or(&none)) == counters(wanted)
}

fn timeless(status: &DpsIntegrationStatus) -> DpsIntegrationStatus {
    let mut status = status.clone();
    // That DPS throttles is worth a write, as is a pause that lasts longer; each new date is not.
    status.throttled_until = status.throttled_until.map(|_| Time(Timestamp::UNIX_EPOCH));
    status.throttled_since = None;
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

fn credentials(
    view: &View<'_>,
    before: Option<CredentialsStatus>,
    same_spec: bool,
) -> Option<CredentialsStatus> {
    let Ok(credentials) = view.credentials else {
        // While a key cannot be read, what was known of it stays: after a restart it shows that DPS had
        // accepted it. Which one is in use is known only for the spec that it was found out for.
        let in_use = before.as_ref().and_then(|before| before.in_use).filter(|_| same_spec);
        return before.map(|before| CredentialsStatus { in_use, ..before });
    };
    let accepted = view.health.accepted();
    credentials.status(&view.proven, accepted, view.secret_versions, before.as_ref())
}

fn recorded(integration: &DpsIntegration) -> Option<&CredentialsStatus> {
    integration.status.as_ref()?.credentials.as_ref()
}

/// True if the status says that DPS accepted the credential in use for the present scope.
pub fn was_accepted(integration: &DpsIntegration, credentials: &Credentials) -> bool {
    let scope = integration.status.as_ref().and_then(|status| status.accepted_id_scope.as_ref());
    scope == Some(&integration.spec.id_scope) && credentials.is_recorded_as_accepted(recorded(integration))
}

/// True if the status says, of this very spec and these credentials, that the one that was asked for
/// is refused and the other one works: after a start that need not be found out again.
pub fn has_fallen_back(
    integration: &DpsIntegration,
    asked_for: &Credentials,
    versions: &SecretVersions,
) -> bool {
    let known = |recorded: &&CredentialsStatus| asked_for.are_recorded(versions, recorded);
    let Some(recorded) = recorded(integration).filter(known) else {
        return false;
    };
    let replaced = match recorded.in_use {
        Some(_) => asked_for.is_recorded_as_replaced(recorded),
        None => says_fallback(integration),
    };
    replaced && is_recorded(integration, asked_for, versions)
}

/// Version 0.1.0 had no `credentials.inUse` and remembered a fallback by its message alone. To be
/// removed with version 0.3.
fn says_fallback(integration: &DpsIntegration) -> bool {
    const EARLY: &str = "DPS refuses the key in the slot that spec.attestation.symmetricKey.active names, so the other slot's key is used. Put the right key into the Secret, or set active to the slot that works.";
    let conditions =
        integration.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, ConditionType::Ready).is_some_and(|ready| ready.message == EARLY)
}

/// True if the status was written for this very spec and credential: what failed before a restart
/// would fail in the same way.
pub fn is_recorded(
    integration: &DpsIntegration,
    credentials: &Credentials,
    versions: &SecretVersions,
) -> bool {
    let observed = integration.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some()
        && observed == integration.metadata.generation
        && credentials.is_recorded(versions, recorded(integration))
}
