//! Whether an integration can be used, and if not, why. Pure.

use std::collections::BTreeSet;

use super::SlotKey;
use super::consent::Consent;
use crate::api::attestation::KeySlot;
use crate::api::conditions::Reason;
use crate::api::integration::{CaBundleRef, DeviceDefaults, DpsIntegration, DpsIntegrationSpec};
use crate::api::names::{REPROVISION_REQUESTED_AT, TOKEN_MAX};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::dps::host::{AllowedHosts, Endpoint, HostError};
use crate::dps::ids::IdScope;
use crate::dps::key::GroupKey;
use crate::schedule::permits::Limits;

const CA_BUNDLE_MAX: usize = 256 * 1024;

/// Everything about an integration that does not need a client yet.
#[derive(Debug)]
pub struct Usable {
    pub scope: IdScope,
    pub endpoint: Endpoint,
    pub active: SlotKey,
    pub other: Option<SlotKey>,
    pub ca_bundle: Option<Vec<u8>>,
    pub prefixes: Vec<String>,
    pub namespace: String,
    pub foreign_prefixes: Vec<String>,
    pub defaults: Option<DeviceDefaults>,
    pub token: Option<String>,
    pub limits: Limits,
    pub suspended: bool,
}

/// Why an integration cannot be used; reason and message of its Ready condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub reason: Reason,
    pub message: String,
}

