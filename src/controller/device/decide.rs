//! What one device needs now. A chain of pure checks; the first that has something to say decides.

use jiff::Timestamp;

use super::facts::{Facts, FailedWork, Registered};
use super::secret;
use super::settings::Settings;
use crate::api::conditions::Reason;
use crate::api::device::ProvisionedDevice;
use crate::controller::integration::{Ready, SlotKey};
use crate::dps::queue::Lane;
use crate::fleet::SecretSeen;
use crate::fleet::hash::{self, Hash};

/// Failures in a row before a device's own status speaks of a service that may be back in a moment.
const QUIET_ATTEMPTS: u32 = 3;

/// The integration as this device sees it.
#[derive(Clone, Copy, Debug)]
pub enum Integration<'a> {
    /// There is none of that name. `told`: long enough to say so.
    Missing {
        told: bool,
    },
    /// It cannot be used now. `told`: long enough to say so.
    NotReady {
        told: bool,
    },
    Ready(&'a Ready),
}

/// Everything that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub device: &'a ProvisionedDevice,
    pub facts: &'a Facts,
    pub integration: Integration<'a>,
    pub secret: SecretSeen,
    /// The Secret that the watch showed, or may not have shown, has been looked at.
    pub secret_read: bool,
    /// So many labelled Secrets are around that the watch's word does not count.
    pub must_look: bool,
    /// Another device has the better claim on the registration id.
    pub duplicate: bool,
    /// The device's Secret is one that holds a group's key.
    pub secret_is_key: bool,
    /// Somebody else keeps changing the Secret back.
    pub fought_until: Option<Fought>,
    /// The device has waited so long for its turn that its status should say so.
    pub waited_long: bool,
    /// The integration is suspended, or DPS refuses its key or does not answer, and the device has
    /// waited long enough for its status to say so.
    pub held_up: bool,
    pub now: Timestamp,
}

/// A Secret that was restored again and again is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fought {
    pub until: Timestamp,
    /// It has gone on for so long that the status should say so.
    pub told: bool,
}

/// One side effect, or none. After each the device is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Register with DPS; needs a permit.
    Register(Lane),
    /// Look at the Secret that is there.
    ReadSecret,
    /// Create or mend the Secret from what is known.
    WriteSecret,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: Reason,
    pub message: String,
}

/// What to do, what to say, and when to look again if nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub step: Step,
    /// `None` leaves the status as it is.
    pub verdict: Option<Verdict>,
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn rest() -> Self {
        Self { step: Step::Nothing, verdict: None, wake: None }
    }

    fn say(reason: Reason, message: impl Into<String>) -> Self {
        Self { step: Step::Nothing, verdict: Some(Verdict { reason, message: message.into() }), wake: None }
    }

    fn step(step: Step) -> Self {
        Self { step, verdict: None, wake: None }
    }
}

/// The one decision about a device.
pub fn decide(snapshot: &Snapshot<'_>) -> Decision {
    if snapshot.device.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    let settings = match Settings::of(snapshot.device) {
        Ok(settings) => settings,
        Err(message) => return Decision::say(Reason::InvalidConfiguration, message),
    };
    if let Some(refused) = foreign_namespace(snapshot) {
        return refused;
    }
    let ready = match snapshot.integration {
        Integration::Missing { told } => return integration_missing(snapshot, told),
        Integration::NotReady { told } => return integration_not_ready(snapshot, told),
        Integration::Ready(ready) => ready,
    };
    let device = Considered { snapshot, settings: &settings, ready };
    let checks = [
        Considered::id_not_allowed,
        Considered::secret_is_the_key,
        Considered::duplicate,
        Considered::secret_not_looked_at,
        Considered::secret_to_restore,
        Considered::registration,
        Considered::secret_to_write,
    ];
    checks.iter().find_map(|check| check(&device)).unwrap_or_else(|| device.settled())
}

fn foreign_namespace(snapshot: &Snapshot<'_>) -> Option<Decision> {
    let own = snapshot.device.metadata.namespace.as_deref();
    let named = snapshot.device.spec.integration_ref.namespace.as_deref();
    (named.is_some() && named != own).then(|| {
        Decision::say(
            Reason::ReferenceNotAllowed,
            "spec.integrationRef.namespace names another namespace, and its integrations do not allow that.",
        )
    })
}

fn integration_missing(snapshot: &Snapshot<'_>, told: bool) -> Decision {
    if let Some(stranded) = stranded_without_key(snapshot) {
        return stranded;
    }
    if told {
        let name = &snapshot.device.spec.integration_ref.name;
        Decision::say(
            Reason::IntegrationNotFound,
            format!(
                "There is no DpsIntegration {name:?} in this namespace. Create it, or correct spec.integrationRef."
            ),
        )
    } else {
        Decision::rest()
    }
}

