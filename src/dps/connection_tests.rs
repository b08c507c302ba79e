//! The way to a simulator over TLS: certificates, CA bundles, proxies, ports that nothing listens on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dps_simulator::Running;
use dps_simulator::config::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ca_bundle::CaBundle;
use super::client::DpsClient;
use super::client_tests::{Device, choose_tls, client, endpoint, endpoint_at, simulator, simulator_with};
use super::error::{DpsError, Unreachable};
use super::observe::Unobserved;
use super::proxy::Proxy;
use super::tls::TlsFailure;

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_a_closed_port_ends_the_call() {
    let dps = simulator().await;
    let untrusting = client(None).unwrap();
    let result = Device::default().register_at(endpoint(dps.address().port()), &untrusting).await;
    assert_eq!(result, refused(TlsFailure::Issuer));
    assert_eq!(dps.control().ledger_len(), 0);
    // On an address where no other test's simulator may be given the port next.
    let closed = std::net::TcpListener::bind("127.0.0.78:0").unwrap().local_addr().unwrap();
    let trusting = client(Some(dps.ca_pem())).unwrap();
    let result = Device::default().register_at(endpoint_at(&closed.to_string()), &trusting).await;
    assert_eq!(result, Err(DpsError::Unreachable(Unreachable::Connect)));
}

fn refused<T>(failure: TlsFailure) -> Result<T, DpsError> {
    Err(DpsError::Unreachable(Unreachable::Tls(failure)))
}

/// A server that answers everything with this and closes.
async fn answers(answer: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn proxy(answer: &'static str) -> Proxy {
    Proxy::parse(&format!("http://user:c2VjcmV0@{}", answers(answer).await)).unwrap()
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_as_the_cause_and_its_password_is_not_shown() {
    choose_tls();
    let through = async |proxy: &Proxy| {
        let suffixes = Arc::from([".azure-devices.net".to_owned()]);
        let client = DpsClient::new(None, Some(proxy), suffixes, Arc::new(Unobserved)).unwrap();
        Device::default().register_at(endpoint(443), &client).await.map(drop)
    };
    for (answer, kind, says) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Unreachable::ProxyLogin, "407"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", Unreachable::ProxyRefusal, "spec.hostname"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", Unreachable::ProxyRefusal, "--dps-proxy"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n<html>", Unreachable::ProxyRefusal, "CONNECT"),
        ("SSH-2.0-OpenSSH\r\n", Unreachable::ProxyRefusal, "--dps-proxy"),
        ("", Unreachable::ProxyBroken, "--dps-proxy"),
    ] {
        let refused = through(&proxy(answer).await).await;
        assert_eq!(refused, Err(DpsError::Unreachable(kind)), "{answer}");
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(says) && !message.contains("c2VjcmV0"), "{message}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.80:0").unwrap().local_addr().unwrap();
    for address in [gone.to_string(), "no-proxy.invalid:3128".to_owned()] {
        let gone = Proxy::parse(&format!("http://user:c2VjcmV0@{address}")).unwrap();
        assert_eq!(through(&gone).await, Err(DpsError::Unreachable(Unreachable::Proxy)), "{address}");
    }
}

/// A CA of the test's own.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server that answers everything with this over TLS.
    async fn answers(&self, answer: &'static str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let Ok(mut connection) = tls.accept(connection).await else { continue };
                let _ = connection.read(&mut [0; 4096]).await;
                let _ = connection.write_all(answer.as_bytes()).await;
                let _ = connection.shutdown().await;
            }
        });
        address
    }

    /// A simulator with a certificate for this name that is good from one year to another.
    async fn simulator(&self, name: &str, from: i32, until: i32) -> Running {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = std::env::temp_dir()
            .join(format!("dps-client-tests-{}-{name}-{from}-{until}", std::process::id()));
        let tls = Tls {
            certificate: Some(folder.join("server.crt")),
            key: Some(folder.join("server.key")),
            ..Tls::default()
        };
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
        let dps = simulator_with(tls).await;
        std::fs::remove_dir_all(&folder).unwrap();
        dps
    }
}

