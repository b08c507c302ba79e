//! Everything in here is made anew for each start and trusted by nothing else.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::Error;
use crate::files::Home;

/// Names under which the API server is reached.
const SERVER_NAMES: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A certificate and its key, as files.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The keys and certificates of one control plane.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) ca_pem: String,
    pub(crate) server: Identity,
    pub(crate) admin: Identity,
    pub(crate) controller_manager: Identity,
    /// ES256: the API server takes it as well as the customary RSA key, and ring can make it.
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public_key: PathBuf,
}

impl Certificates {
    pub(crate) fn create(home: &Home) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "dps-dev control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&key)?.pem();
        let authority = Authority { home, issuer: Issuer::new(params, key) };

        let tokens = KeyPair::generate()?;
        Ok(Self {
            ca: home.write("ca.crt", &ca_pem)?,
            ca_pem,
            server: authority.server()?,
            admin: authority.client("admin", "admin", Some("system:masters"))?,
            controller_manager: authority.client(
                "controller-manager",
                "system:kube-controller-manager",
                None,
            )?,
            service_account_key: home.write("service-account.key", &tokens.serialize_pem())?,
            service_account_public_key: home.write("service-account.pub", &tokens.public_key_pem())?,
        })
    }
}

struct Authority<'a> {
    home: &'a Home,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority<'_> {
    fn server(&self) -> Result<Identity, Error> {
        let mut params = CertificateParams::new(SERVER_NAMES.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("server", params)
    }

    /// Kubernetes reads the user from the common name and its group from the organization.
    fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Identity, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, params)
    }

    fn issue(&self, file: &str, mut params: CertificateParams) -> Result<Identity, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: self.home.write(&format!("{file}.crt"), &certificate.pem())?,
            key: self.home.write(&format!("{file}.key"), &key.serialize_pem())?,
        })
    }
}
