//! A proxy between one operator and what it talks to: every request is recorded, and anything may
//! happen to it.

mod call;
mod exchange;
mod rule;
mod socket;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dps_dev::ControlPlane;
use dps_dev::pki::Identity;
use dps_simulator::AnyClient;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::tls::Certificate;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use self::call::{Call, Side};
pub use self::rule::{Action, Armed, Moment, Rule, status, status_body};
use self::rule::{Rules, Watches};

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    pub call: Call,
    /// What was sent, if it was JSON and changes something at the API server.
    pub body: Value,
    /// Of the answer of whom it was for; none if it never got there, or has no answer yet.
    pub status: Option<u16>,
    /// The process whose proxies these are has made it. Another replica may come by the same way to DPS.
    pub is_own: bool,
    /// A rule decided what happened to it.
    pub is_struck: bool,
    /// When it arrived.
    pub at: Instant,
}

/// Requests of operators in the order in which they arrived.
#[derive(Clone, Debug, Default)]
pub struct Records(Arc<Mutex<Vec<Record>>>);

impl Records {
    pub fn len(&self) -> usize {
        self.all().len()
    }

    pub fn all(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those after the first `skip`.
    pub fn since(&self, skip: usize) -> Vec<Record> {
        self.all().split_off(skip)
    }

    fn begin(&self, call: Call, body: Value, (is_own, is_struck): (bool, bool)) -> usize {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(Record { call, body, status: None, is_own, is_struck, at: Instant::now() });
        records.len() - 1
    }

    fn answered(&self, index: usize, status: u16) {
        if let Some(record) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            record.status = Some(status);
        }
    }
}

/// The process whose requests these are; none while it does not run.
#[derive(Clone, Debug, Default)]
pub struct Process(Arc<AtomicU32>);

impl Process {
    pub fn is(&self, pid: u32) {
        self.0.store(pid, Ordering::SeqCst);
    }

    /// It has opened this connection.
    fn has_opened(&self, connection: &TcpStream) -> bool {
        let port = connection.peer_addr().map_or(0, |peer| peer.port());
        socket::is_of(self.0.load(Ordering::SeqCst), port)
    }

    /// A process that has ended already is no error.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.load(Ordering::SeqCst)).expect("a pid");
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// What the tasks of a proxy share.
#[derive(Clone)]
struct Shared {
    side: Side,
    client: reqwest::Client,
    /// Where requests are forwarded to.
    upstream: String,
    rules: Rules,
    watches: Watches,
    records: Records,
    process: Process,
    /// By which the upstream is trusted.
    ca: Certificate,
    issued: Issued,
}

/// Certificates that devices have, with their keys: who has both can speak for a device.
#[derive(Clone, Debug, Default)]
pub struct Issued(Arc<Mutex<Vec<IssuedTo>>>);

#[derive(Clone, Debug)]
struct IssuedTo {
    /// The device's certificate, and all files in PEM.
    leaf: CertificateDer<'static>,
    files: String,
    /// PKCS#8.
    key: Vec<u8>,
}

impl Issued {
    pub fn add(&self, device: &Identity, chain: &str) {
        let leaf = CertificateDer::from_pem_slice(device.pem.as_bytes()).expect("a certificate");
        let files = format!("{chain}{}", device.key_pem());
        let issued = IssuedTo { leaf, files, key: device.key_der() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(issued);
    }

    /// The private keys, PKCS#8.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.iter().map(|issued| issued.key.clone()).collect()
    }

    /// What the device with this certificate presents.
    fn identity(&self, leaf: &CertificateDer<'_>) -> Option<reqwest::Identity> {
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = issued.iter().find(|issued| issued.leaf == *leaf)?;
        reqwest::Identity::from_pem(of_device.files.as_bytes()).ok()
    }
}

fn client(ca: &Certificate, identity: Option<reqwest::Identity>) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_certs_only([ca.clone()]).no_proxy().http1_only();
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    builder.build().expect("a client can be made")
}

