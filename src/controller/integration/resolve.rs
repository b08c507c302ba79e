//! From what a user wrote and the Secrets that are there to terms for devices, or to why not. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ca_bundle;
use super::consent::Consent;
use super::credentials::Credentials;
use super::secret_versions::SecretVersions;
use super::target::{Instance, Terms};
use super::unusable::Unusable;
use crate::api::attestation::SymmetricKey;
use crate::api::conditions::Reason;
use crate::api::integration::{DpsIntegration, DpsIntegrationSpec, RateLimit, Rollout};
use crate::api::names::{REPROVISION_REQUESTED_AT, TOKEN_MAX};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::dps::host::{AllowedHosts, Endpoint, HostError};
use crate::dps::ids::IdScope;
use crate::dps::tls::TlsSettings;
use crate::fleet::inherit::Inherited;
use crate::schedule::permits::Limits;

/// An integration that can be used: on which terms for its devices, and within which limits.
#[derive(Debug)]
pub struct Usable {
    pub terms: Terms,
    pub limits: Limits,
    pub secret_versions: SecretVersions,
}

/// What the operator's own settings allow to an integration.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    pub hosts: &'a AllowedHosts,
    /// cert-manager may be asked for certificates.
    pub cert_manager: bool,
}

/// The objects that an integration refers to, and the keys that it names in each.
pub fn references(namespace: &str, spec: &DpsIntegrationSpec) -> BTreeMap<Reference, BTreeSet<String>> {
    let reference =
        |kind, name: &str| Reference { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let keys = spec.attestation.symmetric_key.iter().flat_map(SymmetricKey::references);
    let secrets = keys.map(|(name, key)| (reference(ReferredKind::Secret, name), key));
    let bundle = spec.ca_bundle_ref.iter().map(|ca| (reference(ReferredKind::ConfigMap, &ca.name), &*ca.key));
    let mut references: BTreeMap<Reference, BTreeSet<String>> = BTreeMap::new();
    for (reference, key) in secrets.chain(bundle) {
        references.entry(reference).or_default().insert(key.to_owned());
    }
    references
}

const CERT_MANAGER_OFF: &str = "spec.attestation.x509.certManager: this operator does not ask cert-manager for certificates. Install the chart with certManager.enabled=true (the flag --cert-manager, and rights to Certificates).";

/// Checks everything in the order in which a user would mend it. `Ok(None)`: not all of it has
/// been read yet.
///
/// # Errors
/// The first thing that is wrong.
pub fn resolve<'a>(
    integration: &DpsIntegration,
    allowed: Allowed<'_>,
    find: impl Fn(&Reference) -> &'a Referred,
) -> Result<Option<Usable>, Unusable> {
    let namespace = integration.metadata.namespace.as_deref().unwrap_or_default();
    // Every field: one that is left out here has no effect.
    let DpsIntegrationSpec {
        id_scope,
        hostname,
        attestation,
        certificate,
        ca_bundle_ref,
        registration_id_prefixes,
        allowed_namespaces,
        rate_limit,
        rollout,
        device_defaults,
        suspend,
    } = &integration.spec;
    let invalid = |message: String| Unusable::new(Reason::InvalidConfiguration, message);
    Consent::of(&integration.spec).map_err(|error| invalid(error.to_string()))?;
    if let Some(payload) = device_defaults.as_ref().and_then(|defaults| defaults.payload.as_ref()) {
        payload.checked().map_err(|error| invalid(format!("spec.deviceDefaults.payload {error}.")))?;
    }
    let scope = IdScope::parse(id_scope).map_err(|error| invalid(format!("spec.idScope: {error}.")))?;
    let endpoint = endpoint(hostname, allowed.hosts)?;
    let cert_manager = attestation.x509.as_ref().and_then(|x509| x509.cert_manager.as_ref());
    if cert_manager.is_some() && !allowed.cert_manager {
        return Err(invalid(CERT_MANAGER_OFF.to_owned()));
    }
    let references = references(namespace, &integration.spec);
    if references.keys().any(|reference| matches!(find(reference), Referred::Unread)) {
        return Ok(None);
    }
    let secret = |name: &str| {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        find(&Reference { kind: ReferredKind::Secret, namespace, name })
    };
    let credentials = Credentials::resolve(attestation, secret)?;
    let config_map = |name: &str| {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        find(&Reference { kind: ReferredKind::ConfigMap, namespace, name })
    };
    let ca_bundle =
        ca_bundle_ref.as_ref().map(|ca| ca_bundle::bytes(ca, config_map(&ca.name))).transpose()?;
    let token = token(integration)?;
    let inherited = Inherited::new(device_defaults.as_ref(), &endpoint.to_string(), token.as_deref());
    let consent = allowed_namespaces.as_ref();
    let terms = Terms {
        instance: Instance { scope, endpoint, tls: TlsSettings { ca_bundle } },
        credentials,
        prefixes: registration_id_prefixes.clone(),
        namespace: namespace.to_owned(),
        foreign_prefixes: consent.map(|consent| consent.registration_id_prefixes.clone()).unwrap_or_default(),
        defaults: device_defaults.clone().map(Arc::new),
        inherited: Arc::new(inherited),
        token,
        cert_manager: cert_manager.cloned().map(Arc::new),
        issued: certificate.as_ref().map(|certificate| certificate.key_algorithm),
        suspended: *suspend,
    };
    let secret_versions = SecretVersions::of(attestation, secret);
    Ok(Some(Usable { terms, limits: limits(rate_limit.as_ref(), rollout.as_ref()), secret_versions }))
}

fn endpoint(hostname: &str, allowed: &AllowedHosts) -> Result<Endpoint, Unusable> {
    allowed.check(hostname).map_err(|error| {
        let reason = match error {
            HostError::Malformed(_) => Reason::InvalidConfiguration,
            HostError::NotAllowed(_) => Reason::HostNotAllowed,
        };
        Unusable::new(reason, format!("spec.hostname: {error}."))
    })
}

fn limits(rate_limit: Option<&RateLimit>, rollout: Option<&Rollout>) -> Limits {
    let number = |per_minute: i32| u32::try_from(per_minute).ok();
    Limits {
        share: rate_limit.and_then(|limit| number(limit.registrations_per_minute)),
        rollout: rollout.and_then(|rollout| rollout.max_per_minute).and_then(number),
        paused: rollout.is_some_and(|rollout| rollout.paused),
    }
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
