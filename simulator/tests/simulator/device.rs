//! A device for tests: it makes its token and speaks HTTP/1.1 over TLS.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dps_simulator::{
    Config, Control, EnrollmentGroup, IdScope, LedgerEntry, Running, Simulator, SymmetricKey,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub const SCOPE: &str = "0ne00000001";
pub const GROUP: &str = "fleet";
pub const HUB_A: &str = "hub-a.azure-devices.net";
pub const HUB_B: &str = "hub-b.azure-devices.net";

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub fn primary() -> String {
    base64([1; 64])
}

pub fn secondary() -> String {
    base64([2; 64])
}

/// One id scope with a group, no think time and short waits.
pub fn config() -> Config {
    Config {
        think_time: Duration::ZERO,
        retry_after: Some(Duration::from_secs(1)),
        id_scopes: vec![IdScope {
            id_scope: SCOPE.to_owned(),
            hubs: vec![HUB_A.to_owned()],
            enrollment_groups: vec![EnrollmentGroup::new(GROUP, &primary(), &secondary()).unwrap()],
            ..IdScope::default()
        }],
        ..Config::default()
    }
}

pub async fn start(config: Config) -> Running {
    Simulator::start(config).await.unwrap()
}

/// The key that a device of the group has.
pub fn device_key(registration_id: &str) -> SymmetricKey {
    SymmetricKey::from_base64(&primary()).unwrap().derive(registration_id)
}

pub fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

/// An Authorization header as the operator and most SDKs write it.
pub fn token(id_scope: &str, registration_id: &str, key: &SymmetricKey, expiry: u64) -> String {
    let resource = escape(&format!("{id_scope}/registrations/{registration_id}"));
    let signature = key.sign(&[resource.as_bytes(), b"\n", expiry.to_string().as_bytes()]);
    let signature = escape(&base64(signature));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=registration")
}

/// An answer of the simulator.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        match self.headers.get(name) {
            Some(value) => value.to_str().unwrap(),
            None => panic!("no {name} in {:?}", self.headers),
        }
    }

    pub fn operation_id(&self) -> String {
        self.json()["operationId"].as_str().unwrap().to_owned()
    }
}

/// A device with one keep-alive connection.
pub struct Device {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    pub id_scope: String,
    pub registration_id: String,
    pub api_version: String,
    pub authorization: Option<String>,
    pub content_type: Option<String>,
}

impl Device {
    pub async fn connect(simulator: &Running, registration_id: &str) -> Self {
        Self::try_connect(simulator, registration_id).await.unwrap()
    }

    pub async fn try_connect(simulator: &Running, registration_id: &str) -> io::Result<Self> {
        let key = device_key(registration_id);
        let token = token(SCOPE, registration_id, &key, in_an_hour());
        let device = Self::reach(simulator, registration_id, None).await?;
        Ok(Self { authorization: Some(token), ..device })
    }

    /// Connects with a certificate and its key, and sends no token.
    pub async fn with_certificate(
        simulator: &Running,
        registration_id: &str,
        presented: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    ) -> io::Result<Self> {
        Self::reach(simulator, registration_id, Some(presented)).await
    }

    async fn reach(
        simulator: &Running,
        registration_id: &str,
        presented: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(simulator.ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let tls = match presented {
            Some((chain, key)) => tls.with_client_auth_cert(chain, key).unwrap(),
            None => tls.with_no_client_auth(),
        };
        let tcp = TcpStream::connect(simulator.address()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: format!("localhost:{}", simulator.address().port()),
            id_scope: SCOPE.to_owned(),
            registration_id: registration_id.to_owned(),
            api_version: "2021-06-01".to_owned(),
            authorization: None,
            content_type: Some("application/json".to_owned()),
        })
    }

    /// Signs with another key from now on.
    pub fn sign_with(&mut self, key: &SymmetricKey) {
        let token = token(&self.id_scope, &self.registration_id, key, in_an_hour());
        self.authorization = Some(token);
    }

    pub async fn register(&mut self) -> Answer {
        let body = json!({"registrationId": self.registration_id});
        self.register_with(body).await
    }

    pub async fn register_with(&mut self, body: Value) -> Answer {
        let path = self.path("/register");
        self.send(Method::PUT, &path, body.to_string()).await.unwrap()
    }

    pub async fn poll(&mut self, operation_id: &str) -> Answer {
        let path = self.path(&format!("/operations/{operation_id}"));
        self.send(Method::GET, &path, "{}".to_owned()).await.unwrap()
    }

    pub async fn lookup(&mut self) -> Answer {
        let body = json!({"registrationId": self.registration_id});
        let path = self.path("");
        self.send(Method::POST, &path, body.to_string()).await.unwrap()
    }

    /// Registers and polls once; for simulators without think time.
    pub async fn provision(&mut self) -> Value {
        let started = self.register().await;
        assert_eq!(started.status, 202, "{started:?}");
        let done = self.poll(&started.operation_id()).await;
        assert_eq!(done.status, 200, "{done:?}");
        done.json()["registrationState"].take()
    }

    /// Registers and reads this much of the answer's body; returns whether there was as much.
    pub async fn read_at_least(&mut self, bytes: usize) -> bool {
        let request = self.request(Method::PUT, &self.path("/register"), "{}".to_owned());
        let mut body = self.sender.send_request(request).await.unwrap().into_body();
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= bytes {
                return true;
            }
        }
        false
    }

    pub fn path(&self, rest: &str) -> String {
        let id = utf8_percent_encode(&self.registration_id, NON_ALPHANUMERIC);
        let Self { id_scope, api_version, .. } = self;
        format!("/{id_scope}/registrations/{id}{rest}?api-version={api_version}")
    }

    pub async fn send(
        &mut self,
        method: Method,
        path_and_query: &str,
        body: String,
    ) -> Result<Answer, hyper::Error> {
        let request = self.request(method, path_and_query, body);
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    fn request(&self, method: Method, path_and_query: &str, body: String) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path_and_query).header("host", &self.host);
        if let Some(token) = &self.authorization {
            request = request.header("authorization", token);
        }
        if let Some(media_type) = &self.content_type {
            request = request.header("content-type", media_type);
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    }
}

/// Waits for an entry of the ledger, with a timeout.
pub async fn seen(control: Control, fits: impl Fn(&LedgerEntry) -> bool) -> LedgerEntry {
    tokio::time::timeout(Duration::from_secs(20), control.wait_for(0, fits)).await.unwrap()
}

/// Status and code of a refusal, which its header must repeat.
pub fn error(answer: &Answer) -> (u16, u64) {
    let code = answer.json()["errorCode"].as_u64().unwrap();
    assert_eq!(answer.header("x-ms-error-code"), code.to_string());
    (answer.status.as_u16(), code)
}
