//! Finds the enrollment of a device that presents a certificate, as "X.509 attestation" describes it: the
//! individual enrollment of its own certificate, else the group of the nearest CA above it; and the way upward
//! has to reach a CA that is verified.

use super::hub_identity::HubIdentity;
use super::refusal::Refusal;
use super::scope::{Individual, Scope, Verified};
use crate::certificate::{Certificate, Chain};
use crate::clock::Moment;
use crate::config::{Certificates, CommonNameCase, CommonNameDiffers, Readings, Unauthorized};
use crate::keys::KeySlot;

impl Scope {
    /// Finds the enrollment of a certificate.
    pub(super) fn verify_certificate(
        &self,
        registration_id: &str,
        chain: &Chain,
        readings: &Readings,
        now: Moment,
    ) -> Result<Verified, Refusal> {
        let individual = self.individuals.get(&registration_id.to_ascii_lowercase());
        let verified = match individual {
            Some(entry) if entry.attestation.is_some() => {
                self.verify_individual(entry, registration_id, chain, readings)?
            }
            _ => {
                let mut verified = self.verify_by_ca(chain, readings)?;
                // An entry without keys and certificates only disables the device.
                verified.enrollment.enabled &= individual.is_none();
                verified
            }
        };
        check_name(registration_id, &chain.leaf, readings)?;
        if !chain.leaf.is_valid_at(now.wall) {
            return Err(Refusal::Unauthorized(readings.expired_certificate));
        }
        Ok(verified)
    }

    fn verify_individual(
        &self,
        entry: &Individual,
        registration_id: &str,
        chain: &Chain,
        readings: &Readings,
    ) -> Result<Verified, Refusal> {
        let certificates = entry.attestation.as_ref().and_then(|attestation| attestation.certificates());
        let slot = certificates.and_then(|certificates| slot_of(certificates, &chain.leaf));
        let slot = slot.ok_or(Refusal::Unauthorized(Unauthorized::Code401000))?;
        // A certificate that a CA has signed is worth what that CA is; one that is self-signed was uploaded itself.
        if !chain.leaf.is_self_signed() && !self.reaches_verified(&self.way_up(chain)) {
            return Err(Refusal::CaNotFound(readings.ca_not_verified));
        }
        Ok(entry.verified(registration_id, slot, HubIdentity::of_certificate(&chain.leaf)))
    }

    fn verify_by_ca(&self, chain: &Chain, readings: &Readings) -> Result<Verified, Refusal> {
        let way = self.way_up(chain);
        if !self.reaches_verified(&way) {
            return Err(Refusal::CaNotFound(readings.ca_not_verified));
        }
        for ca in way {
            for group in self.groups.iter().filter(|group| !group.deleted) {
                let certificates = group.attestation.as_ref().and_then(|own| own.certificates());
                if let Some(slot) = certificates.and_then(|certificates| slot_of(certificates, ca)) {
                    return Ok(group.verified(slot, HubIdentity::of_certificate(&chain.leaf)));
                }
            }
        }
        Err(Refusal::WRONG_KEY)
    }

    /// The CAs above a device's certificate, the nearest first, as far as they were presented or uploaded.
    fn way_up<'c>(&'c self, chain: &'c Chain) -> Vec<&'c Certificate> {
        let known: Vec<&Certificate> = self.authorities.values().map(|known| &known.certificate).collect();
        chain.issuers(&known)
    }

    fn reaches_verified(&self, way: &[&Certificate]) -> bool {
        let verified = |ca: &&Certificate| {
            self.authorities.values().any(|known| known.verified && known.certificate == **ca)
        };
        way.iter().any(verified)
    }
}

fn slot_of(certificates: &Certificates, certificate: &Certificate) -> Option<KeySlot> {
    if certificates.primary == *certificate {
        Some(KeySlot::Primary)
    } else {
        (certificates.secondary.as_ref() == Some(certificate)).then_some(KeySlot::Secondary)
    }
}

/// Whether a common name is that of the device.
pub(super) fn is_name_of(common_name: &str, registration_id: &str, readings: &Readings) -> bool {
    match readings.common_name_case {
        CommonNameCase::Ignored => common_name.eq_ignore_ascii_case(registration_id),
        CommonNameCase::Exact => common_name == registration_id,
    }
}

fn check_name(registration_id: &str, leaf: &Certificate, readings: &Readings) -> Result<(), Refusal> {
    let is_equal = leaf.common_name().is_some_and(|name| is_name_of(&name, registration_id, readings));
    match (is_equal, readings.common_name_differs) {
        (true, _) => Ok(()),
        (false, CommonNameDiffers::Code401002) => Err(Refusal::WRONG_KEY),
        (false, CommonNameDiffers::Code400004) => {
            Err(Refusal::BadRequest("The registrationId is not the common name of the certificate."))
        }
    }
}
