//! What is recorded in a Secret about the registration that it was written for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};

use super::entries::entries;
use super::file_names::FileNames;
use super::judge::{Named, named_device};
use super::{Material, annotation, is_sealed, label, managed_keys};
use crate::api::attestation::KeySlot;
use crate::api::device::{AssignmentStatus, ProvisionedDevice};
use crate::api::issued::IssuedCertificateStatus;
use crate::api::names;
use crate::api::version;
use crate::controller::device::facts::{
    RecordedInSecret, Registered, ReturnedPayload, ServedRequests, WrittenSecret,
};
use crate::controller::device::issued::Issued;
use crate::controller::device::settings::{RETURNED_PAYLOAD, Settings};
use crate::controller::integration::target::Target;
use crate::dps::attestation::certificate::{CaId, DeviceCertificate, Kept};
use crate::dps::attestation::{CredentialId, CredentialKind, DeviceCredential};
use crate::dps::ids::RegistrationId;
use crate::fleet::hash::Hash;

/// Everything about the assignment that status needs and nothing secret.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssignmentAnnotation {
    hub: String,
    device_id: String,
    #[serde(flatten)]
    assignment: AssignmentStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrollment_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<KeySlot>,
    /// Name of the Secret that the device's own key or certificate was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_secret: Option<String>,
    /// Of the certificate: from when on it is valid,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<jiff::Timestamp>,
    /// when it expires; absent for a key;
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<jiff::Timestamp>,
    /// and the CA that has issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// The certificate that DPS has issued to the device,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<IssuedCertificateStatus>,
    /// and the data keys of it, its private key and its root, unless they are the standard ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_keys: Option<FileNames>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<jiff::Timestamp>,
    /// Data key of the returned payload, unless it is the standard one.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_key: Option<String>,
    /// Requests that were served by this registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integration_token: Option<String>,
}

impl AssignmentAnnotation {
    pub(super) fn new(registered: &Registered, settings: &Settings<'_>, served: &ServedRequests) -> Self {
        Self {
            hub: registered.hub.clone(),
            device_id: registered.device_id.clone(),
            assignment: registered.assignment.clone(),
            enrollment_group: registered.enrollment_group.clone(),
            slot: registered.slot,
            key_secret: registered.key_secret.clone(),
            not_before: registered.certificate.and_then(|kept| kept.not_before),
            not_after: registered.certificate.map(|kept| kept.not_after),
            issuer: registered.certificate.and_then(|kept| kept.ca).map(|ca| ca.to_string()),
            issued: registered.issued.as_ref().map(Issued::status),
            issued_keys: registered.issued.as_ref().and(FileNames::unusual(settings)),
            time: registered.time,
            payload_key: settings
                .keys
                .returned_payload
                .filter(|key| *key != RETURNED_PAYLOAD)
                .map(str::to_owned),
            token: served.token.clone(),
            integration_token: served.integration_token.clone(),
        }
    }

    /// Of the credential that the device was registered with.
    fn credential_kind(&self) -> CredentialKind {
        match (&self.key_secret, self.not_after) {
            (_, Some(_)) => CredentialKind::Certificate,
            (Some(_), None) => CredentialKind::IndividualKey,
            (None, None) => CredentialKind::GroupKey,
        }
    }
}

/// What a Secret that was written for this device and registration records; `None` if
/// it was written for another, or has been tampered with beyond reading.
pub fn read_back(secret: &Secret, device: &ProvisionedDevice, target: &Target) -> Option<RecordedInSecret> {
    let scope = target.scope();
    let registration_id = device.registration_id();
    if annotation(secret, names::REGISTRATION) != Some(format!("{scope}/{registration_id}").as_str()) {
        return None;
    }
    let sealed = is_sealed(secret, &target.credentials);
    if !was_written_for(secret, device, sealed) {
        return None;
    }
    let (registered, served) = recorded(secret, (scope, registration_id), sealed)?;
    let rendered = annotation(secret, names::RENDERED_HASH).and_then(Hash::parse);
    let of_another_key = WrittenSecret {
        name: secret.metadata.name.clone().unwrap_or_default(),
        version: version::of(&secret.metadata),
        rendered,
        record: registered.record(&served),
        binding: secret.data.as_ref().is_some_and(|data| data.contains_key("provider")),
    };
    let at_hand = registered.credential.is_some_and(|used| target.credentials.has(used));
    Some(RecordedInSecret {
        agrees: at_hand || agrees_with_itself(secret, device, target, &registered, &served),
        registered,
        served,
        sealed,
        version: version::of(&secret.metadata),
        rendered,
        of_another_key: (!at_hand).then_some(of_another_key),
    })
}

