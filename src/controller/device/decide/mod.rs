//! What one device needs now. A chain of pure checks; the first that has something to say decides.

mod calls;
mod certificates;
mod secrets;
mod subject;

use jiff::Timestamp;
use tokio::time::Instant;

use self::certificates::REGISTERED_EXPIRED;
use super::facts::Facts;
use super::settings::Settings;
use crate::api::attestation::CredentialType;
use crate::api::conditions::Reason;
use crate::api::device::{IntegrationRef, ProvisionedDevice};
use crate::api::issued::IssuedKeyAlgorithm;
use crate::controller::integration::issuers::Place;
use crate::controller::integration::target::Target;
use crate::controller::integration::unusable::Unusable;
use crate::fleet::SecretSeen;
use crate::fleet::hash::{self, Hash};
use crate::schedule::permits::Lane;

/// The integration as one device sees it.
#[derive(Clone, Copy, Debug)]
pub enum IntegrationState<'a> {
    /// It is in another namespace, and either is not there or does not admit this one; which of the
    /// two is not for this namespace to know.
    NotAllowed(Grace),
    /// There is none of that name.
    Missing(Grace),
    /// It cannot be used now.
    NotReady(Grace),
    /// It can be, and the device's own credential is not read yet.
    Unread(&'a Target),
    /// It can be, and the device's own credential cannot.
    Keyless(&'a Target, &'a Unusable, Grace),
    /// With the device's own credential, if it has one.
    Usable(&'a Target),
}

impl<'a> IntegrationState<'a> {
    /// What is known of it, if it can be used.
    pub fn target(&self) -> Option<&'a Target> {
        match self {
            Self::NotAllowed(_) | Self::Missing(_) | Self::NotReady(_) => None,
            Self::Unread(target) | Self::Keyless(target, ..) | Self::Usable(target) => Some(target),
        }
    }
}

/// A state that may pass in a moment is not reported at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    Running,
    /// It has lasted so long that the status should say so.
    Over,
}

impl Grace {
    pub fn is_over(self) -> bool {
        self == Self::Over
    }
}

/// What keeps a device waiting that wants to call DPS, once it has lasted so long that its status
/// should say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    #[default]
    None,
    /// The integration is suspended, or DPS refuses its credential or does not answer.
    HeldUp,
    /// The line for permits is long.
    Queued,
}

/// What is known of the Secret in its place before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretState {
    pub seen: SecretSeen,
    /// The Secret has been read from the API server.
    pub read: bool,
    /// The watch shows every generated Secret. It does not when there are too many foreign ones with
    /// our label, or when it is not allowed.
    pub watch_is_complete: bool,
    /// It holds the key of an enrollment.
    pub holds_key: bool,
}

/// Whether a device may use its registration id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdStanding {
    Free,
    /// Another device seems to have the better claim, but not all is known of this one's.
    Unverified,
    /// Another device has the better claim.
    Taken,
}

/// Everything that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    pub device: &'a ProvisionedDevice,
    pub facts: &'a Facts,
    pub integration: IntegrationState<'a>,
    pub secret: SecretState,
    pub standing: IdStanding,
    /// This process has written the status as it is.
    pub status_is_ours: bool,
    /// Another controller keeps reverting the Secret.
    pub contested: Option<Contested>,
    pub delay: Delay,
    /// When the integration wants a device tried once more that met its refusal, instead of what the
    /// device itself would wait.
    pub retry_at: Option<Instant>,
    /// Whether it may try its certificate, if it has one.
    pub ca: Place<'a>,
    /// Labels and annotations that users give a Secret must begin with one of these; none: any will do.
    pub metadata_prefixes: &'a [String],
    /// It may call DPS now.
    pub has_permit: bool,
    pub now: Instant,
    /// The same on the wall clock.
    pub wall: Timestamp,
}

/// A Secret that was restored again and again is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contested {
    pub until: Instant,
    pub report: Grace,
}

/// A call to DPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Register,
    /// Ask how the registration that DPS has accepted has ended.
    Poll,
    /// Take over the registration that there is, without moving anything.
    Adopt,
    /// Ask where a registered device is, without moving anything.
    Lookup,
}

impl Call {
    /// DPS may hold something else after it.
    pub fn registers(self) -> bool {
        match self {
            Self::Register | Self::Poll => true,
            Self::Adopt | Self::Lookup => false,
        }
    }
}

