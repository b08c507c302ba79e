//! The side effects, one system at a time. What they return is taken in as facts and the device is
//! decided upon anew.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::decide::registered_hash;
use super::facts::{Registered, WrittenSecret};
use super::secret::{self, Desired, Judgement};
use super::settings::Settings;
use crate::api::device::ProvisionedDevice;
use crate::api::shared::FormatType;
use crate::api::version;
use crate::clock;
use crate::controller::integration::Ready;
use crate::dps::answer::Assignment;
use crate::dps::client::Identity;
use crate::dps::error::{Detail, DpsError};
use crate::dps::ids::RegistrationId;
use crate::dps::key::DeviceKey;
use crate::kube_io::error::ApiError;
use crate::kube_io::write::Writer;

/// Somebody who keeps changing the Secret between our read and our write gets this many tries.
const TRIES: u32 = 3;

/// A Secret that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretTrouble {
    /// It is not ours. What to do about it.
    Foreign(&'static str),
    /// The API server refuses it. Why, without any of its content.
    Refused(String),
    /// The namespace is being deleted: nothing to be done, ever.
    Terminating,
    /// May pass.
    Unavailable,
}

/// What is known of the Secret before it is written.
pub enum Known {
    /// Nothing says that there is one: it is created without looking.
    Absent,
    There,
    /// It has just been read.
    Read(Box<Secret>),
    /// It is at this version what we wrote, with the same settings.
    AsWritten(u64),
}

/// Registers the device with the integration's active key and follows the operation to its end;
/// `accepted` is called as soon as DPS has taken the request.
///
/// # Errors
/// Whatever DPS has to say instead of an assignment.
pub async fn register(
    device: &ProvisionedDevice,
    ready: &Ready,
    accepted: impl FnOnce(),
) -> Result<Registered, DpsError> {
    let settings = settings(device, ready)?;
    let key = ready.active.key.derive(&settings.registration_id);
    let identity = identity(ready, &settings.registration_id, &key);
    let assignment = ready.client.register(identity, settings.payload, accepted).await?;
    Ok(registered(&settings, ready, assignment, Some(clock::now().wall)))
}

/// Takes an existing registration over as it is.
///
/// # Errors
/// `NotFound` when DPS has no assignment for the device; whatever else it has to say.
pub async fn adopt(device: &ProvisionedDevice, ready: &Ready) -> Result<Registered, DpsError> {
    let settings = settings(device, ready)?;
    let assignment = lookup(&settings.registration_id, ready).await?;
    Ok(registered(&settings, ready, assignment, None))
}

/// Asks where a registered device is now.
///
/// # Errors
/// As `adopt`.
pub async fn look_again(device: &ProvisionedDevice, ready: &Ready) -> Result<Assignment, DpsError> {
    lookup(&settings(device, ready)?.registration_id, ready).await
}

/// Asks where a device is now.
///
/// # Errors
/// As `adopt`.
pub async fn lookup(id: &RegistrationId, ready: &Ready) -> Result<Assignment, DpsError> {
    let key = ready.active.key.derive(id);
    ready.client.lookup(identity(ready, id, &key)).await
}

fn settings<'a>(device: &'a ProvisionedDevice, ready: &'a Ready) -> Result<Settings<'a>, DpsError> {
    Settings::of(device, ready.defaults.as_deref()).map_err(|_| DpsError::Rejected(Detail::default()))
}

fn identity<'a>(ready: &'a Ready, id: &'a RegistrationId, key: &'a DeviceKey) -> Identity<'a> {
    Identity { clock: &ready.clock, endpoint: &ready.endpoint, scope: &ready.scope, id, key }
}

fn registered(
    settings: &Settings<'_>,
    ready: &Ready,
    assignment: Assignment,
    time: Option<Timestamp>,
) -> Registered {
    Registered::new(
        assignment,
        (ready.scope.as_str(), settings.registration_id.as_str()),
        (ready.active.slot, ready.active.fingerprint),
        registered_hash(settings, ready),
        time,
    )
}

/// Makes the Secret what it should be. A Secret that is not known to exist is created without
/// looking; `former` is the name of the one written before.
///
/// # Errors
/// As `SecretTrouble` says.
pub async fn write_secret(
    writer: &Writer,
    device: &ProvisionedDevice,
    registered: &Registered,
    ready: &Ready,
    (known, former): (Known, Option<String>),
) -> Result<WrittenSecret, SecretTrouble> {
    let settings = Settings::of(device, ready.defaults.as_deref()).map_err(SecretTrouble::Refused)?;
    let key = registered
        .fingerprint
        .and_then(|fingerprint| ready.key(fingerprint))
        .ok_or(SecretTrouble::Unavailable)?;
    let device_key = key.key.derive(&settings.registration_id);
    let desired = secret::render(device, &settings, registered, (ready, &device_key));
    let version = make_so(writer, &desired, known).await?;
    if let Some(former) = former.filter(|former| *former != desired.name) {
        supersede(writer, &desired, &former).await?;
    }
    Ok(WrittenSecret {
        name: desired.name.clone(),
        version,
        rendered: Some(desired.rendered),
        binding: settings.formats.contains(&FormatType::ServiceBinding),
    })
}

/// Creates or mends the Secret and returns its version.
async fn make_so(writer: &Writer, desired: &Desired, known: Known) -> Result<u64, SecretTrouble> {
    let (mut exists, mut found) = match known {
        Known::Absent => (false, None),
        Known::There => (true, None),
        Known::Read(secret) => (true, Some(*secret)),
        Known::AsWritten(version) => {
            let patch = desired.blind_patch(version);
            match writer.patch_secret(&desired.namespace, &desired.name, &patch).await {
                Ok(version) => return Ok(version),
                Err(ApiError::Conflict | ApiError::NotFound) => (true, None),
                Err(error) => return Err(trouble(error)),
            }
        }
    };
    for _ in 0..TRIES {
        if !exists {
            match writer.create_secret(&desired.namespace, &desired.object()).await {
                Ok(version) => return Ok(version),
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
        let patch = match desired.judge(&existing) {
            Judgement::Equal => {
                return Ok(version::of(&existing.metadata));
            }
            Judgement::Foreign(why) => return Err(SecretTrouble::Foreign(why)),
            Judgement::Patch(patch) => patch,
        };
        match writer.patch_secret(&desired.namespace, &desired.name, &patch).await {
            Ok(version) => return Ok(version),
            Err(ApiError::Conflict) => {}
            // The collector was first: the Secret of an earlier object of this name is gone.
            Err(ApiError::NotFound) => exists = false,
            Err(error) => return Err(trouble(error)),
        }
    }
    Err(SecretTrouble::Unavailable)
}

/// Says on the Secret of a former name that it is no longer maintained. It goes with the device.
async fn supersede(writer: &Writer, desired: &Desired, former: &str) -> Result<(), SecretTrouble> {
    for _ in 0..TRIES {
        let Some(old) = writer.read_secret(&desired.namespace, former).await.map_err(trouble)? else {
            return Ok(());
        };
        let Some(patch) = desired.superseded(&old) else { return Ok(()) };
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
