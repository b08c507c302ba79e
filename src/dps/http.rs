//! HTTP to DPS: one connection pool for all devices that sign their requests; and for each operation of a
//! device with a certificate, which authenticates the connection, connections of its own.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::ClientBuilder;
use reqwest::tls::Version;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use super::attestation::DeviceCredential;
use super::attestation::certificate::DeviceCertificate;
use super::ca_bundle::{BundleError, CaBundle};
use super::error::{DpsError, Unreachable};
use super::handshakes::Counted;
use super::observe::Observer;
use super::proxy::Proxy;
use super::tls::{Presented, Presenter, TlsFailure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections to one host that are kept for later calls: as many as there may be calls at a time by default.
/// With fewer, each burst of calls would begin with as many handshakes as are missing.
const IDLE: usize = 256;
const HEADERS_COUNT: usize = 64;

/// A CA bundle or proxy that no client can be made from.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("there are no trusted root certificates")]
    NoRoots,
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// Made when it is first needed: reading the system's roots takes tens of milliseconds, which the loop does not
/// have for each edit of a CA bundle.
type Lazy<T> = LazyLock<T, Box<dyn FnOnce() -> T + Send>>;

/// How DPS is reached.
pub(super) struct Http {
    /// For devices that sign their requests.
    pool: Lazy<Result<reqwest::Client, reqwest::Error>>,
    /// Judges servers for the others, with the same trust.
    verifier: Lazy<Result<Arc<dyn ServerCertVerifier>, rustls::Error>>,
    proxy: Option<reqwest::Proxy>,
    observer: Arc<dyn Observer>,
}

/// For the requests of one operation.
pub(super) struct Session {
    pub http: reqwest::Client,
    /// Of a device with a certificate.
    presenter: Option<Arc<Presenter>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Http {
    /// `ca_bundle` is trusted beside the public roots; `proxy` the way to DPS.
    ///
    /// # Errors
    /// When there are no trusted roots, or the proxy's address makes no sense.
    pub fn new(
        ca_bundle: Option<&CaBundle>,
        proxy: Option<&Proxy>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        let proxy = proxy.map(|proxy| reqwest::Proxy::https(proxy.address())).transpose();
        let proxy = proxy.map_err(ClientError::Setup)?;
        let mut pooled =
            builder(proxy.as_ref()).tls_version_min(Version::TLS_1_2).pool_max_idle_per_host(IDLE);
        pooled = pooled.connector_layer(Counted { observer: observer.clone(), credential: "key" });
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        if let Some(bundle) = ca_bundle {
            let certificates = bundle.certificates.iter().map(|der| reqwest::Certificate::from_der(der));
            let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(ClientError::Setup)?;
            pooled = pooled.tls_certs_merge(certificates);
            roots = bundle.certificates.clone();
        }
        let pool: Lazy<_> = LazyLock::new(Box::new(|| pooled.build()));
        // All that was given has been checked: what may be missing are the system's roots.
        if ca_bundle.is_none() && LazyLock::force(&pool).is_err() {
            return Err(ClientError::NoRoots);
        }
        let verifier = || {
            let verifier = Verifier::new_with_extra_roots(roots, crypto())?;
            Ok(Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
        };
        Ok(Self { pool, verifier: LazyLock::new(Box::new(verifier)), proxy, observer })
    }

    /// What an operation with this credential makes its requests with.
    ///
    /// # Errors
    /// `Unreachable` without trusted roots.
    pub fn session(&self, credential: &DeviceCredential) -> Result<Session, DpsError> {
        // Made of nothing but certificates that have been read: if there is no client, it is TLS.
        let no_roots = || DpsError::Unreachable(Unreachable::Tls(TlsFailure::Issuer));
        let Some(certificate) = credential.certificate() else {
            let http = self.pool.as_ref().map_err(|_| no_roots())?.clone();
            return Ok(Session { http, presenter: None });
        };
        let verifier = self.verifier.as_ref().map_err(|_| no_roots())?.clone();
        let presenter = Arc::new(Presenter::new(certificate.certified().clone()));
        let tls = tls(verifier, presenter.clone()).map_err(|_| no_roots())?;
        let counted = Counted { observer: self.observer.clone(), credential: "certificate" };
        let http = builder(self.proxy.as_ref()).pool_max_idle_per_host(1).tls_backend_preconfigured(tls);
        let http = http.connector_layer(counted).build().map_err(|_| no_roots())?;
        Ok(Session { http, presenter: Some(presenter) })
    }
}

impl Session {
    /// What became of the certificate of a device that has one.
    pub fn presented(&self, certificate: Option<&Arc<DeviceCertificate>>) -> Option<Presented> {
        let (presenter, certificate) = (self.presenter.as_ref()?, certificate?);
        Some(Presented { facts: certificate.facts().clone(), handshake: presenter.handshake() })
    }
}

/// What all clients have in common.
fn builder(proxy: Option<&reqwest::Proxy>) -> ClientBuilder {
    let builder = reqwest::Client::builder()
        .https_only(true)
        .http1_only()
        .http1_max_headers(HEADERS_COUNT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .user_agent(concat!("dps-operator/", env!("CARGO_PKG_VERSION")));
    match proxy {
        Some(proxy) => builder.proxy(proxy.clone()),
        None => builder,
    }
}

/// TLS for one device: nothing of it is ever shared with another one, nor is a session resumed.
fn tls(
    verifier: Arc<dyn ServerCertVerifier>,
    presenter: Arc<Presenter>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(presenter);
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The one of the process.
fn crypto() -> Arc<CryptoProvider> {
    let ours = || Arc::new(rustls::crypto::ring::default_provider());
    CryptoProvider::get_default().cloned().unwrap_or_else(ours)
}