/// One side effect, or none. After each the device is decided upon once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Call DPS; needs a permit.
    Call(Call, Lane),
    /// Read the device's own credential.
    ReadCredential,
    /// Read the Secret that is there.
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

/// What to do, what to say, and when to decide again if nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub step: Step,
    /// `None` leaves the status as it is.
    pub verdict: Option<Verdict>,
    pub wake: Option<Instant>,
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

/// Decides the next step for a device whose object is in memory. Settled devices come here only if
/// `fleet::record::Record::need` finds that they need something.
pub fn decide(snapshot: &Snapshot<'_>) -> Decision {
    if snapshot.device.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    certificates::with_expiry(snapshot, decide_on(snapshot))
}

fn decide_on(snapshot: &Snapshot<'_>) -> Decision {
    let defaults = snapshot.integration.target().and_then(|target| target.defaults.as_deref());
    let settings = match Settings::of(snapshot.device, defaults) {
        Ok(settings) => settings,
        Err(invalid) => return refused(snapshot, Reason::InvalidConfiguration, &invalid.to_string()),
    };
    if let Some(key) = settings.metadata_not_allowed(snapshot.metadata_prefixes) {
        let message = format!(
            "The Secret may not carry {key:?}: the operator admits only labels and annotations with certain prefixes (--secret-metadata-allowed-prefixes)."
        );
        return refused(snapshot, Reason::InvalidConfiguration, &message);
    }
    let target = match snapshot.integration {
        IntegrationState::NotAllowed(grace) => return not_allowed(snapshot, grace),
        IntegrationState::Missing(grace) => return integration_missing(snapshot, grace),
        IntegrationState::NotReady(grace) => return integration_not_ready(snapshot, grace),
        IntegrationState::Unread(target)
        | IntegrationState::Keyless(target, ..)
        | IntegrationState::Usable(target) => target,
    };
    let device = Subject { snapshot, settings: &settings, target };
    let checks = [
        Subject::registration_id_not_allowed, // by the integration's prefixes
        Subject::secret_holds_key,            // its Secret is one that a key is read from
        Subject::secret_is_source,            // or the one with its certificate
        Subject::certificate_not_to_be_had,   // its id is too long for one
        Subject::registration_id_taken,       // by a device with the better claim
        Subject::without_credential,          // its own is not read, or of no use
        Subject::cannot_be_issued,            // a certificate by DPS
        Subject::secret_unread,               // it may hold what is not known yet
        Subject::secret_touched,              // deleted or edited: restored without a call
        Subject::certificate_out_of_date,     // DPS and hubs refuse it
        Subject::call_due,                    // register, or look up
        Subject::secret_outdated,             // rendered from other settings or another assignment
    ];
    checks.iter().find_map(|check| check(&device)).unwrap_or_else(|| device.settled())
}

/// What the device asks for is refused. That does not hide that its Secret is gone.
fn refused(snapshot: &Snapshot<'_>, reason: Reason, message: &str) -> Decision {
    if secrets::secret_is_gone(snapshot).is_some() {
        let message = format!("The Secret is gone and cannot be written again: {message}");
        return Decision::say(Reason::CredentialUnavailable, message);
    }
    Decision::say(reason, message)
}

fn not_allowed(snapshot: &Snapshot<'_>, grace: Grace) -> Decision {
    if let Some(stranded) = secrets::secret_is_gone(snapshot) {
        return stranded;
    }
    if !grace.is_over() {
        return Decision::rest();
    }
    let IntegrationRef { name, namespace, .. } = &snapshot.device.spec.integration_ref;
    let namespace = namespace.as_deref().unwrap_or_default();
    Decision::say(
        Reason::ReferenceNotAllowed,
        format!(
            "DpsIntegration {name:?} in namespace {namespace:?} does not exist, or does not admit devices of this namespace. Ask its owner to admit it (spec.allowedNamespaces), or correct spec.integrationRef; the device goes on by itself."
        ),
    )
}