/// The registration with this id scope and id that a Secret records, and the requests that it has served.
fn recorded(
    secret: &Secret,
    (scope, registration_id): (&str, &str),
    sealed: bool,
) -> Option<(Registered, ServedRequests)> {
    let assignment: AssignmentAnnotation =
        serde_json::from_str(annotation(secret, names::ASSIGNMENT)?).ok()?;
    let fingerprint = annotation(secret, names::CREDENTIAL_FINGERPRINT);
    let credential = fingerprint.and_then(|text| CredentialId::parse(assignment.credential_kind(), text));
    let AssignmentAnnotation {
        hub,
        device_id,
        assignment,
        enrollment_group,
        slot,
        key_secret,
        not_before,
        not_after,
        issuer,
        issued,
        issued_keys,
        time,
        payload_key,
        token,
        integration_token,
    } = assignment;
    let ca = issuer.as_deref().and_then(CaId::parse);
    let registered = Registered {
        scope: scope.to_owned(),
        registration_id: registration_id.to_owned(),
        hub,
        device_id,
        assignment,
        enrollment_group,
        credential,
        slot,
        key_secret,
        certificate: not_after.map(|not_after| Kept { not_before, not_after, ca }),
        issued: issued.as_ref().and_then(Issued::stated).map(|issued| Issued {
            certificate: issued_in(secret, issued_keys.as_ref(), registration_id, &issued),
            ..issued
        }),
        hash: annotation(secret, names::REGISTERED_HASH).and_then(Hash::parse),
        // The device may name the key otherwise by now.
        returned_payload: returned_payload(
            secret,
            payload_key.as_deref().unwrap_or(RETURNED_PAYLOAD),
            sealed,
        ),
        time,
    };
    let served = ServedRequests { token, integration_token, reconcile_at: None };
    Some((registered.plausible()?, served))
}

/// The payload under this key.
fn returned_payload(secret: &Secret, key: &str, sealed: bool) -> Option<ReturnedPayload> {
    // The seal covers what is ours; others may have put something beside it.
    let is_believed = !sealed || managed_keys(secret).any(|managed| managed == key);
    let json = secret.data.as_ref()?.get(key).filter(|_| is_believed)?;
    serde_json::from_slice(&json.0).ok().as_ref().map(ReturnedPayload::new)
}

/// The certificate that was issued, with its key, as it stands in the Secret. It shows by itself that it is that one: the
/// thumbprint is that of the whole, and the key fits.
fn issued_in(
    secret: &Secret,
    names: Option<&FileNames>,
    registration_id: &str,
    issued: &Issued,
) -> Option<Arc<DeviceCertificate>> {
    let standard = FileNames::standard();
    let id = RegistrationId::parse(registration_id).ok()?;
    let files = names.unwrap_or(&standard).files(secret.data.as_ref()?)?;
    let certificate = DeviceCertificate::read(files, &id).ok()?;
    (certificate.id() == issued.id).then(|| Arc::new(certificate))
}

/// A seal stands in for a mark that others have taken away, and lets a namespace be restored under
/// another name.
fn was_written_for(secret: &Secret, device: &ProvisionedDevice, sealed: bool) -> bool {
    let meta = &device.metadata;
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    match named_device(secret, namespace.unwrap_or_default(), name.unwrap_or_default()) {
        Named::This => sealed || label(secret, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY),
        Named::Namesake | Named::NoOne => sealed,
        Named::Another => false,
    }
}

/// True if the data is what would be rendered for this registration with the device's key that stands in it.
/// Of that key nothing can be said without the group's.
fn agrees_with_itself(
    secret: &Secret,
    device: &ProvisionedDevice,
    target: &Target,
    registered: &Registered,
    served: &ServedRequests,
) -> bool {
    let Ok(settings) = Settings::of(device, target.defaults.as_deref()) else { return false };
    let Some(data) = &secret.data else { return false };
    let issued = registered.issued.as_ref().map(|issued| issued.certificate.as_ref());
    if let Some(issued) = issued {
        let Some(credential) = issued.map(DeviceCertificate::credential) else { return false };
        return holds(data, &settings, registered, &Material { target, credential: &credential, served });
    }
    let credential = registered.credential.and_then(|issuer| match issuer.kind() {
        CredentialKind::Certificate => certificate_in(data, &settings, issuer),
        CredentialKind::GroupKey | CredentialKind::IndividualKey => key_in(data, &settings, issuer),
    });
    let Some(credential) = credential else { return false };
    holds(data, &settings, registered, &Material { target, credential: &credential, served })
}

/// The data is what is rendered from this.
fn holds(data: &Data, settings: &Settings<'_>, registered: &Registered, material: &Material<'_>) -> bool {
    let rendered = entries(settings, registered, material);
    rendered.iter().all(|(key, value)| data.get(key).is_some_and(|there| there.0 == **value))
}

type Data = BTreeMap<String, ByteString>;

/// The device's key as it stands in the Secret.
fn key_in(data: &Data, settings: &Settings<'_>, issuer: CredentialId) -> Option<DeviceCredential> {
    let text = |key: Option<&str>| str::from_utf8(&data.get(key?)?.0).ok();
    let parts = text(settings.keys.connection_string).into_iter().flat_map(|text| text.split(';'));
    let in_connection_string = parts.filter_map(|part| part.strip_prefix("SharedAccessKey=")).next();
    DeviceCredential::of_key(issuer, text(settings.keys.shared_access_key).or(in_connection_string)?)
}

/// The device's certificate as it stands in the Secret, if it is the one that the device was registered with.
fn certificate_in(data: &Data, settings: &Settings<'_>, issuer: CredentialId) -> Option<DeviceCredential> {
    let certificate =
        DeviceCertificate::read(FileNames::of(settings).files(data)?, &settings.registration_id).ok()?;
    (certificate.id() == issuer).then(|| Arc::new(certificate).credential())
}
