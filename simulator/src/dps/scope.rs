//! One DPS instance: its hubs, enrollments, registrations and counters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::allocation::Allocation;
use super::hub_identity::HubIdentity;
use super::refusal::Refusal;
use super::registration::Registration;
use super::throttle::Rate;
use super::token::Token;
use crate::certificate::Certificate;
use crate::config::{
    self, Certificates, DeletedGroup, Issuance, KeyDerivedFrom, Readings, ReprovisionPolicy,
};
use crate::keys::{KeyPair, KeySlot, SymmetricKey};
use crate::ledger::{EnrollmentKind, KeyUsed};

const MINUTE: Duration = Duration::from_secs(60);
const POLL_SPAN: Duration = Duration::from_secs(10);
/// Idle poll counters are dropped when there are more counters than this, and more than twice those
/// that the last time left.
const DROP_ABOVE: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Scope {
    /// The linked hubs.
    pub hubs: Vec<Arc<str>>,
    pub groups: Vec<Group>,
    /// Individual enrollments by registration id in lower case.
    pub individuals: HashMap<String, Individual>,
    /// Uploaded CA certificates by name.
    pub authorities: HashMap<String, Authority>,
    /// Registrations by registration id in lower case.
    pub registrations: HashMap<String, Registration>,
    /// The rate of register calls and status lookups.
    pub(super) registering: Rate,
    /// The rates of polls by registration id in lower case.
    polling: HashMap<String, Rate>,
    drop_above: usize,
}

/// What enrollment groups and individual enrollments have in common.
#[derive(Clone, Debug)]
pub(crate) struct Enrollment {
    pub enabled: bool,
    pub allocation: Allocation,
    pub reprovision: ReprovisionPolicy,
    pub issuance: Option<Issuance>,
}

/// What the devices of an enrollment prove themselves with.
#[derive(Clone, Debug)]
pub(crate) enum Attestation {
    Keys(KeyPair),
    Certificates(Certificates),
}

impl Attestation {
    fn of(keys: [Option<&SymmetricKey>; 2], x509: Option<&Certificates>) -> Option<Self> {
        match (keys, x509) {
            (_, Some(certificates)) => Some(Self::Certificates(certificates.clone())),
            ([Some(primary), Some(secondary)], None) => {
                Some(Self::Keys(KeyPair { primary: primary.clone(), secondary: secondary.clone() }))
            }
            _ => None,
        }
    }

    fn keys(&self) -> Option<&KeyPair> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::Certificates(_) => None,
        }
    }

    pub(super) fn certificates(&self) -> Option<&Certificates> {
        match self {
            Self::Keys(_) => None,
            Self::Certificates(certificates) => Some(certificates),
        }
    }
}

/// A CA certificate.
#[derive(Debug)]
pub(crate) struct Authority {
    pub certificate: Certificate,
    pub verified: bool,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub id: Arc<str>,
    /// Every configuration that is accepted has it.
    pub attestation: Option<Attestation>,
    pub enrollment: Enrollment,
    /// A deleted group is kept so that its keys can be told from keys that never existed.
    pub deleted: bool,
}

#[derive(Debug)]
pub(crate) struct Individual {
    /// None for an entry that only disables a device of an enrollment group.
    pub attestation: Option<Attestation>,
    pub device_id: Option<String>,
    pub enrollment: Enrollment,
}

/// A verified token or certificate: its enrollment and which of its two keys or certificates fits.
pub(super) struct Verified {
    pub enrollment: Enrollment,
    pub group: Option<Arc<str>>,
    pub key: KeyUsed,
    /// What the hub will accept from the device.
    pub identity: HubIdentity,
    /// The device id, where the enrollment sets one.
    pub device_id: Option<String>,
}