/// Provisioned devices are left in peace, unless their Secret is gone and there is no key to
/// render it anew.
fn integration_not_ready(snapshot: &Snapshot<'_>, told: bool) -> Decision {
    if snapshot.facts.provisioned() {
        return stranded_without_key(snapshot).unwrap_or_else(Decision::rest);
    }
    Decision { verdict: told.then(|| not_ready(snapshot.device)), ..Decision::rest() }
}

/// The Secret of a provisioned device is gone and nobody has a key to render it anew.
fn stranded_without_key(snapshot: &Snapshot<'_>) -> Option<Decision> {
    let gone = snapshot.facts.provisioned() && snapshot.secret == SecretSeen::No;
    gone.then(|| Decision::say(Reason::CredentialUnavailable, CREDENTIAL_UNAVAILABLE))
}

fn not_ready(device: &ProvisionedDevice) -> Verdict {
    let name = &device.spec.integration_ref.name;
    let message = format!("DpsIntegration {name:?} is not ready or suspended; its conditions say why.");
    Verdict { reason: Reason::IntegrationNotReady, message }
}

const QUEUED: &str = "The device waits for its turn: DPS admits only so many registrations a minute.";
const FOUGHT: &str = "Something else keeps changing or deleting the Secret. It is restored with growing waits; end the fight, or set another spec.secret.name.";
const CREDENTIAL_UNAVAILABLE: &str = "The Secret is gone and the key that the device was registered with is not at hand; it is written again as soon as it is.";

/// A device whose settings are valid and whose integration can be used.
struct Considered<'a> {
    snapshot: &'a Snapshot<'a>,
    settings: &'a Settings<'a>,
    ready: &'a Ready,
}

