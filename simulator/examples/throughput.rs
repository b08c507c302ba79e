//! Measures how many requests the simulator answers in a second: devices that register and poll
//! over a few keep-alive connections, on the same machine.
//!
//! `cargo run --release -p dps-simulator --example throughput -- [devices] [connections]`

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dps_simulator::{Config, EnrollmentGroup, IdScope, Quotas, Simulator, SymmetricKey};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;

const SCOPE: &str = "0ne00000001";
const KEY: &str = "ZmFrZS1rZXktZm9yLXRocm91Z2hwdXQ=";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let devices = arguments.next().transpose()?.unwrap_or(5_000);
    let connections = arguments.next().transpose()?.unwrap_or(8);
    let simulator = Simulator::start(Config {
        think_time: Duration::ZERO,
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![IdScope {
            id_scope: SCOPE.to_owned(),
            hubs: vec!["hub-a.azure-devices.net".to_owned()],
            enrollment_groups: vec![EnrollmentGroup::new("fleet", KEY, KEY)?],
            ..IdScope::default()
        }],
        ..Config::default()
    })
    .await?;
    let tls = trusting(simulator.ca_pem())?;

    let start = Instant::now();
    let workers = (0..connections).map(|worker| {
        let (tls, address) = (tls.clone(), simulator.address());
        tokio::spawn(async move {
            let stream = TcpStream::connect(address).await?;
            let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            for device in (worker..devices).step_by(connections) {
                provision(&mut sender, &format!("device-{device}")).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    let (took, requests) = (start.elapsed().as_secs_f64(), simulator.ledger_len());
    let rate = requests as f64 / took;
    writeln!(io::stdout(), "{requests} requests in {took:.2} s: {rate:.0} a second")?;
    simulator.shutdown().await;
    Ok(())
}

fn trusting(ca_pem: &str) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn provision(sender: &mut SendRequest<Full<Bytes>>, id: &str) -> Result<(), Failure> {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let resource = escape(&format!("{SCOPE}/registrations/{id}"));
    let key = SymmetricKey::from_base64(KEY)?.derive(id);
    let signature = escape(&STANDARD.encode(key.sign(&[resource.as_bytes(), b"\n4102444800"])));
    let token = format!("SharedAccessSignature sr={resource}&sig={signature}&se=4102444800&skn=registration");
    let mut call = async |method: Method, rest: &str| -> Result<Value, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/{SCOPE}/registrations/{id}/{rest}?api-version=2021-06-01"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", &token)
            .body(Full::new(Bytes::from_static(b"{}")))?;
        sender.ready().await?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    };
    let started = call(Method::PUT, "register").await?;
    let operation = started["operationId"].as_str().ok_or("no operation id")?;
    let done = call(Method::GET, &format!("operations/{operation}")).await?;
    match done["status"].as_str() {
        Some("assigned") => Ok(()),
        other => Err(format!("{id} is {other:?}").into()),
    }
}