fn integration_missing(snapshot: &Snapshot<'_>, grace: Grace) -> Decision {
    if let Some(stranded) = secrets::secret_is_gone(snapshot) {
        return stranded;
    }
    if grace.is_over() {
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

/// Provisioned devices stay as they are, unless their Secret is gone and there is no key to render
/// it from.
fn integration_not_ready(snapshot: &Snapshot<'_>, grace: Grace) -> Decision {
    if snapshot.facts.provisioned() {
        return secrets::secret_is_gone(snapshot).unwrap_or_else(Decision::rest);
    }
    Decision { verdict: grace.is_over().then(|| not_ready(snapshot.device)), ..Decision::rest() }
}

fn not_ready(device: &ProvisionedDevice) -> Verdict {
    let IntegrationRef { name, namespace, .. } = &device.spec.integration_ref;
    let of = namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    let message = format!(
        "DpsIntegration {name:?} cannot be used now or is suspended; kubectl get dpsi {name}{of} -o wide says why. The device goes on by itself when that is mended."
    );
    Verdict { reason: Reason::IntegrationNotReady, message }
}

/// A device whose settings are valid and whose integration can be used.
struct Subject<'a> {
    snapshot: &'a Snapshot<'a>,
    settings: &'a Settings<'a>,
    target: &'a Target,
}

impl Subject<'_> {
    fn registration_id_not_allowed(&self) -> Option<Decision> {
        let id = self.settings.registration_id.as_str();
        let namespace = self.snapshot.device.metadata.namespace.as_deref().unwrap_or_default();
        (!self.target.allows_id(id, namespace)).then(|| {
            let message = format!(
                "The registration id {id:?} has to begin with {}, as the integration prescribes (registrationIdPrefixes). Create the device under such an id, or ask the integration's owner.",
                self.target.prescribed(namespace)
            );
            refused(self.snapshot, Reason::ReferenceNotAllowed, &message)
        })
    }

    fn without_credential(&self) -> Option<Decision> {
        let refused = |reason, message: &str| Some(refused(self.snapshot, reason, message));
        match self.snapshot.integration {
            IntegrationState::Unread(_) if self.reads_when_its_turn_has_come() => None,
            IntegrationState::Unread(_) => Some(Decision::step(Step::ReadCredential)),
            IntegrationState::Keyless(_, why, grace)
                if why.passes && !grace.is_over() && !self.registration_has_expired() =>
            {
                Some(Decision::rest())
            }
            IntegrationState::Keyless(_, why, _) if self.registration_has_expired() => Some(Decision::say(
                Reason::CertificateExpired,
                format!("{REGISTERED_EXPIRED} {}", why.message),
            )),
            IntegrationState::Keyless(_, why, _) => refused(why.reason, &why.message),
            _ if self.target.credentials.certificate().is_some() => {
                let invalid = self.settings.check_keys(CredentialType::X509).err()?;
                refused(Reason::InvalidConfiguration, &invalid.to_string())
            }
            _ if self.target.credentials.are_shared() => None,
            _ => refused(
                Reason::InvalidConfiguration,
                "The integration's attestation is perDevice, so that each device needs a credential of its own: set spec.attestation.symmetricKey to the keys of its individual enrollment, or x509 to the Secret with its certificate.",
            ),
        }
    }

    /// The integration names it for all of its devices, which admission cannot see.
    fn secret_is_source(&self) -> Option<Decision> {
        let own = self.unread_credential()?;
        let invalid = self.settings.check_source(own.secret()).err()?;
        Some(refused(self.snapshot, Reason::InvalidConfiguration, &invalid.to_string()))
    }

    fn registration_id_taken(&self) -> Option<Decision> {
        (self.snapshot.standing == IdStanding::Taken).then(|| {
            let id = self.settings.registration_id.as_str();
            let message = format!(
                "Another ProvisionedDevice uses registration id {id:?} in the same id scope; kubectl get pdev -A --field-selector status.registrationId={id} finds it. Delete one of them; the other goes on at once."
            );
            Decision::say(Reason::DuplicateRegistrationId, message)
        })
    }
}

/// Hash of what is registered where DPS is not asked for a certificate.
pub fn registered_hash_without_certificate(settings: &Settings<'_>, target: &Target) -> Hash {
    let payload = settings.payload.map(hash::payload);
    hash::registered(target.scope(), settings.registration_id.as_str(), payload, None)
}

/// Hash of what would be registered now.
pub fn registered_hash(settings: &Settings<'_>, target: &Target) -> Hash {
    let issued = target.issued.map(IssuedKeyAlgorithm::as_str);
    let payload = settings.payload.map(hash::payload);
    hash::registered(target.scope(), settings.registration_id.as_str(), payload, issued)
}
