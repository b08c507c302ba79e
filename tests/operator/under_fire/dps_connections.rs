//! DPS cannot be reached, says nothing, or something else answers: what it costs, what is said, and that it
//! passes by itself.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dps_simulator::{Fault, FaultAction, OperationKind, Outage, SlowFrom};
use serde_json::json;

use super::relay::{Relay, Way};
use crate::world::objects::is_ready;
use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, SCOPE, Setup, World, condition};

/// A world in which device `first` is Ready, and DPS is reached through a relay.
async fn relayed() -> (World, Relay) {
    let mut world = World::without_operator(Setup::default()).await;
    let relay = Relay::to(world.port());
    world.further_hosts.push(relay.host());
    world.start_operator().await;
    world.integration_with(INTEGRATION, json!({"hostname": relay.host()})).await;
    world.device("first").await;
    world.wait_ready("first").await;
    (world, relay)
}

/// Requests to DPS that were not answered.
async fn unanswered(world: &World) -> f64 {
    let series = r#"dps_operator_dps_requests_total{operation="register",outcome="unavailable"}"#;
    world.first_replica().metric(series).await.unwrap_or_default()
}

async fn wait_unanswered(world: &World, least: f64) {
    let tried = until_true(world.patience, POLL, async || unanswered(world).await >= least).await;
    assert!(tried, "{} of {least} requests\n{}", unanswered(world).await, world.operator_log_tail());
}

/// It is said why; twenty new devices cost no more than one.
async fn is_probed_once_at_a_time(world: &World, words: &str) {
    world.device("probe").await;
    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    let said = condition(&integration, "Ready").unwrap().message;
    assert!(said.contains(words), "{said}");
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "EndpointUnreachable");
    let before = unanswered(world).await;
    world.devices("truck", 20).await;

    // Two probes one after the other: time enough for twenty devices to have called.
    wait_unanswered(world, before + 2.0).await;

    let asked = unanswered(world).await - before;
    assert!(asked <= 3.0, "{asked} requests");
    assert!(is_ready(&world.get(Kind::Device, "first").await), "provisioned devices are not affected");
}

/// Everything goes on by itself; DPS was asked once for each device.
async fn all_go_on(world: &World) {
    world.wait_all_ready(22).await;
    world.wait_integration(INTEGRATION, "Available").await;
    assert_eq!(world.registers(), 22, "nothing had arrived before");
}

async fn passes(way: Way, words: &str) -> Vec<Vec<u8>> {
    let (world, mut relay) = relayed().await;

    relay.becomes(way).await;

    is_probed_once_at_a_time(&world, words).await;
    relay.becomes(Way::Open).await;
    all_go_on(&world).await;
    relay.received()
}

/// Kinds of the TLS records in what a client has sent.
fn records(mut sent: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = sent {
        kinds.push(*kind);
        sent = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    kinds
}

/// Nothing but the beginning of a handshake, and an alert at its end.
fn assert_no_request(received: &[Vec<u8>]) {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    assert!(!received.is_empty());
    for sent in received.iter().filter(|sent| !sent.is_empty()) {
        let kinds = records(sent);
        assert!(kinds[0] == HANDSHAKE && kinds[1..].iter().all(|kind| *kind == ALERT), "{kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_drops_everything_is_probed_once_and_not_once_for_each_device() {
    passes(Way::Blackhole, "did not answer in time").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_stalls_is_given_up_and_no_request_is_sent() {
    let received = passes(Way::Silent, "did not answer in time").await;
    assert_no_request(&received);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_tls_1_1_only_is_named_as_the_cause_and_gets_no_request() {
    let received = passes(Way::OldTls, "speaks TLS 1.2 or newer").await;
    assert_no_request(&received);
}

/// Who resolves names is the system, so that this one cannot be made to resolve later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_resolve_is_named_as_the_cause() {
    let mut world = World::without_operator(Setup::default()).await;
    world.further_hosts.push("nowhere.invalid".to_owned());
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"hostname": "nowhere.invalid"}})).await;

    is_probed_once_at_a_time(&world, "its name cannot be resolved").await;
    let right = json!({"spec": {"hostname": world.host()}});
    world.patch(Kind::Integration, INTEGRATION, right).await;
    all_go_on(&world).await;
}

