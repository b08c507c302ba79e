//! The side effects, one system at a time. What they return is taken in as facts and the device is
//! decided upon anew.

use k8s_openapi::api::core::v1::Secret;

use super::decide::registered_hash;
use super::facts::{Registered, WrittenSecret};
use super::secret::{self, Judgement};
use super::settings::Settings;
use crate::api::device::ProvisionedDevice;
use crate::clock;
use crate::controller::integration::Ready;
use crate::dps::client::Identity;
use crate::dps::error::{Detail, DpsError};
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
    let settings = Settings::of(device).map_err(|_| DpsError::Rejected(Detail::default()))?;
    let key = ready.active.key.derive(&settings.registration_id);
    let identity = Identity {
        clock: &ready.clock,
        endpoint: &ready.endpoint,
        scope: &ready.scope,
        id: &settings.registration_id,
        key: &key,
    };
    let assignment = ready.client.register(identity, settings.payload, accepted).await?;
    Ok(Registered::new(
        assignment,
        (ready.scope.as_str(), settings.registration_id.as_str()),
        (ready.active.slot, ready.active.fingerprint),
        registered_hash(&settings, ready),
        clock::now().wall,
    ))
}

/// Makes the Secret what it should be. A Secret that is not known to exist is created without
/// looking; `found` is one that has just been read.
///
/// # Errors
/// As `SecretTrouble` says.
pub async fn write_secret(
    writer: &Writer,
    device: &ProvisionedDevice,
    registered: &Registered,
    ready: &Ready,
    (exists, mut found): (bool, Option<Secret>),
) -> Result<WrittenSecret, SecretTrouble> {
    let settings = Settings::of(device).map_err(SecretTrouble::Refused)?;
    let key = registered
        .fingerprint
        .and_then(|fingerprint| ready.key(fingerprint))
        .ok_or(SecretTrouble::Unavailable)?;
    let device_key = key.key.derive(&settings.registration_id);
    let desired = secret::render(device, &settings, registered, &device_key);
    let written =
        |version| WrittenSecret { name: desired.name.clone(), version, rendered: Some(desired.rendered) };
    let mut exists = exists || found.is_some();
    for _ in 0..TRIES {
        if !exists {
            match writer.create_secret(&desired.namespace, &desired.object()).await {
                Ok(version) => return Ok(written(version)),
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
                return Ok(written(crate::fleet::record::version(
                    existing.metadata.resource_version.as_deref(),
                )));
            }
            Judgement::Foreign(why) => return Err(SecretTrouble::Foreign(why)),
            Judgement::Patch(patch) => patch,
        };
        match writer.patch_secret(&desired.namespace, &desired.name, &patch).await {
            Ok(version) => return Ok(written(version)),
            Err(ApiError::Conflict) => {}
            // The collector was first: the Secret of an earlier object of this name is gone.
            Err(ApiError::NotFound) => exists = false,
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