impl Scope {
    pub fn of(config: &config::IdScope, readings: &Readings) -> Self {
        let groups = config.enrollment_groups.iter().map(Group::of).collect();
        let individuals = config
            .individual_enrollments
            .iter()
            .map(|entry| (entry.registration_id.to_ascii_lowercase(), Individual::of(entry)))
            .collect();
        Self {
            hubs: config.hubs.iter().map(|hub| hub.as_str().into()).collect(),
            groups,
            individuals,
            authorities: config.certificate_authorities.iter().map(Authority::of).collect(),
            registrations: HashMap::new(),
            registering: Rate::new(readings.throttle_window, MINUTE),
            polling: HashMap::new(),
            drop_above: DROP_ABOVE,
        }
    }

    /// The poll counter of a device. Counters that are idle are dropped from time to time.
    pub(super) fn polling(&mut self, device: &str, now: Duration, readings: &Readings) -> &mut Rate {
        if self.polling.len() > self.drop_above {
            self.polling.retain(|_, rate| !rate.is_idle(now));
            self.drop_above = DROP_ABOVE.max(self.polling.len() * 2);
        }
        self.polling
            .entry(device.to_ascii_lowercase())
            .or_insert_with(|| Rate::new(readings.throttle_window, POLL_SPAN))
    }

    /// Resets the counters, as if there had been no calls.
    pub fn reset_counters(&mut self, readings: &Readings) {
        self.registering = Rate::new(readings.throttle_window, MINUTE);
        self.polling.clear();
    }

    /// Counts requests of others until the quota is used up; returns how many it admitted.
    pub fn spend(&mut self, requests: u32, limit: Option<u32>, now: Duration) -> u32 {
        let admitted = (0..requests).take_while(|_| self.registering.admit(limit, now).is_ok());
        u32::try_from(admitted.count()).unwrap_or(requests)
    }

    pub fn group(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| *group.id == *id && !group.deleted)
    }

    pub fn registration(&mut self, id: &str) -> Option<&mut Registration> {
        self.registrations.get_mut(&id.to_ascii_lowercase())
    }

    pub fn linked_hub(&self, name: &str) -> Option<Arc<str>> {
        self.hubs.iter().find(|hub| ***hub == *name).cloned()
    }

    /// Enables or disables a device's individual enrollment. A device without one is disabled by an
    /// entry without keys, and enabled by removing that entry.
    pub fn set_device_enabled(&mut self, id: &str, enabled: bool) {
        let id = id.to_ascii_lowercase();
        match self.individuals.get_mut(&id) {
            Some(entry) if entry.attestation.is_some() => entry.enrollment.enabled = enabled,
            _ if enabled => {
                self.individuals.remove(&id);
            }
            _ => {
                self.individuals.insert(id, Individual::disabled());
            }
        }
    }

    /// Finds the enrollment whose key signed the token.
    pub(super) fn verify(
        &self,
        registration_id: &str,
        token: &Token<'_>,
        readings: &Readings,
    ) -> Result<Verified, Refusal> {
        let individual = self.individuals.get(&registration_id.to_ascii_lowercase());
        if let Some((entry, attestation)) = individual.and_then(|e| Some((e, e.attestation.as_ref()?))) {
            let signed = attestation.keys().and_then(|keys| Some((keys, signer(keys, token)?)));
            return match signed {
                Some((keys, slot)) => {
                    Ok(entry.verified(registration_id, slot, HubIdentity::Keys(keys.clone())))
                }
                None => Err(Refusal::WRONG_KEY),
            };
        }
        let hashed_id = match readings.key_derived_from {
            KeyDerivedFrom::AsSent => registration_id.to_owned(),
            KeyDerivedFrom::LowerCase => registration_id.to_ascii_lowercase(),
        };
        let mut verified = self.verify_by_group(&hashed_id, token, readings)?;
        if individual.is_some() {
            verified.enrollment.enabled = false;
        }
        Ok(verified)
    }

    fn verify_by_group(
        &self,
        hashed_id: &str,
        token: &Token<'_>,
        readings: &Readings,
    ) -> Result<Verified, Refusal> {
        for (group, device_keys) in self.derived(hashed_id).filter(|(group, _)| !group.deleted) {
            if let Some(slot) = signer(&device_keys, token) {
                return Ok(group.verified(slot, HubIdentity::Keys(device_keys)));
            }
        }
        Err(self.refuse(hashed_id, token, readings))
    }

    /// The refusal of a token that no enrollment key has signed.
    fn refuse(&self, hashed_id: &str, token: &Token<'_>, readings: &Readings) -> Refusal {
        for (group, device_keys) in self.derived(hashed_id) {
            if group.deleted && signer(&device_keys, token).is_some() {
                return match readings.deleted_group {
                    DeletedGroup::NotFound => Refusal::NotFound("Enrollment not found."),
                    DeletedGroup::Unauthorized => Refusal::WRONG_KEY,
                };
            }
            if signer(&device_keys.derive(hashed_id), token).is_some() {
                return Refusal::Unauthorized(readings.doubly_derived_key);
            }
        }
        Refusal::WRONG_KEY
    }

    /// The groups with keys, and those of the device in each.
    fn derived<'s>(&'s self, hashed_id: &'s str) -> impl Iterator<Item = (&'s Group, KeyPair)> {
        let keys = |group: &'s Group| Some((group, group.attestation.as_ref()?.keys()?.derive(hashed_id)));
        self.groups.iter().filter_map(keys)
    }
}