/// Connections that are open when it begins are kept, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_takes_requests_and_says_nothing_is_probed_once_at_a_time() {
    let world = World::accepted().await;

    world.dps.set_outage(Outage::Silent);

    is_probed_once_at_a_time(&world, "did not answer in time").await;
    world.dps.set_outage(Outage::None);
    world.wait_all_ready(22).await;
    world.wait_integration(INTEGRATION, "Available").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_come_byte_by_byte_are_given_up_and_hold_up_no_other_device() {
    let world = World::accepted().await;
    let bytes_per_second = NonZeroU32::MIN;
    for (device, from) in [("slow-head", SlowFrom::Head), ("slow-body", SlowFrom::Body)] {
        let slow = FaultAction::Slow { bytes_per_second, from };
        world.dps.inject(Fault::device(device, slow).on(OperationKind::Register)).unwrap();
        world.device(device).await;
        world.wait_ledger("a registration", |_| world.registers_of(device) == 1).await;
    }

    world.devices("truck", 10).await;

    for number in 1..=10 {
        world.wait_ready(&format!("truck-{number}")).await;
    }
    assert!(unanswered(&world).await < 1.0, "both are waited for, and nobody waits for them");
    wait_unanswered(&world, 2.0).await;
    world.device("after").await;
    world.wait_ready("after").await;
    world.dps.clear_faults();
    world.wait_all_ready(14).await;
    world.wait_integration(INTEGRATION, "Available").await;
    assert_eq!(world.first_replica().metric("dps_operator_dps_operations_in_flight").await, Some(0.0));
}

/// A device whose own requests nothing answers cannot be told from an instance that is gone, but for the devices
/// that get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_gets_an_answer_does_not_make_others_wait_longer_each_time() {
    let world = World::accepted().await;
    world.dps.inject(Fault::device("bad", FaultAction::Reset)).unwrap();
    world.device("bad").await;
    wait_unanswered(&world, 4.0).await;
    let declared = Instant::now();

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    // Counted by the times it would be 40 s; it is 5.
    assert!(declared.elapsed() < Duration::from_secs(30), "{:?}", declared.elapsed());
    world.wait_integration(INTEGRATION, "Available").await;
}

/// Devices, and where DPS sends each of them; `other` may be called, but not because DPS says so.
fn redirects(world: &World, other: &Relay) -> Vec<(String, Fault)> {
    let itself = |device: &str| format!("https://{}/{SCOPE}/registrations/{device}/register", world.host());
    let mut redirects = Vec::new();
    for status in [301, 302, 307, 308] {
        for (to, location) in [
            ("http", format!("http://{}/", other.host())),
            ("https", format!("https://{}/", other.host())),
            ("metadata", "http://169.254.169.254/metadata/instance".to_owned()),
            ("itself", itself(&format!("itself-{status}"))),
            ("nowhere", String::new()),
            ("poll", format!("https://{}/", other.host())),
        ] {
            let device = format!("{to}-{status}");
            let on = if to == "poll" { OperationKind::Poll } else { OperationKind::Register };
            let redirect = FaultAction::Redirect { status, location };
            redirects.push((device.clone(), Fault::device(&device, redirect).on(on)));
        }
    }
    redirects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_followed_nowhere_and_no_token_goes_elsewhere() {
    let mut world = World::without_operator(Setup::default()).await;
    let mut other = Relay::to(world.port());
    other.becomes(Way::Silent).await;
    world.further_hosts.push(other.host());
    world.start_operator().await;
    world.integration(INTEGRATION).await;
    world.device("first").await;
    world.wait_ready("first").await;
    let redirects = redirects(&world, &other);

    for (device, fault) in &redirects {
        world.dps.inject(fault.clone()).unwrap();
        world.device(device).await;
    }

    for (device, _) in &redirects {
        let said = condition(&world.wait_reason(device, "InvalidResponse").await, "Ready").unwrap().message;
        assert!(said.contains("a redirect, which is never followed"), "{device}: {said}");
        assert!(!said.contains("169.254") && !said.contains(&other.host()), "{device}: {said}");
        let ledger = world.ledger();
        let asked = ledger.iter().filter(|entry| entry.registration_id.as_ref() == Some(device)).count();
        assert_eq!(asked, if device.starts_with("poll") { 2 } else { 1 }, "{device}");
    }
    assert_eq!(other.received(), Vec::<Vec<u8>>::new(), "nothing was sent to the other server");
    assert_eq!(world.generated_secrets().await.len(), 1, "that of the first device");
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
}
