//! Devices with certificates against a simulator over TLS, and against servers that do otherwise.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dps_dev::pki::Identity;
use dps_simulator::{Certificate, Certificates, Credential, Handshake as Shakes, Running};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::answer::Assignment;
use super::attestation::DeviceCredential;
use super::attestation::certificate::{DeviceCertificate, TlsFiles};
use super::client::{Asked, DpsClient, Identity as Caller};
use super::client_tests::{SCOPE, client, endpoint, observed, simulator};
use super::clock_offset::ClockOffset;
use super::error::{DpsError, Unreachable};
use super::ids::{IdScope, RegistrationId};
use super::observe::Observer;
use super::operation::Progress;
use super::tls::{Handshake, TlsFailure};

fn credential(device: &Identity, id: &str) -> DeviceCredential {
    let key = Zeroizing::new(device.key_pem().into_bytes());
    let files = TlsFiles { certificates: device.pem.clone().into_bytes(), key, authority: None };
    Arc::new(DeviceCertificate::read(files, &RegistrationId::parse(id).unwrap()).unwrap()).credential()
}

async fn register(
    port: u16,
    client: &DpsClient,
    credential: &DeviceCredential,
    id: &str,
) -> Result<Assignment, DpsError> {
    let (endpoint, scope, id) =
        (endpoint(port), IdScope::parse(SCOPE).unwrap(), RegistrationId::parse(id).unwrap());
    let clock = ClockOffset::default();
    let caller = Caller { clock: &clock, endpoint: &endpoint, scope: &scope, id: &id, credential };
    match client.register(caller, Asked::default(), || {}).await? {
        Progress::Assigned(assignment) => Ok(assignment),
        Progress::Delayed(delayed) => panic!("{delayed:?}"),
    }
}

/// Connections that were made, by the credential that they are for.
#[derive(Debug, Default)]
struct Handshakes(Mutex<Vec<&'static str>>);

impl Observer for Handshakes {
    fn request_ended(&self, _: &'static str, _: &'static str, _: Duration) {}

    fn handshake_made(&self, credential: &'static str) {
        self.0.lock().unwrap().push(credential);
    }
}

fn enroll(dps: &Running, device: &Identity, id: &str) {
    let primary = Certificate::from_pem(&device.pem).unwrap();
    dps.control().set_device_certificates(SCOPE, id, Certificates { primary, secondary: None }).unwrap();
}

/// What became of the certificate in a refusal.
fn handshake(result: Result<Assignment, DpsError>) -> (Handshake, bool) {
    let Err(DpsError::Unauthorized(refusal)) = result else { panic!("{result:?}") };
    (refusal.certificate.as_ref().unwrap().handshake, refusal.concerns_credential())
}

#[tokio::test]
async fn each_operation_has_connections_of_its_own_and_no_session_is_resumed() {
    let dps = simulator().await;
    dps.control().set_think_time(Duration::from_millis(10));
    let made = Arc::new(Handshakes::default());
    let client = observed(Some(dps.ca_pem()), made.clone()).unwrap();
    for id in ["truck-1", "truck-2"] {
        let device = Identity::own(id).unwrap();
        enroll(&dps, &device, id);
        for _ in 0..2 {
            register(dps.address().port(), &client, &credential(&device, id), id).await.unwrap();
        }
    }
    let ledger = dps.control().ledger();
    let mut connections: Vec<(u64, String)> = Vec::new();
    for entry in &ledger {
        assert_eq!((entry.credential, entry.authorized), (Credential::Certificate, false));
        assert!(!entry.resumed);
        connections.push((entry.connection, entry.registration_id.clone().unwrap()));
    }
    connections.dedup();
    let devices: Vec<&str> = connections.iter().map(|(_, device)| device.as_str()).collect();
    assert_eq!(devices, ["truck-1", "truck-1", "truck-2", "truck-2"], "one each, its polls with it");
    assert_eq!(*made.0.lock().unwrap(), ["certificate"; 4]);
}

#[tokio::test]
async fn a_refusal_tells_whether_dps_has_seen_the_certificate() {
    let dps = simulator().await;
    let client = client(Some(dps.ca_pem())).unwrap();
    let device = Identity::own("truck-1").unwrap();
    let credential = credential(&device, "truck-1");
    let register = async || register(dps.address().port(), &client, &credential, "truck-1").await;
    let refused = register().await;
    let Err(DpsError::Unauthorized(refusal)) = &refused else { panic!("{refused:?}") };
    let facts = &refusal.certificate.as_ref().unwrap().facts;
    let thumbprint = Certificate::from_pem(&device.pem).unwrap().thumbprint();
    assert!(facts.shown_thumbprints().contains(thumbprint.as_str()));
    assert_eq!(handshake(refused), (Handshake::Sent, true));

    enroll(&dps, &device, "truck-1");
    assert!(register().await.is_ok());
    dps.control().set_handshake(Shakes::CertificateNotRequested);
    assert_eq!(handshake(register().await), (Handshake::NotAskedFor, false));
    dps.control().set_handshake(Shakes::Alert);
    assert_eq!(register().await, Err(DpsError::Unreachable(Unreachable::Tls(TlsFailure::Alert))));
}

/// Takes signatures of these kinds only.
#[derive(Debug)]
struct Picky {
    verifier: Arc<dyn ClientCertVerifier>,
    kinds: Vec<SignatureScheme>,
}

impl ClientCertVerifier for Picky {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier.verify_client_cert(leaf, above, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.kinds.clone()
    }
}

/// A server that takes certificates of this CA only, and none of others, nor signatures of other kinds than these.
async fn strict(root: &Identity, kinds: &[SignatureScheme]) -> (SocketAddr, String) {
    let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.pem.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let verifier = Arc::new(Picky { verifier, kinds: kinds.to_vec() });
    let key = PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()).into();
    let tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            if let Ok(mut connection) = acceptor.accept(connection).await {
                let _ = connection.read(&mut [0; 4096]).await;
                let _ = connection
                    .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        }
    });
    (address, server.cert.pem())
}

#[tokio::test]
async fn an_alert_that_answers_a_certificate_speaks_of_that_and_not_of_the_server() {
    super::client_tests::choose_tls();
    let root = Identity::root("fleet-root").unwrap();
    let (address, ca) = strict(&root, &[SignatureScheme::ECDSA_NISTP256_SHA256]).await;
    let client = client(Some(&ca)).unwrap();
    let (own, foreign) = (root.device("truck-1").unwrap(), Identity::own("truck-1").unwrap());
    let register = async |device: &Identity| {
        register(address.port(), &client, &credential(device, "truck-1"), "truck-1").await
    };
    let served = register(&own).await;
    assert!(matches!(served, Err(DpsError::Server { .. })), "{served:?}");
    assert_eq!(handshake(register(&foreign).await), (Handshake::Refused, true));
}

/// The device's key is ECDSA's.
#[tokio::test]
async fn an_alert_of_a_server_that_takes_no_signature_of_the_devices_key_says_that_and_nothing_of_its_ca() {
    super::client_tests::choose_tls();
    let root = Identity::root("fleet-root").unwrap();
    let (address, ca) =
        strict(&root, &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]).await;
    let client = client(Some(&ca)).unwrap();
    let device = credential(&root.device("truck-1").unwrap(), "truck-1");
    let refused = register(address.port(), &client, &device, "truck-1").await;
    assert_eq!(handshake(refused), (Handshake::KeyNotTaken, true));
}
