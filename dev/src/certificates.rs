//! The keys and certificates of a control plane. Each start makes new ones, which nothing else trusts.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::directory::Directory;
use crate::error::Error;

/// The name of the node.
pub(crate) const NODE_NAME: &str = "dps-node";

/// Names under which the API server is reached; Pods use the address of its service.
const SERVER_NAMES: [&str; 7] = [
    "localhost",
    "127.0.0.1",
    KUBERNETES_SERVICE,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The addresses of services; the first one is the API server's.
pub(crate) const SERVICE_RANGE: &str = "10.0.0.0/24";
const KUBERNETES_SERVICE: &str = "10.0.0.1";

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
    pub(crate) node: NodeIdentities,
    /// For ES256: the API server accepts it as well as the usual RSA key, and ring can make it.
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public_key: PathBuf,
}

impl Certificates {
    /// `address` is where the API server is reached besides 127.0.0.1.
    pub(crate) fn create(directory: &Directory, address: Option<Ipv4Addr>) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "dps-dev control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let ca_pem = params.self_signed(&key)?.pem();
        let authority = Authority { directory, issuer: Issuer::new(params, key) };

        let tokens = KeyPair::generate()?;
        Ok(Self {
            ca: directory.write("ca.crt", &ca_pem)?,
            ca_pem,
            server: authority.server(address)?,
            admin: authority.client("admin", "admin", Some("system:masters"))?,
            controller_manager: authority.client(
                "controller-manager",
                "system:kube-controller-manager",
                None,
            )?,
            node: NodeIdentities::issue(&authority)?,
            service_account_key: directory.write("service-account.key", &tokens.serialize_pem())?,
            service_account_public_key: directory.write("service-account.pub", &tokens.public_key_pem())?,
        })
    }
}

/// The certificates of a node's components.
#[derive(Debug)]
pub(crate) struct NodeIdentities {
    pub(crate) kubelet: Identity,
    pub(crate) proxy: Identity,
    pub(crate) scheduler: Identity,
}

impl NodeIdentities {
    fn issue(authority: &Authority) -> Result<Self, Error> {
        let kubelet = format!("system:node:{NODE_NAME}");
        Ok(Self {
            kubelet: authority.client("kubelet", &kubelet, Some("system:nodes"))?,
            proxy: authority.client("kube-proxy", "system:kube-proxy", None)?,
            scheduler: authority.client("kube-scheduler", "system:kube-scheduler", None)?,
        })
    }
}

struct Authority<'a> {
    directory: &'a Directory,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority<'_> {
    fn server(&self, address: Option<Ipv4Addr>) -> Result<Identity, Error> {
        let names = SERVER_NAMES.map(str::to_owned).into_iter().chain(address.map(|it| it.to_string()));
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
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
            certificate: self.directory.write(&format!("{file}.crt"), &certificate.pem())?,
            key: self.directory.write(&format!("{file}.key"), &key.serialize_pem())?,
        })
    }
}
