//! Certificates for tests: CAs, and devices under them.

use dps_simulator::{Certificate, CertificateAuthority, Certificates};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A key with its certificate.
pub struct Identity {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
}

fn params(common_name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

impl Identity {
    pub fn root(common_name: &str) -> Self {
        Self::self_signed(params(common_name, true))
    }

    /// A device that needs no CA.
    pub fn own(common_name: &str) -> Self {
        Self::self_signed(params(common_name, false))
    }

    fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    pub fn intermediate(&self, common_name: &str) -> Self {
        self.issue(params(common_name, true))
    }

    pub fn device(&self, common_name: &str) -> Self {
        self.issue(params(common_name, false))
    }

    /// One whose time is over.
    pub fn expired_device(&self, common_name: &str) -> Self {
        let mut params = params(common_name, false);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        Self { params, key, pem }
    }

    /// Its key under another name.
    pub fn renamed(&self, common_name: &str) -> Certificate {
        let renamed = params(common_name, true).self_signed(&self.key).unwrap();
        Certificate::from_pem(&renamed.pem()).unwrap()
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.pem).unwrap()
    }

    pub fn certificates(&self) -> Certificates {
        Certificates { primary: self.certificate(), secondary: None }
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What a TLS client presents: this certificate, then those.
    pub fn presented(&self, others: &[&Self]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let der = |identity: &Self| CertificateDer::from_pem_slice(identity.pem.as_bytes()).unwrap();
        let chain = std::iter::once(self).chain(others.iter().copied()).map(der).collect();
        (chain, PrivatePkcs8KeyDer::from(self.key.serialize_der()).into())
    }

    /// The same as an uploaded CA.
    pub fn authority(&self, name: &str, verified: bool) -> CertificateAuthority {
        CertificateAuthority { name: name.to_owned(), certificate: self.certificate(), verified }
    }
}
