//! Certificates of enrollments, uploaded CAs, and what hubs know of devices with certificates.

use super::{Control, ControlError};
use crate::certificate::{Certificate, Thumbprint};
use crate::config::Certificates;
use crate::dps::{Attestation, Authority};

impl Control {
    /// Replaces a group's certificates. Devices that are registered stay so.
    pub fn set_group_certificates(
        &self,
        id_scope: &str,
        group: &str,
        certificates: Certificates,
    ) -> Result<(), ControlError> {
        let attestation = Attestation::Certificates(certificates);
        self.in_group(id_scope, group, |group| group.attestation = Some(attestation))
    }

    /// Replaces the certificates of a device's individual enrollment, which is made if there is none.
    pub fn set_device_certificates(
        &self,
        id_scope: &str,
        registration_id: &str,
        certificates: Certificates,
    ) -> Result<(), ControlError> {
        let attestation = Attestation::Certificates(certificates);
        self.in_individual(id_scope, registration_id, |entry| entry.attestation = Some(attestation))
    }

    /// Uploads a CA certificate under a name, in the place of one that has it.
    pub fn upload_certificate_authority(
        &self,
        id_scope: &str,
        name: &str,
        certificate: Certificate,
        verified: bool,
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            scope.authorities.insert(name.to_owned(), Authority { certificate, verified });
            Ok(())
        })
    }

    /// Says whether the owner of an uploaded CA has proven to have its key.
    pub fn set_certificate_authority_verified(
        &self,
        id_scope: &str,
        name: &str,
        verified: bool,
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| match scope.authorities.get_mut(name) {
            Some(authority) => {
                authority.verified = verified;
                Ok(())
            }
            None => Err(ControlError::NoCertificateAuthority(name.to_owned())),
        })
    }

    /// Whether the hub would let a device with this certificate in: hubs know the certificate of its last
    /// assignment, and look whether it is in date.
    pub fn accepts_device_certificate(
        &self,
        id_scope: &str,
        registration_id: &str,
        certificate: &Certificate,
    ) -> bool {
        let now = self.shared.clock.now().wall;
        self.read_registration(id_scope, registration_id, |registration| {
            registration.hub_accepts_certificate(certificate, now)
        })
        .unwrap_or(false)
    }

    /// The thumbprints that the hub has of a device's certificates, the primary one first.
    pub fn hub_thumbprints(&self, id_scope: &str, registration_id: &str) -> Vec<Thumbprint> {
        self.read_registration(id_scope, registration_id, |registration| registration.hub_thumbprints())
            .unwrap_or_default()
    }
}
