use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// A kubelet waits for one second unless it is told otherwise.
const PROBE: Duration = Duration::from_secs(1);
const ANY: &str = "127.0.0.1:0";

/// As many as the flood of a test fills in less than a second.
const LIMITS: Limits = Limits { all: 256, of_one_peer: 192 };

fn started(purpose: Purpose) -> SocketAddr {
    start_with(LIMITS, purpose, ANY.parse().unwrap(), Arc::new(Telemetry::new().unwrap())).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(10 * PROBE)).unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut asked = connect(address);
    asked.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
    read(&mut asked)
}

/// Until it is closed.
fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// What a peer does with each of its connections.
type Habit = fn(&mut TcpStream);

fn silent(_: &mut TcpStream) {}
fn half_a_request(stream: &mut TcpStream) {
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: ");
}
fn a_body_that_never_comes(stream: &mut TcpStream) {
    let _ = stream.write_all(b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
}
fn no_http(stream: &mut TcpStream) {
    let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3]);
}
fn metrics_unread(stream: &mut TcpStream) {
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn no_flood_delays_a_probe_even_from_its_own_address() {
    const HABITS: [Habit; 5] = [silent, half_a_request, a_body_that_never_comes, no_http, metrics_unread];
    for (number, habit) in HABITS.into_iter().enumerate() {
        let address = started(Purpose::ProbesAndMetrics);
        let (end, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (end.clone(), made.clone());
        let flood = thread::spawn(move || {
            // They are kept, so that only the server can close them.
            let mut kept = std::collections::VecDeque::new();
            while !ended.load(Ordering::Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(address) {
                    habit(&mut stream);
                    kept.push_back(stream);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // As fast as a client on a busy machine; what a listener can bear depends on the machine, too.
                thread::sleep(Duration::from_millis(1));
                kept.drain(..kept.len().saturating_sub(2 * LIMITS.all));
            }
        });
        // Until more has come than there are places.
        while made.load(Ordering::Relaxed) < 2 * LIMITS.all {
            let asked = Instant::now();
            assert!(get(address, "/livez").starts_with("HTTP/1.1 200"), "habit {number}");
            assert!(asked.elapsed() < PROBE, "habit {number}: {:?}", asked.elapsed());
        }
        end.store(true, Ordering::Relaxed);
        flood.join().unwrap();
    }
}

#[test]
fn connections_that_stay_delay_no_probe_and_are_closed_after_a_second() {
    for purpose in [Purpose::ProbesAndMetrics, Purpose::Probes] {
        let address = started(purpose);
        let mut idle: Vec<TcpStream> = (0..LIMITS.all + 8).map(|_| connect(address)).collect();
        let begun = Instant::now();
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        assert!(begun.elapsed() < PROBE, "{:?}", begun.elapsed());
        // The last one was not closed for another.
        let last = idle.last_mut().unwrap();
        last.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        assert!(!read(last).starts_with("HTTP/1.1 200"));
        assert!(begun.elapsed() < HEADERS + PROBE, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_request_that_drips_is_closed_after_a_second() {
    let mut slow = connect(started(Purpose::Probes));
    slow.set_read_timeout(Some(HEADERS / 10)).unwrap();
    let begun = Instant::now();
    let mut letters = b"GET /livez HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'a'));
    // Reading is the wait between two letters.
    while slow.write_all(&[*letters.next().unwrap()]).is_ok() {
        match slow.read(&mut [0; 64]) {
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => assert!(begun.elapsed() < 3 * HEADERS, "it was served for {:?}", begun.elapsed()),
        }
    }
}

#[test]
fn headers_without_end_are_refused_before_they_take_memory() {
    let mut endless = connect(started(Purpose::Probes));
    let mut sent = 0;
    endless.write_all(b"GET /livez HTTP/1.1\r\nx: ").unwrap();
    while endless.write_all(&[b'a'; 1024]).is_ok() {
        sent += 1;
        assert!(sent < 16 * 1024, "16 MiB of headers were taken");
    }
}

#[test]
fn each_listener_has_the_pages_that_it_is_for() {
    let (both, probes) = (started(Purpose::ProbesAndMetrics), started(Purpose::Probes));
    for (address, path, status) in [
        (both, "/livez", "200"),
        (both, "/readyz", "503"),
        (both, "/metrics", "200"),
        (probes, "/livez", "200"),
        (probes, "/readyz", "503"),
        (probes, "/metrics", "404"),
    ] {
        let answer = get(address, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

#[test]
fn metrics_are_never_older_than_the_request_however_many_ask() {
    let telemetry = Arc::new(Telemetry::new().unwrap());
    let address = start(Purpose::ProbesAndMetrics, ANY.parse().unwrap(), telemetry.clone()).unwrap();
    let others: Vec<_> = (0..8).map(|_| thread::spawn(move || get(address, "/metrics"))).collect();
    assert!(get(address, "/metrics").contains("\ndps_operator_leader 0\n"));
    telemetry.metrics.set_leading();
    assert!(get(address, "/metrics").contains("\ndps_operator_leader 1\n"));
    assert!(others.into_iter().all(|other| other.join().unwrap().contains("\ndps_operator_leader ")));
}

#[test]
fn an_address_that_is_taken_is_said_by_its_flag() {
    let taken = started(Purpose::Probes);
    let telemetry = Arc::new(Telemetry::new().unwrap());
    for (purpose, flag) in [(Purpose::Probes, "--probe-addr"), (Purpose::ProbesAndMetrics, "--http-addr")] {
        let error = start(purpose, taken, telemetry.clone()).unwrap_err().to_string();
        assert_eq!(error, format!("{flag} {taken} cannot be listened on; is it taken?"));
    }
}