#[tokio::test]
async fn a_certificate_of_another_time_or_host_ends_the_call() {
    let ca = Ca::new();
    let trusting = client(Some(&ca.pem)).unwrap();
    let register = async |name: &str, from: i32, until: i32| {
        let dps = ca.simulator(name, from, until).await;
        let result = Device::default().register_at(endpoint(dps.address().port()), &trusting).await;
        (result.map(drop), dps.control().ledger_len())
    };
    assert_eq!(register("localhost", 2020, 2999).await, (Ok(()), 2), "nothing else is wrong with it");
    assert_eq!(register("localhost", 2019, 2020).await, (refused(TlsFailure::Dates), 0));
    assert_eq!(register("localhost", 2998, 2999).await, (refused(TlsFailure::Dates), 0));
    assert_eq!(register("elsewhere.example", 2020, 2999).await, (refused(TlsFailure::Name), 0));
}

#[tokio::test]
async fn what_does_not_speak_tls_ends_the_call() {
    let address = answers("HTTP/1.1 400 Bad Request\r\n\r\n").await.to_string();
    let result = Device::default().register_at(endpoint_at(&address), &client(None).unwrap()).await;
    assert_eq!(result, refused(TlsFailure::Handshake));
}

#[tokio::test]
async fn what_does_not_speak_http_ends_the_call_and_is_told_apart_from_an_answer_that_breaks_off() {
    choose_tls();
    let ca = Ca::new();
    let trusting = client(Some(&ca.pem)).unwrap();
    for (answer, kind) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", Unreachable::NotHttp),
        ("220 mail.example ESMTP\r\n", Unreachable::NotHttp),
        ("HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", Unreachable::NotHttp),
        ("HTTP/1.1 200 OK\r\nContent-Le", Unreachable::Broken),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", Unreachable::Broken),
        ("", Unreachable::Broken),
    ] {
        let address = ca.answers(answer).await;
        let result = Device::default().register_at(endpoint(address.port()), &trusting).await;
        assert_eq!(result, Err(DpsError::Unreachable(kind)), "{answer}");
    }
}

#[tokio::test]
async fn what_can_be_used_of_a_bundle_is_trusted_whatever_stands_beside_it() {
    let ca = Ca::new();
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let der = CaBundle::read(ca.pem.as_bytes()).unwrap().certificates.remove(0);
    let dps = ca.simulator("localhost", 2020, 2998).await;
    for bundle in [format!("{damaged}{}{damaged}", ca.pem).as_bytes(), &der] {
        let bundle = CaBundle::read(bundle).unwrap();
        let client = DpsClient::new(
            Some(&bundle),
            None,
            Arc::from([".azure-devices.net".to_owned()]),
            Arc::new(Unobserved),
        );
        let result = Device::default().register_at(endpoint(dps.address().port()), &client.unwrap()).await;
        assert!(result.is_ok(), "{result:?}");
    }
}

/// The certificate of a root is believed because it is in the bundle, not because of what it says.
#[tokio::test]
async fn a_root_that_has_expired_is_trusted() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let expired = Ca { issuer: Issuer::new(params, key), pem };
    let dps = expired.simulator("localhost", 2020, 2997).await;
    let result = Device::default()
        .register_at(endpoint(dps.address().port()), &client(Some(&expired.pem)).unwrap())
        .await;
    assert!(result.is_ok(), "{result:?}");
}

/// The paused clock runs ahead whenever all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_the_handshake_is_given_up_after_the_time_for_connecting() {
    // The system connects; the listener accepts nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let started = tokio::time::Instant::now();

    let result = Device::default().register_at(endpoint_at(&address), &client(None).unwrap()).await;

    assert_eq!(result, Err(DpsError::Unreachable(Unreachable::Timeout)));
    let waited = started.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    let (mut connection, _) = silent.accept().unwrap();
    let mut hello = [0];
    std::io::Read::read_exact(&mut connection, &mut hello).unwrap();
    assert_eq!(hello, [22], "the client has begun a handshake");
}
