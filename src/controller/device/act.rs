//! The side effects, one system at a time. What they return is taken in as facts, and the device is
//! decided upon once more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::decide::{registered_hash, registered_hash_without_certificate};
use super::facts::{Located, Registered, ServedRequests, WrittenSecret};
use super::open_registration::{OpenRegistration, RegisteredTerms};
use super::registered::Made;
use super::secret::{self, Desired, Judgement, Known, Material};
use super::settings::Settings;
use crate::api::device::ProvisionedDevice;
use crate::api::issued::IssuedKeyAlgorithm;
use crate::api::shared::FormatType;
use crate::api::version;
use crate::controller::integration::target::{Instance, Target};
use crate::dps::answer::Assignment;
use crate::dps::attestation::DeviceCredential;
use crate::dps::attestation::certificate::{CertificateFacts, DeviceCertificate};
use crate::dps::call::Call;
use crate::dps::client::{Asked, Identity};
use crate::dps::connections::Connection;
use crate::dps::error::{Detail, DpsError, Unreachable};
use crate::dps::ids::RegistrationId;
use crate::dps::issuance::{CertificateRequest, KeyCurve};
use crate::dps::operation::{Delayed, Progress};
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Writer;

/// Tries when the Secret keeps changing between our read and our write.
const TRIES: u32 = 3;

/// A Secret that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretTrouble {
    /// It is not ours. What to do about it.
    Foreign(String),
    /// The API server refuses it. Why, without any of its content.
    Refused(String),
    /// The namespace is being deleted: nothing to be done, ever.
    Terminating,
    /// May pass.
    Unavailable,
}

/// What is known of the Secret before it is written.
pub enum SecretBefore {
    /// Nothing says that there is one: it is created without a read.
    Absent,
    There,
    /// It has just been read.
    Read(Box<Secret>),
    /// It is at this version what we wrote, with the same settings.
    AsWritten(u64),
}

/// The Secret as it is now, and whether it had to be changed for that.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretDone {
    pub secret: WrittenSecret,
    pub changed: bool,
}

/// An integration that can be used, and the connection to its DPS instance.
#[derive(Clone, Debug)]
pub struct UsableIntegration {
    pub target: Arc<Target>,
    pub connection: Connection,
}

/// How far a registration has come.
#[derive(Debug)]
pub enum Registration {
    Ended(Box<Registered>),
    /// DPS wants to be asked later how it has ended. `error`: of the last poll, if that failed.
    Open {
        open: Box<OpenRegistration>,
        error: Option<DpsError>,
    },
}

/// Registers the device with the credential in use and follows the operation to its end, or until DPS
/// asks for a long wait; `accepted` is called as soon as DPS has taken the request. `served`: requests
/// of users that it serves.
///
/// # Errors
/// What DPS says instead of an assignment.
pub async fn register(
    device: &ProvisionedDevice,
    integration: &UsableIntegration,
    served: ServedRequests,
    accepted: impl FnOnce(),
) -> Result<Registration, DpsError> {
    let target = &*integration.target;
    let settings = settings(device, target)?;
    let credential = credential(target, &settings.registration_id)?;
    let identity = identity(integration, &settings.registration_id, &credential);
    let asked = Asked { payload: settings.payload, certificate: certificate_request(&settings, target)? };
    let progress = integration.connection.client.register(identity, asked, accepted).await?;
    let terms = terms(&settings, target);
    Ok(registration(progress, &settings.registration_id, target, terms, served))
}

/// The request for a certificate that goes with it, if DPS is to issue one: with a new key each time.
fn certificate_request(
    settings: &Settings<'_>,
    target: &Target,
) -> Result<Option<Arc<CertificateRequest>>, DpsError> {
    let curve = match target.issued {
        None => return Ok(None),
        Some(IssuedKeyAlgorithm::EcdsaP256) => KeyCurve::P256,
        Some(IssuedKeyAlgorithm::EcdsaP384) => KeyCurve::P384,
    };
    let request = CertificateRequest::new(&settings.registration_id, curve);
    let request = request.map_err(|_| DpsError::Unreachable(Unreachable::NoRandomness))?;
    Ok(Some(Arc::new(request)))
}

/// Asks how a registration has ended for which DPS had asked for a long wait.
///
/// # Errors
/// As `register`.
pub async fn resume(
    open: &OpenRegistration,
    integration: &UsableIntegration,
    served: ServedRequests,
) -> Result<Registration, DpsError> {
    let OpenRegistration { operation, terms, served: _ } = open;
    let (id, target) = (operation.registration_id(), &*integration.target);
    let credential = credential(target, id)?;
    let identity = identity(integration, id, &credential);
    let progress = integration.connection.client.resume(identity, operation.clone()).await?;
    Ok(registration(progress, id, target, *terms, served))
}