/// One way from the operator to the API server or to DPS; dropping it ends its connections.
pub struct Proxy {
    port: u16,
    rules: Rules,
    pub watches: Watches,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one with the certificate of the API server, which is made out to localhost. `ca`: who
    /// issued that of the upstream, in PEM.
    async fn start(
        control_plane: &ControlPlane,
        (side, upstream, ca): (Side, String, &str),
        (records, process, issued): (&Records, &Process, &Issued),
    ) -> Self {
        let ca = Certificate::from_pem(ca.as_bytes()).expect("a certificate");
        let shared = Shared {
            side,
            client: client(&ca, None),
            upstream,
            ca,
            issued: issued.clone(),
            rules: Rules::default(),
            watches: Watches::new(),
            records: records.clone(),
            process: process.clone(),
        };
        let acceptor = acceptor(control_plane, side);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (rules, watches) = (shared.rules.clone(), shared.watches.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(acceptor.clone(), stream, shared.clone()));
                    },
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                }
            }
        });
        Self { port, rules, watches, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has this happen from now on.
    pub fn arm(&self, rule: Rule) -> Armed {
        self.rules.arm(rule)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both ways of one operator.
pub struct Proxies {
    pub api_server: Proxy,
    pub dps: Proxy,
    pub records: Records,
    pub process: Process,
}

impl Proxies {
    /// `dps`: address and CA of the simulator. `records`: where requests are recorded.
    pub async fn start(
        control_plane: &ControlPlane,
        dps: (String, &str),
        (records, issued): (Records, &Issued),
    ) -> Self {
        let process = Process::default();
        let shared = (&records, &process, issued);
        let api_server = (Side::ApiServer, control_plane.url().to_owned(), control_plane.ca_pem());
        Self {
            api_server: Proxy::start(control_plane, api_server, shared).await,
            dps: Proxy::start(control_plane, (Side::Dps, dps.0, dps.1), shared).await,
            records,
            process,
        }
    }

    /// Has this happen to calls of that side.
    pub fn arm(&self, side: Side, rule: Rule) -> Armed {
        match side {
            Side::ApiServer => self.api_server.arm(rule),
            Side::Dps => self.dps.arm(rule),
        }
    }

    /// A kubeconfig by which the API server is reached through the proxy.
    pub fn kubeconfig(&self, control_plane: &ControlPlane, namespace: &str, account: &str) -> PathBuf {
        let server = format!("https://localhost:{}", self.api_server.port());
        let kubeconfig = control_plane.service_account_kubeconfig_at(namespace, account, &server);
        kubeconfig.expect("the kubeconfig can be written")
    }
}

/// As DPS, it asks for a certificate and takes any; as the API server, it knows tokens.
fn acceptor(control_plane: &ControlPlane, side: Side) -> TlsAcceptor {
    let (certificate, key) = control_plane.server_certificate();
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = match side {
        Side::ApiServer => ServerConfig::builder().with_no_client_auth(),
        Side::Dps => {
            let crypto = Arc::new(rustls::crypto::ring::default_provider());
            ServerConfig::builder().with_client_cert_verifier(Arc::new(AnyClient(crypto)))
        }
    };
    let config = config.with_single_cert(chain.expect("a certificate"), key);
    TlsAcceptor::from(Arc::new(config.expect("certificate and key belong together")))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, shared: Shared) {
    let _ = stream.set_nodelay(true);
    let is_own = shared.process.has_opened(&stream);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = presented.and_then(|leaf| shared.issued.identity(leaf));
    let shared = match identity {
        Some(identity) => Shared { client: client(&shared.ca, Some(identity)), ..shared },
        None => shared,
    };
    let service = service_fn(move |request| exchange::answer(request, is_own, shared.clone()));
    // It ends with an error where a rule closes the connection.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
