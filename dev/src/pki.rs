//! Certificates for tests: CAs, and devices under them. Keys are ECDSA with P-256.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};

/// A key with its certificate.
#[derive(Debug)]
pub struct Identity {
    params: CertificateParams,
    key: KeyPair,
    /// The certificate, in PEM.
    pub pem: String,
}

/// Why rcgen refuses: what is asked for here it makes.
pub type Made = Result<Identity, rcgen::Error>;

fn params(common_name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    } else {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }
    params
}

impl Identity {
    /// A CA that has signed itself.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn root(common_name: &str) -> Made {
        Self::self_signed(params(common_name, true))
    }

    /// A device that needs no CA.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn own(common_name: &str) -> Made {
        Self::self_signed(params(common_name, false))
    }

    fn self_signed(params: CertificateParams) -> Made {
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { params, key, pem })
    }

    /// A CA under this one.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn intermediate(&self, common_name: &str) -> Made {
        self.issue(params(common_name, true))
    }

    /// A device under this CA.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn device(&self, common_name: &str) -> Made {
        self.device_with(common_name, |_| {})
    }

    /// The same with something changed.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn device_with(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = params(common_name, false);
        change(&mut params);
        self.issue(params)
    }

    /// The same with this private key, PKCS#8 in PEM, of another kind for example.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn device_of_key(&self, common_name: &str, key: &str) -> Made {
        self.certify(params(common_name, false), KeyPair::from_pem(key)?)
    }

    fn issue(&self, params: CertificateParams) -> Made {
        self.certify(params, KeyPair::generate()?)
    }

    fn certify(&self, params: CertificateParams, key: KeyPair) -> Made {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { params, key, pem })
    }

    /// The certificate of its key as a CA of another name.
    ///
    /// # Errors
    /// As rcgen says.
    pub fn renamed(&self, common_name: &str) -> Result<String, rcgen::Error> {
        Ok(params(common_name, true).self_signed(&self.key)?.pem())
    }

    /// The certificate, then those above it, in PEM.
    pub fn chain(&self, above: &[&Self]) -> String {
        std::iter::once(self).chain(above.iter().copied()).map(|identity| identity.pem.as_str()).collect()
    }

    /// The private key, PKCS#8 in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The private key, PKCS#8 in DER.
    pub fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }
}