fn registration(
    progress: Progress,
    id: &RegistrationId,
    target: &Target,
    terms: RegisteredTerms,
    served: ServedRequests,
) -> Registration {
    match progress {
        Progress::Assigned(assignment) => {
            Registration::Ended(Box::new(registered(id, target, terms, assignment)))
        }
        Progress::Delayed(delayed) => {
            let Delayed { operation, error } = *delayed;
            Registration::Open { open: Box::new(OpenRegistration { operation, terms, served }), error }
        }
    }
}

/// Takes an existing registration over as it is.
///
/// # Errors
/// `NotAssigned` when DPS has no assignment for the device; its other refusals as they are.
pub async fn adopt(
    device: &ProvisionedDevice,
    integration: &UsableIntegration,
) -> Result<Registered, DpsError> {
    let settings = settings(device, &integration.target)?;
    let located = lookup(&settings.registration_id, integration).await.map_err(|error| match error {
        // The record of a registration that was made while its enrollment was disabled. There is nothing to
        // take over, and DPS need not change it when the enrollment is enabled.
        DpsError::Disabled(detail) => DpsError::NotAssigned(detail),
        error => error,
    })?;
    let target = &*integration.target;
    // A lookup issues nothing.
    let hash = registered_hash_without_certificate(&settings, target);
    let terms = RegisteredTerms { hash, ..terms(&settings, target) };
    Ok(registered(&settings.registration_id, target, terms, located.assignment))
}

/// Asks where a registered device is now.
///
/// # Errors
/// As `adopt`.
pub async fn find(device: &ProvisionedDevice, integration: &UsableIntegration) -> Result<Located, DpsError> {
    lookup(&settings(device, &integration.target)?.registration_id, integration).await
}

/// Asks where the device with this registration id is now.
///
/// # Errors
/// As `adopt`.
pub async fn lookup(id: &RegistrationId, integration: &UsableIntegration) -> Result<Located, DpsError> {
    let credential = credential(&integration.target, id)?;
    let assignment = integration.connection.client.lookup(identity(integration, id, &credential)).await?;
    let scope = integration.target.instance.scope.clone();
    Ok(Located { scope, registration_id: id.clone(), assignment })
}

fn settings<'a>(device: &'a ProvisionedDevice, target: &'a Target) -> Result<Settings<'a>, DpsError> {
    Settings::of(device, target.defaults.as_deref()).map_err(|_| not_to_be_called())
}

/// What the device proves its identity with.
fn credential(target: &Target, id: &RegistrationId) -> Result<DeviceCredential, DpsError> {
    target.credentials.for_device(id).ok_or_else(not_to_be_called)
}

/// No call is decided upon with this.
fn not_to_be_called() -> DpsError {
    DpsError::Rejected { call: Call::Register { payload: true, csr: false }, detail: Detail::default() }
}

fn identity<'a>(
    integration: &'a UsableIntegration,
    id: &'a RegistrationId,
    credential: &'a DeviceCredential,
) -> Identity<'a> {
    let Instance { scope, endpoint, tls: _ } = &integration.target.instance;
    Identity { clock: &integration.connection.clock, endpoint, scope, id, credential }
}

fn terms(settings: &Settings<'_>, target: &Target) -> RegisteredTerms {
    RegisteredTerms { slot: target.credentials.slot(), hash: registered_hash(settings, target) }
}

fn registered(
    id: &RegistrationId,
    target: &Target,
    terms: RegisteredTerms,
    assignment: Assignment,
) -> Registered {
    let RegisteredTerms { slot, hash } = terms;
    let (scope, credential) = (target.scope(), target.credentials.in_use());
    let key_secret = target.credentials.source().map(|source| source.secret.clone());
    let certificate = target.credentials.certificate().map(CertificateFacts::kept);
    let made = Made { scope, registration_id: id.as_str(), credential, slot, key_secret, certificate, hash };
    Registered::new(assignment, made)
}

/// A Secret that is to be written: for what, and what is known of it.
pub struct SecretWrite {
    pub device: Arc<ProvisionedDevice>,
    pub registered: Registered,
    /// Requests that it records as served.
    pub served: ServedRequests,
    pub target: Arc<Target>,
    pub before: SecretBefore,
    /// Name of the one that was written before.
    pub former: Option<String>,
    /// No other device names the Secret.
    pub alone: bool,
    /// No device names the former Secret.
    pub former_alone: bool,
}