impl Authority {
    fn of(config: &config::CertificateAuthority) -> (String, Self) {
        let config::CertificateAuthority { name, certificate, verified } = config;
        (name.clone(), Self { certificate: certificate.clone(), verified: *verified })
    }
}

impl Group {
    fn of(config: &config::EnrollmentGroup) -> Self {
        Self {
            id: config.id.as_str().into(),
            attestation: Attestation::of(
                [config.primary_key.as_ref(), config.secondary_key.as_ref()],
                config.x509.as_ref(),
            ),
            enrollment: Enrollment {
                enabled: config.enabled,
                allocation: Allocation::of(
                    config.allocation_policy,
                    config.hub.as_deref(),
                    config.webhook.as_ref(),
                ),
                reprovision: config.reprovision_policy,
                issuance: config.issuance,
            },
            deleted: false,
        }
    }

    pub(super) fn verified(&self, slot: KeySlot, identity: HubIdentity) -> Verified {
        Verified {
            enrollment: self.enrollment.clone(),
            group: Some(Arc::clone(&self.id)),
            key: KeyUsed { kind: EnrollmentKind::Group, enrollment: self.id.to_string(), slot },
            identity,
            device_id: None,
        }
    }
}

impl Individual {
    fn of(config: &config::IndividualEnrollment) -> Self {
        Self {
            attestation: Attestation::of(
                [config.primary_key.as_ref(), config.secondary_key.as_ref()],
                config.x509.as_ref(),
            ),
            device_id: config.device_id.clone(),
            enrollment: Enrollment {
                enabled: config.enabled,
                allocation: Allocation::of(
                    config.allocation_policy,
                    config.hub.as_deref(),
                    config.webhook.as_ref(),
                ),
                reprovision: config.reprovision_policy,
                issuance: config.issuance,
            },
        }
    }

    /// An entry that only disables a device.
    pub fn disabled() -> Self {
        Self::plain(false)
    }

    /// An entry that has to be given keys or certificates.
    pub fn enabled() -> Self {
        Self::plain(true)
    }

    fn plain(enabled: bool) -> Self {
        Self {
            attestation: None,
            device_id: None,
            enrollment: Enrollment {
                enabled,
                allocation: Allocation::Hashed,
                reprovision: ReprovisionPolicy::default(),
                issuance: None,
            },
        }
    }

    pub(super) fn verified(&self, registration_id: &str, slot: KeySlot, identity: HubIdentity) -> Verified {
        Verified {
            enrollment: self.enrollment.clone(),
            group: None,
            key: KeyUsed { kind: EnrollmentKind::Individual, enrollment: registration_id.to_owned(), slot },
            identity,
            device_id: self.device_id.clone(),
        }
    }
}

fn signer(keys: &KeyPair, token: &Token<'_>) -> Option<KeySlot> {
    keys.slots().into_iter().find(|(_, key)| token.is_signed_by(key)).map(|(slot, _)| slot)
}
