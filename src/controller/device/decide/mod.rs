//! What one device needs now. A chain of pure checks; the first that has something to say decides.

mod calls;
mod secrets;

use std::time::Duration;

use jiff::Timestamp;

use super::facts::{Facts, FailedWork, Failure, Registered, later};
use super::settings::Settings;
use crate::api::conditions::Reason;
use crate::api::device::ProvisionedDevice;
use crate::controller::integration::{Ready, SlotKey};
use crate::fleet::SecretSeen;
use crate::fleet::hash::{self, Hash};
use crate::fleet::inherit::Policy;
use crate::schedule::permits::Lane;

/// Failures in a row before a device's own status speaks of a service that may be back in a moment.
const QUIET_ATTEMPTS: u32 = 3;
/// The longest wait after a failure, with all that is added to it.
const LONGEST_WAIT: Duration = Duration::from_secs(75 * 60);

/// The integration as this device sees it.
#[derive(Clone, Copy, Debug)]
pub enum Integration<'a> {
    /// It is in another namespace, and either is not there or does not admit this one; which of the
    /// two is nobody's business here. `told`: long enough to say so.
    NotAllowed {
        told: bool,
    },
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
    /// Labels and annotations that users give a Secret must begin with one of these; none: as they like.
    pub metadata_prefixes: &'a [String],
    pub now: Timestamp,
}

/// A Secret that was restored again and again is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fought {
    pub until: Timestamp,
    /// It has gone on for so long that the status should say so.
    pub told: bool,
}

/// A call to DPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Register,
    /// Ask where the device is, without moving anything.
    Lookup,
}

/// One side effect, or none. After each the device is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Call DPS; needs a permit.
    Call(Call, Lane),
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
    let ready = match snapshot.integration {
        Integration::Ready(ready) => Some(ready),
        _ => None,
    };
    let settings = match Settings::of(snapshot.device, ready.and_then(|ready| ready.defaults.as_deref())) {
        Ok(settings) => settings,
        Err(message) => return refused(snapshot, Reason::InvalidConfiguration, &message),
    };
    if let Some(key) = settings.metadata_not_allowed(snapshot.metadata_prefixes) {
        let message = format!(
            "The Secret may not carry {key:?}: the operator admits only labels and annotations with certain prefixes (--secret-metadata-allowed-prefixes)."
        );
        return refused(snapshot, Reason::InvalidConfiguration, &message);
    }
    let ready = match snapshot.integration {
        Integration::NotAllowed { told } => return not_allowed(snapshot, told),
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
        Considered::call,
        Considered::secret_to_write,
    ];
    checks.iter().find_map(|check| check(&device)).unwrap_or_else(|| device.settled())
}

/// What the device asks for is refused. That does not hide that its Secret is gone.
fn refused(snapshot: &Snapshot<'_>, reason: Reason, message: &str) -> Decision {
    if secrets::stranded_without_key(snapshot).is_some() {
        let message = format!("The Secret is gone and cannot be written again: {message}");
        return Decision::say(Reason::CredentialUnavailable, message);
    }
    Decision::say(reason, message)
}

fn not_allowed(snapshot: &Snapshot<'_>, told: bool) -> Decision {
    if let Some(stranded) = secrets::stranded_without_key(snapshot) {
        return stranded;
    }
    if !told {
        return Decision::rest();
    }
    Decision::say(
        Reason::ReferenceNotAllowed,
        "spec.integrationRef names an integration in another namespace that does not exist or does not allow devices of this namespace.",
    )
}

fn integration_missing(snapshot: &Snapshot<'_>, told: bool) -> Decision {
    if let Some(stranded) = secrets::stranded_without_key(snapshot) {
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
        return secrets::stranded_without_key(snapshot).unwrap_or_else(Decision::rest);
    }
    Decision { verdict: told.then(|| not_ready(snapshot.device)), ..Decision::rest() }
}

fn not_ready(device: &ProvisionedDevice) -> Verdict {
    let name = &device.spec.integration_ref.name;
    let message =
        format!("DpsIntegration {name:?} cannot be used now or is suspended; its conditions say why.");
    Verdict { reason: Reason::IntegrationNotReady, message }
}

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
        let message = "The registration id begins with none of the integration's registrationIdPrefixes.";
        (!self.ready.allows_id(id, namespace))
            .then(|| refused(self.snapshot, Reason::ReferenceNotAllowed, message))
    }

    fn duplicate(&self) -> Option<Decision> {
        self.snapshot.duplicate.then(|| {
            Decision::say(
                Reason::DuplicateRegistrationId,
                "Another ProvisionedDevice uses this registration id in the same id scope. Delete one of them.",
            )
        })
    }

    fn settled(&self) -> Decision {
        if self.snapshot.device.spec.suspend {
            return self.suspended();
        }
        let hub = self.registered().map_or("", |registered| registered.hub.as_str());
        let left_out = self.left_out();
        let message = if left_out.is_empty() {
            format!("Assigned to {hub}.")
        } else {
            let left_out = left_out.join(" and ");
            format!("Assigned to {hub}. Not applied, because reprovision.policy is Never: {left_out}.")
        };
        Decision::say(Reason::Provisioned, message)
    }

    fn suspended(&self) -> Decision {
        Decision::say(Reason::Suspended, "spec.suspend is true: no DPS operation is started for this device.")
    }

    /// The same work failed and its wait is not over; a change of device or integration ends it.
    fn backing_off(&self, work: FailedWork) -> Option<Decision> {
        let failure = self.snapshot.facts.failure.as_ref().filter(|failure| failure.work == work)?;
        let unchanged = Some(failure.generation) == self.snapshot.device.metadata.generation
            && failure.epoch.map_or(self.ready.as_recorded, |epoch| epoch == self.ready.epoch)
            && (self.settings.token.is_none() || self.settings.token == failure.token.as_deref());
        // A clock that was set back does not make anybody wait longer than the longest wait.
        let sane = failure.not_before <= later(self.snapshot.now, LONGEST_WAIT);
        if !unchanged || !sane || failure.not_before <= self.snapshot.now {
            return None;
        }
        Some(Decision { step: Step::Nothing, verdict: self.told_of(failure), wake: Some(failure.not_before) })
    }

    /// What the status says of a failure; nothing of what is likely to pass by itself.
    fn told_of(&self, failure: &Failure) -> Option<Verdict> {
        let quiet = match failure.reason {
            Reason::ServiceUnavailable => failure.attempts < QUIET_ATTEMPTS,
            Reason::Registering => self.snapshot.facts.provisioned(),
            _ => false,
        };
        (!quiet).then(|| Verdict { reason: failure.reason, message: failure.message.clone() })
    }

    fn key_of(&self, registered: &Registered) -> Option<&SlotKey> {
        self.ready.key(registered.fingerprint?)
    }

    /// The status speaks of the object as it is now.
    fn is_observed(&self) -> bool {
        let device = self.snapshot.device;
        let observed = device.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some() && observed == device.metadata.generation
    }

    fn never(&self) -> bool {
        self.settings.policy == Policy::Never
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