/// Makes the Secret what it should be. A Secret that is not known to exist is created without
/// reading it first.
///
/// # Errors
/// As `SecretTrouble` says.
pub async fn write_secret(writer: &Writer, write: SecretWrite) -> Result<SecretDone, SecretTrouble> {
    let SecretWrite { device, registered, served, target, before, former, alone, former_alone } = write;
    let settings = Settings::of(&device, target.defaults.as_deref())
        .map_err(|invalid| SecretTrouble::Refused(invalid.to_string()))?;
    let credential = match &registered.issued {
        Some(issued) => issued.certificate.as_ref().map(DeviceCertificate::credential),
        None => registered
            .credential
            .and_then(|used| target.credentials.of_device(&settings.registration_id, used)),
    };
    let credential = credential.ok_or(SecretTrouble::Unavailable)?;
    let desired = secret::render(
        &device,
        &settings,
        &registered,
        &Material { target: &target, credential: &credential, served: &served },
    );
    let known = |existing: &Secret| Known {
        sealed: secret::is_sealed(existing, &target.credentials),
        written: former.as_ref() == Some(&desired.name),
        alone,
    };
    let (version, changed) = apply(writer, &desired, before, known).await?;
    if let Some(former) = former.filter(|former| *former != desired.name) {
        let known = Known { sealed: false, written: true, alone: former_alone };
        supersede(writer, &desired, &former, known).await?;
    }
    let secret = WrittenSecret {
        name: desired.name.clone(),
        version,
        rendered: Some(desired.rendered),
        record: registered.record(&served),
        binding: settings.formats.contains(&FormatType::ServiceBinding),
    };
    Ok(SecretDone { secret, changed })
}

/// Creates or mends the Secret and returns its version, and whether it was written.
async fn apply(
    writer: &Writer,
    desired: &Desired,
    before: SecretBefore,
    known: impl Fn(&Secret) -> Known,
) -> Result<(u64, bool), SecretTrouble> {
    let (mut exists, mut found) = match before {
        SecretBefore::Absent => (false, None),
        SecretBefore::There => (true, None),
        SecretBefore::Read(secret) => (true, Some(*secret)),
        SecretBefore::AsWritten(version) => {
            let patch = desired.blind_patch(version);
            match writer.patch_secret(&desired.namespace, &desired.name, &patch).await {
                Ok(version) => return Ok((version, true)),
                Err(ApiError::Conflict | ApiError::NotFound) => (true, None),
                Err(error) => return Err(trouble(error)),
            }
        }
    };
    for _ in 0..TRIES {
        if !exists {
            match writer.create_secret(&desired.namespace, &desired.object()).await {
                Ok(version) => return Ok((version, true)),
                Err(ApiError::Conflict) => {}
                Err(error) => return Err(trouble(error)),
            }
        }
        let existing = match found.take() {
            Some(found) => Some(found),
            None => writer.read_secret(&desired.namespace, &desired.name).await.map_err(trouble)?,
        };
        exists = existing.is_some();
        let Some(existing) = existing else { continue };
        let patch = match desired.judge(&existing, known(&existing)) {
            Judgement::Equal => return Ok((version::of(&existing.metadata), false)),
            Judgement::Foreign(why) => {
                return Err(SecretTrouble::Foreign(format!("Secret {:?} {why}", desired.name)));
            }
            Judgement::Patch(patch) => patch,
        };
        match writer.patch_secret(&desired.namespace, &desired.name, &patch).await {
            Ok(version) => return Ok((version, true)),
            Err(ApiError::Conflict) => {}
            // The collector was first: the Secret of an earlier object of this name is gone.
            Err(ApiError::NotFound) => exists = false,
            Err(error) => return Err(trouble(error)),
        }
    }
    Err(SecretTrouble::Unavailable)
}

/// Says on the Secret of a former name that it is no longer maintained. It goes with the device.
async fn supersede(
    writer: &Writer,
    desired: &Desired,
    former: &str,
    known: Known,
) -> Result<(), SecretTrouble> {
    for _ in 0..TRIES {
        let Some(old) = writer.read_secret(&desired.namespace, former).await.map_err(trouble)? else {
            return Ok(());
        };
        let Some(patch) = desired.superseded(&old, known) else { return Ok(()) };
        match writer.patch_secret(&desired.namespace, former, &patch).await {
            Ok(_) | Err(ApiError::NotFound) => return Ok(()),
            Err(ApiError::Conflict) => {}
            Err(error) => return Err(trouble(error)),
        }
    }
    Err(SecretTrouble::Unavailable)
}

fn trouble(error: ApiError) -> SecretTrouble {
    match error {
        ApiError::Terminating => SecretTrouble::Terminating,
        ApiError::Forbidden(message) => SecretTrouble::Refused(format!(
            "The API server does not let the operator write the Secret: {message}. Grant it; the write is tried again."
        )),
        ApiError::Invalid(fields) => {
            SecretTrouble::Refused(format!("The API server refuses the Secret because of: {fields}."))
        }
        ApiError::Conflict | ApiError::NotFound | ApiError::Unavailable => SecretTrouble::Unavailable,
    }
}
