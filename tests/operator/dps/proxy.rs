//! Calls to DPS through an HTTP proxy, and not past it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{INTEGRATION, Setup, World, condition};

/// A proxy that knows CONNECT and nothing else, and counts.
async fn proxy(tunnels: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let tunnels = tunnels.clone();
            // A client that goes away ends its tunnel.
            tokio::spawn(async move { tunnel(client, &tunnels).await });
        }
    });
    port
}

async fn tunnel(client: TcpStream, tunnels: &AtomicUsize) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    client.read_line(&mut request).await?;
    let host = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let host = host.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let mut line = String::new();
    while client.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(host).await?;
    tunnels.fetch_add(1, Ordering::SeqCst);
    client.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dps_is_called_through_the_proxy_that_a_flag_names() {
    let tunnels = Arc::new(AtomicUsize::new(0));
    let mut world = World::without_operator(Setup::default()).await;
    world.dps_proxy = Some(format!("http://127.0.0.1:{}", proxy(tunnels.clone()).await));
    world.start_operator().await;
    world.integration(INTEGRATION).await;

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    assert!(tunnels.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_wants_another_password_is_named_and_the_password_is_not() {
    const PASSWORD: &str = "aVeryLongPasswordOfAProxy0815";
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut client = BufReader::new(client);
            let _ = client.read_line(&mut String::new()).await;
            let _ = client.get_mut().write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        }
    });
    let mut world = World::without_operator(Setup::default()).await;
    world.dps_proxy = Some(format!("http://factory:{PASSWORD}@127.0.0.1:{port}"));
    world.start_operator().await;
    world.integration(INTEGRATION).await;

    world.device("truck-1").await;

    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    let message = condition(&integration, "Ready").unwrap().message;
    assert!(message.contains("(407)") && message.contains("--dps-proxy"), "{message}");
    let login = STANDARD.encode(format!("factory:{PASSWORD}"));
    for shown in [integration.to_string(), world.operator_log()] {
        assert!(!shown.contains(PASSWORD) && !shown.contains(&login));
    }
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dps_is_not_called_directly_when_the_proxy_is_gone() {
    let mut world = World::without_operator(Setup::default()).await;
    // An address of its own, so that no other test has the port.
    world.dps_proxy = Some("http://127.0.0.79:9".to_owned());
    world.start_operator().await;
    world.integration(INTEGRATION).await;

    world.device("truck-1").await;

    world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    assert_eq!(world.ledger(), []);
}
