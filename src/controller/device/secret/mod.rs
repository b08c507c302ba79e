//! The generated Secret: what it should hold (here and `entries`), whether one that is there is ours
//! (`judge`), and what can be read back from it (`read_back`) and believed (`seal`). Pure.

mod entries;
mod file_names;
mod judge;
mod read_back;
mod seal;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use zeroize::Zeroizing;

pub use self::judge::{Judgement, Known};
pub use self::read_back::read_back;
pub use self::seal::is_sealed;

use self::entries::entries;
use self::read_back::AssignmentAnnotation;
use super::facts::{Facts, Registered, ServedRequests};
use super::settings::Settings;
use crate::api::device::ProvisionedDevice;
use crate::api::names;
use crate::controller::integration::target::Target;
use crate::dps::attestation::{CredentialKind, DeviceCredential};
use crate::fleet::hash::{self, Hash};
use crate::fleet::inherit::{Inherited, Mask, own_hash};

/// What a Secret should hold. Bytes are wiped when dropped.
pub struct Desired {
    pub name: String,
    pub namespace: String,
    pub rendered: Hash,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// `None` with deletionPolicy Retain.
    owner: Option<OwnerReference>,
    device_uid: String,
    device_name: String,
    /// What the Secret was written for before, if the status says so.
    former_registration: Option<String>,
}

/// Hash of settings and assignment, never of rendered bytes.
pub fn rendered_hash(device: &ProvisionedDevice, registered: &Registered, inherited: &Inherited) -> Hash {
    let base = hash::base(own_hash(device), registered.assigned_hash());
    hash::rendered(base, inherited.secret(Mask::of(device)))
}

/// Hash of the settings alone.
pub fn settings_hash(device: &ProvisionedDevice, inherited: &Inherited) -> Hash {
    hash::rendered(own_hash(device), inherited.secret(Mask::of(device)))
}

/// The settings with which the Secret was written, if a Secret for this registration differs from it
/// in nothing but values: settings and keys are the same.
pub fn settings_of_same_rendering(
    device: &ProvisionedDevice,
    facts: &Facts,
    registered: &Registered,
    inherited: &Inherited,
) -> Option<Hash> {
    let (before, written) = (facts.registered.as_ref()?, facts.secret.as_ref()?);
    // A certificate brings a CA with it, or does not.
    let is_key = |registered: &Registered| {
        registered.credential.is_some_and(|used| used.kind() != CredentialKind::Certificate)
    };
    let same = is_key(before)
        && [before, registered].iter().all(|registered| registered.issued.is_none())
        && is_key(registered)
        && before.returned_payload.is_some() == registered.returned_payload.is_some()
        && before.scope == registered.scope
        && written.rendered == Some(rendered_hash(device, before, inherited));
    same.then(|| settings_hash(device, inherited))
}

/// What a Secret is made of beside the assignment.
pub struct Material<'a> {
    pub target: &'a Target,
    pub credential: &'a DeviceCredential,
    /// What users have asked for and is served by this registration.
    pub served: &'a ServedRequests,
}

/// Renders the Secret.
pub fn render(
    device: &ProvisionedDevice,
    settings: &Settings<'_>,
    registered: &Registered,
    material: &Material<'_>,
) -> Desired {
    let meta = &device.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let rendered = rendered_hash(device, registered, &material.target.inherited);
    let data = entries(settings, registered, material);
    let uid = meta.uid.clone().unwrap_or_default();
    Desired {
        labels: labels(device, settings),
        annotations: annotations(device, settings, registered, material, &data),
        data,
        owner: (!settings.retain).then(|| OwnerReference {
            api_version: names::API_VERSION.to_owned(),
            kind: names::DEVICE_KIND.to_owned(),
            name: name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }),
        name: settings.secret_name.clone(),
        namespace,
        rendered,
        device_uid: uid,
        device_name: name,
        former_registration: former_registration(device, registered),
    }
}

fn labels(device: &ProvisionedDevice, settings: &Settings<'_>) -> BTreeMap<String, String> {
    let mut labels = owned(&settings.labels);
    labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned());
    let named = [
        (names::DEVICE, device.metadata.name.as_deref().unwrap_or_default()),
        (names::INTEGRATION, device.spec.integration_ref.name.as_str()),
    ];
    // A label holds 63 characters; the annotations hold the whole names.
    labels
        .extend(named.iter().filter(|(_, v)| v.len() <= 63).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    labels
}

fn annotations(
    device: &ProvisionedDevice,
    settings: &Settings<'_>,
    registered: &Registered,
    material: &Material<'_>,
    data: &BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> BTreeMap<String, String> {
    let assignment = AssignmentAnnotation::new(registered, settings, material.served);
    let rendered = rendered_hash(device, registered, &material.target.inherited);
    let mut annotations = owned(&settings.annotations);
    let ours = [
        (names::DEVICE, Some(device_key(device))),
        (names::INTEGRATION, Some(device.integration_key())),
        (names::REGISTRATION, Some(registration_key(registered))),
        (names::REGISTERED_HASH, registered.hash.map(Hash::shown)),
        (names::RENDERED_HASH, Some(rendered.shown())),
        (names::CREDENTIAL_FINGERPRINT, registered.credential.map(|used| used.to_string())),
        (names::CERTIFICATE_SECRET, certificate_secret(settings, registered)),
        (names::MANAGED_KEYS, Some(data.keys().map(String::as_str).collect::<Vec<_>>().join(","))),
        (names::ASSIGNMENT, serde_json::to_string(&assignment).ok()),
    ];
    annotations.extend(ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let statement = seal::statement(&annotations, |key| data.get(key).map(|value| value.as_slice()));
    let seal = material.target.credentials.seal(registered.credential, &statement);
    annotations.extend(seal.map(|seal| (names::SEAL.to_owned(), seal.to_string())));
    annotations
}

/// Where the certificate is of a device whose Secret does not hold it.
fn certificate_secret(settings: &Settings<'_>, registered: &Registered) -> Option<String> {
    let is_certificate = registered.credential.is_some_and(|used| used.kind() == CredentialKind::Certificate);
    let is_copied = settings.keys.certificate.is_some() && settings.keys.private_key.is_some();
    registered.key_secret.clone().filter(|_| is_certificate && !is_copied && registered.issued.is_none())
}

fn owned(map: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn device_key(device: &ProvisionedDevice) -> String {
    let meta = &device.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Only the id scope can have been another one: a device keeps its registration id, also if its status
/// says another one.
fn former_registration(device: &ProvisionedDevice, registered: &Registered) -> Option<String> {
    let scope = device.status.as_ref()?.id_scope.as_ref()?;
    Some(format!("{scope}/{}", registered.registration_id))
}

fn registration_key(registered: &Registered) -> String {
    format!("{}/{}", registered.scope, registered.registration_id)
}

impl Desired {
    /// The object to create.
    pub fn object(&self) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some(self.annotations.clone()),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(self.data.iter().map(|(k, v)| (k.clone(), ByteString(v.to_vec()))).collect()),
            ..Secret::default()
        }
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}

/// The keys of the data that are ours.
fn managed_keys(secret: &Secret) -> impl Iterator<Item = &str> {
    annotation(secret, names::MANAGED_KEYS).unwrap_or_default().split(',').filter(|key| !key.is_empty())
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref().and_then(|map| map.get(key)).map(String::as_str)
}
