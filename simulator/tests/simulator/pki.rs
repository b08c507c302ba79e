//! Certificates for tests, as the simulator and its clients take them.

use std::ops::Deref;

use dps_simulator::{Certificate, CertificateAuthority, Certificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A key with its certificate.
pub struct Identity(dps_dev::pki::Identity);

impl Deref for Identity {
    type Target = dps_dev::pki::Identity;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Identity {
    pub fn root(common_name: &str) -> Self {
        Self(dps_dev::pki::Identity::root(common_name).unwrap())
    }

    /// A device that needs no CA.
    pub fn own(common_name: &str) -> Self {
        Self(dps_dev::pki::Identity::own(common_name).unwrap())
    }

    pub fn intermediate(&self, common_name: &str) -> Self {
        Self(self.0.intermediate(common_name).unwrap())
    }

    pub fn device(&self, common_name: &str) -> Self {
        Self(self.0.device(common_name).unwrap())
    }

    /// One whose time is over.
    pub fn expired_device(&self, common_name: &str) -> Self {
        let expired = |params: &mut rcgen::CertificateParams| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        };
        Self(self.0.device_with(common_name, expired).unwrap())
    }

    /// Its key under another name.
    pub fn renamed(&self, common_name: &str) -> Certificate {
        Certificate::from_pem(&self.0.renamed(common_name).unwrap()).unwrap()
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.pem).unwrap()
    }

    pub fn certificates(&self) -> Certificates {
        Certificates { primary: self.certificate(), secondary: None }
    }

    /// What a TLS client presents: this certificate, then those.
    pub fn presented(&self, others: &[&Self]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let der = |identity: &Self| CertificateDer::from_pem_slice(identity.pem.as_bytes()).unwrap();
        let chain = std::iter::once(self).chain(others.iter().copied()).map(der).collect();
        (chain, PrivatePkcs8KeyDer::from(self.key_der()).into())
    }

    /// The same as an uploaded CA.
    pub fn authority(&self, name: &str, verified: bool) -> CertificateAuthority {
        CertificateAuthority { name: name.to_owned(), certificate: self.certificate(), verified }
    }
}