impl Considered<'_> {
    fn registered(&self) -> Option<&Registered> {
        self.snapshot.facts.registered.as_ref()
    }

    fn id_not_allowed(&self) -> Option<Decision> {
        let id = self.settings.registration_id.as_str();
        let namespace = self.snapshot.device.metadata.namespace.as_deref().unwrap_or_default();
        (!self.ready.allows_id(id, namespace)).then(|| {
            Decision::say(
                Reason::ReferenceNotAllowed,
                "The registration id begins with none of the integration's registrationIdPrefixes.",
            )
        })
    }

    fn secret_is_the_key(&self) -> Option<Decision> {
        self.snapshot.secret_is_key.then(|| {
            Decision::say(
                Reason::SecretConflict,
                format!(
                    "Secret {:?} holds an enrollment group's key; choose another spec.secret.name.",
                    self.settings.secret_name
                ),
            )
        })
    }

    fn duplicate(&self) -> Option<Decision> {
        self.snapshot.duplicate.then(|| {
            Decision::say(
                Reason::DuplicateRegistrationId,
                "Another ProvisionedDevice uses this registration id in the same id scope. Delete one of them.",
            )
        })
    }

    /// A Secret of our making may hold the whole answer: after a restore, a crash between two
    /// writes, or a device deleted and created again.
    fn secret_not_looked_at(&self) -> Option<Decision> {
        let there = matches!(self.snapshot.secret, SecretSeen::Version(_)) || self.snapshot.must_look;
        let of_use = match self.registered() {
            None => there,
            Some(registered) => there && self.payload_lost(registered) && self.secret_is_off(registered),
        };
        (of_use && !self.snapshot.secret_read).then(|| Decision::step(Step::ReadSecret))
    }

    /// A Secret that was deleted or edited is mended at once if the key it was made from is here.
    fn secret_to_restore(&self) -> Option<Decision> {
        let registered = self.registered()?;
        let written = self.snapshot.facts.secret.as_ref()?;
        let touched = self.snapshot.secret != SecretSeen::Version(written.version);
        if !touched || self.key_of(registered).is_none() || self.payload_lost(registered) {
            return None;
        }
        Some(self.fought().unwrap_or_else(|| self.write_secret()))
    }

    /// Somebody undoes what we write, again and again.
    fn fought(&self) -> Option<Decision> {
        let Fought { until, told } = self.snapshot.fought_until?;
        let verdict = Verdict { reason: Reason::SecretWriteFailed, message: FOUGHT.to_owned() };
        Some(Decision { verdict: told.then_some(verdict), wake: Some(until), ..Decision::rest() })
    }

    fn registration(&self) -> Option<Decision> {
        let lane = self.why_register()?;
        let stranded = self.stranded();
        if self.snapshot.device.spec.suspend {
            return Some(stranded.unwrap_or_else(|| self.suspended()));
        }
        if self.ready.suspended && stranded.is_some() {
            return stranded;
        }
        if self.ready.suspended {
            return Some(Decision { verdict: self.held_up(), ..Decision::rest() });
        }
        if let Some(waiting) = self.backing_off(FailedWork::Registration) {
            return Some(match stranded {
                Some(stranded) => Decision { wake: waiting.wake, ..stranded },
                None => waiting,
            });
        }
        if let Some(failed) = self.failed() {
            return Some(Decision { verdict: Some(failed), ..Decision::step(Step::Register(lane)) });
        }
        let queued = || Verdict { reason: Reason::Queued, message: QUEUED.to_owned() };
        let told = self.snapshot.waited_long && !self.snapshot.facts.provisioned();
        Some(Decision {
            verdict: self.held_up().or_else(|| told.then(queued)),
            ..Decision::step(Step::Register(lane))
        })
    }

    /// The Secret is gone or edited, only a registration could bring it back, and none may be made now.
    fn stranded(&self) -> Option<Decision> {
        let registered = self.registered()?;
        let written = self.snapshot.facts.secret.as_ref()?;
        let touched = self.snapshot.secret != SecretSeen::Version(written.version);
        (touched && self.key_of(registered).is_none())
            .then(|| Decision::say(Reason::CredentialUnavailable, CREDENTIAL_UNAVAILABLE))
    }

    /// A device that failed goes on saying why until it is tried again.
    fn failed(&self) -> Option<Verdict> {
        let failure = self.snapshot.facts.failure.as_ref().filter(|f| f.work == FailedWork::Registration)?;
        let quiet = failure.reason == Reason::ServiceUnavailable && failure.attempts < QUIET_ATTEMPTS;
        (!quiet).then(|| Verdict { reason: failure.reason, message: failure.message.clone() })
    }

    /// What a new device says while its integration keeps it waiting.
    fn held_up(&self) -> Option<Verdict> {
        let new = !self.snapshot.facts.provisioned();
        (self.snapshot.held_up && new).then(|| not_ready(self.snapshot.device))
    }

    /// How urgent a registration is; `None` when none is needed.
    fn why_register(&self) -> Option<Lane> {
        let Some(registered) = self.registered() else { return Some(Lane::New) };
        let moved = registered.scope != self.ready.scope.as_str();
        let changed = registered.hash.is_some_and(|hash| hash != self.registered_hash());
        let other_key = registered.fingerprint != Some(self.ready.active.fingerprint);
        let lost = self.payload_lost(registered) && self.secret_is_off(registered);
        if moved || changed || lost || self.stranded().is_some() {
            return Some(Lane::Changed);
        }
        other_key.then_some(Lane::Fleet)
    }

    fn secret_to_write(&self) -> Option<Decision> {
        let registered = self.registered()?;
        if !self.secret_is_off(registered) {
            return None;
        }
        if self.key_of(registered).is_none() {
            return Some(Decision::say(Reason::CredentialUnavailable, CREDENTIAL_UNAVAILABLE));
        }
        Some(self.write_secret())
    }

    fn settled(&self) -> Decision {
        if self.snapshot.device.spec.suspend {
            return self.suspended();
        }
        let hub = self.registered().map_or("", |registered| registered.hub.as_str());
        Decision::say(Reason::Provisioned, format!("Assigned to {hub}."))
    }

    fn suspended(&self) -> Decision {
        Decision::say(Reason::Suspended, "spec.suspend is true: no DPS operation is started for this device.")
    }

    fn write_secret(&self) -> Decision {
        self.backing_off(FailedWork::Secret).unwrap_or_else(|| Decision::step(Step::WriteSecret))
    }

    /// The same work failed and its wait is not over; a change of device or integration ends it.
    fn backing_off(&self, work: FailedWork) -> Option<Decision> {
        let failure = self.snapshot.facts.failure.as_ref().filter(|failure| failure.work == work)?;
        let unchanged = Some(failure.generation) == self.snapshot.device.metadata.generation
            && failure.epoch.map_or(self.ready.as_recorded, |epoch| epoch == self.ready.epoch);
        if !unchanged || failure.not_before <= self.snapshot.now {
            return None;
        }
        let quiet = failure.reason == Reason::ServiceUnavailable && failure.attempts < QUIET_ATTEMPTS;
        let verdict = Verdict { reason: failure.reason, message: failure.message.clone() };
        Some(Decision {
            step: Step::Nothing,
            verdict: (!quiet).then_some(verdict),
            wake: Some(failure.not_before),
        })
    }

    fn secret_is_off(&self, registered: &Registered) -> bool {
        let Some(written) = &self.snapshot.facts.secret else { return true };
        let wanted = secret::rendered_hash(self.snapshot.device, self.settings, registered);
        self.snapshot.secret != SecretSeen::Version(written.version)
            || written.rendered.is_some_and(|rendered| rendered != wanted)
    }

    /// A payload was returned once, the Secret should hold it, and only its hash is left.
    fn payload_lost(&self, registered: &Registered) -> bool {
        self.settings.keys.returned_payload.is_some()
            && registered.returned_payload.as_ref().is_some_and(|payload| payload.json.is_none())
    }

    fn key_of(&self, registered: &Registered) -> Option<&SlotKey> {
        self.ready.key(registered.fingerprint?)
    }

    fn registered_hash(&self) -> Hash {
        registered_hash(self.settings, self.ready)
    }
}

/// Hash of what would be registered now.
pub fn registered_hash(settings: &Settings<'_>, ready: &Ready) -> Hash {
    hash::registered(
        ready.scope.as_str(),
        settings.registration_id.as_str(),
        settings.payload.map(hash::payload),
    )
}