impl Unusable {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The objects that an integration refers to.
pub fn references(namespace: &str, spec: &DpsIntegrationSpec) -> BTreeSet<Reference> {
    let reference =
        |kind, name: &str| Reference { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let keys = spec.attestation.symmetric_key.iter().flat_map(|symmetric| {
        let secondary = symmetric.secondary_key_ref.as_ref().map(|key| key.name.as_str());
        [Some(symmetric.primary_key_ref.name.as_str()), secondary].into_iter().flatten()
    });
    keys.map(|name| reference(ReferredKind::Secret, name))
        .chain(spec.ca_bundle_ref.iter().map(|ca| reference(ReferredKind::ConfigMap, &ca.name)))
        .collect()
}

/// Checks everything in the order in which a user would mend it. `Ok(None)`: not all of it has
/// been read yet.
///
/// # Errors
/// The first thing that is wrong.
pub fn resolve<'a>(
    integration: &DpsIntegration,
    allowed: &AllowedHosts,
    find: impl Fn(&Reference) -> &'a Referred,
) -> Result<Option<Usable>, Unusable> {
    let spec = &integration.spec;
    let namespace = integration.metadata.namespace.as_deref().unwrap_or_default();
    Consent::of(spec).map_err(|message| Unusable::new(Reason::InvalidConfiguration, message))?;
    let defaults = spec.device_defaults.clone();
    if let Some(payload) = defaults.as_ref().and_then(|defaults| defaults.payload.as_ref()) {
        payload.checked().map_err(|error| {
            let message = format!("spec.deviceDefaults.payload {error}.");
            Unusable::new(Reason::InvalidConfiguration, message)
        })?;
    }
    let scope = IdScope::parse(&spec.id_scope)
        .map_err(|error| Unusable::new(Reason::InvalidConfiguration, format!("spec.idScope: {error}.")))?;
    let endpoint = allowed.check(&spec.hostname).map_err(|error| {
        let reason = match error {
            HostError::Malformed => Reason::InvalidConfiguration,
            HostError::NotAllowed => Reason::HostNotAllowed,
        };
        Unusable::new(reason, format!("spec.hostname: {error}."))
    })?;
    let Some(symmetric) = &spec.attestation.symmetric_key else {
        return Err(Unusable::new(
            Reason::InvalidConfiguration,
            "spec.attestation: this version knows symmetricKey only.",
        ));
    };
    let references = references(namespace, spec);
    if references.iter().any(|reference| matches!(find(reference), Referred::Unread)) {
        return Ok(None);
    }
    let key = |slot, name: &str, key: &str| {
        let reference =
            Reference { kind: ReferredKind::Secret, namespace: namespace.to_owned(), name: name.to_owned() };
        group_key(slot, name, key, find(&reference))
    };
    let primary = key(KeySlot::Primary, &symmetric.primary_key_ref.name, &symmetric.primary_key_ref.key)?;
    let secondary =
        symmetric.secondary_key_ref.as_ref().map(|r| key(KeySlot::Secondary, &r.name, &r.key)).transpose()?;
    let (active, other) = match (symmetric.active, secondary) {
        (KeySlot::Primary, secondary) => (primary, secondary),
        (KeySlot::Secondary, Some(secondary)) => (secondary, Some(primary)),
        (KeySlot::Secondary, None) => {
            let message =
                "spec.attestation.symmetricKey.active is Secondary, but there is no secondaryKeyRef.";
            return Err(Unusable::new(Reason::InvalidConfiguration, message));
        }
    };
    let ca_bundle = spec.ca_bundle_ref.as_ref().map(|ca| ca_bundle(namespace, ca, &find)).transpose()?;
    Ok(Some(Usable {
        scope,
        endpoint,
        active,
        other,
        ca_bundle,
        prefixes: spec.registration_id_prefixes.clone(),
        namespace: namespace.to_owned(),
        foreign_prefixes: foreign_prefixes(spec),
        defaults,
        token: token(integration)?,
        limits: limits(spec),
        suspended: spec.suspend,
    }))
}

fn foreign_prefixes(spec: &DpsIntegrationSpec) -> Vec<String> {
    let allowed = spec.allowed_namespaces.as_ref();
    allowed.map(|allowed| allowed.registration_id_prefixes.clone()).unwrap_or_default()
}

fn limits(spec: &DpsIntegrationSpec) -> Limits {
    let number = |per_minute: i32| u32::try_from(per_minute).ok();
    let rollout = spec.rollout.as_ref();
    Limits {
        share: spec.rate_limit.as_ref().and_then(|limit| number(limit.registrations_per_minute)),
        rollout: rollout.and_then(|rollout| rollout.max_per_minute).and_then(number),
        paused: rollout.is_some_and(|rollout| rollout.paused),
    }
}

fn group_key(slot: KeySlot, name: &str, key: &str, referred: &Referred) -> Result<SlotKey, Unusable> {
    let (data, generated) = match referred {
        Referred::Present { data, generated } => (data, *generated),
        Referred::Forbidden => {
            let message = format!("Secret {name:?} may not be read by the operator; check its RBAC.");
            return Err(Unusable::new(Reason::KeySecretNotFound, message));
        }
        Referred::Missing | Referred::Unread => {
            let message = format!(
                "Secret {name:?} does not exist. Create it with the enrollment group's key under {key:?}."
            );
            return Err(Unusable::new(Reason::KeySecretNotFound, message));
        }
    };
    if generated {
        let message = format!(
            "Secret {name:?} was written by this operator for a device; name the Secret with the group's key."
        );
        return Err(Unusable::new(Reason::KeyInvalid, message));
    }
    let Some(bytes) = data.get(key) else {
        let message =
            format!("Secret {name:?} has no key {key:?}. Add it, or name the right one in the reference.");
        return Err(Unusable::new(Reason::KeySecretNotFound, message));
    };
    let key = GroupKey::parse(bytes).map_err(|error| {
        let message = format!("Key {key:?} of Secret {name:?} is not an enrollment group key: {error}.");
        Unusable::new(Reason::KeyInvalid, message)
    })?;
    Ok(SlotKey { slot, fingerprint: key.fingerprint(), key })
}

fn ca_bundle<'a>(
    namespace: &str,
    ca: &CaBundleRef,
    find: &impl Fn(&Reference) -> &'a Referred,
) -> Result<Vec<u8>, Unusable> {
    let CaBundleRef { name, key } = ca;
    let reference =
        Reference { kind: ReferredKind::ConfigMap, namespace: namespace.to_owned(), name: name.clone() };
    let not_found = |message: String| Unusable::new(Reason::CaBundleNotFound, message);
    let bytes = match find(&reference) {
        Referred::Present { data, .. } => {
            data.get(key).ok_or_else(|| not_found(format!("ConfigMap {name:?} has no key {key:?}.")))?
        }
        Referred::Forbidden => {
            return Err(not_found(format!("ConfigMap {name:?} may not be read by the operator.")));
        }
        Referred::Missing | Referred::Unread => {
            return Err(not_found(format!("ConfigMap {name:?} does not exist.")));
        }
    };
    if bytes.len() > CA_BUNDLE_MAX {
        return Err(Unusable::new(
            Reason::CaBundleInvalid,
            format!("Key {key:?} of ConfigMap {name:?} is larger than 256 KiB."),
        ));
    }
    Ok(bytes.to_vec())
}

/// The integration's own token.
fn token(integration: &DpsIntegration) -> Result<Option<String>, Unusable> {
    let annotations = integration.metadata.annotations.as_ref();
    let token =
        annotations.and_then(|map| map.get(REPROVISION_REQUESTED_AT)).filter(|token| !token.is_empty());
    if token.is_some_and(|token| token.len() > TOKEN_MAX) {
        let message = format!("Annotation {REPROVISION_REQUESTED_AT} is longer than 256 characters.");
        return Err(Unusable::new(Reason::InvalidConfiguration, message));
    }
    Ok(token.cloned())
}
