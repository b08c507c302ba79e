//! No key, no derived key and no signature is ever shown, at no log level and whatever goes wrong.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dps_simulator::{Fault, FaultAction, OperationKind, Outage, RawBody};
use serde_json::{Value, json};

use crate::world::scanner::{Scanner, device_key, signature};
use crate::world::{
    INTEGRATION, Kind, PRIMARY_KEY, SCOPE, SECONDARY_KEY, Setup, WRONG_KEY, World, manifests,
};

/// Tokens are valid for so long, which is what their signatures are made over.
const TOKEN_LIFETIME: u64 = 15 * 60;
/// The operator's own records and those of every library, which a plain `trace` leaves out.
const EVERYTHING: &str = "trace,hyper=trace";
const DEVICES: [&str; 7] = ["fine", "refused", "stuck", "echoed", "garbled", "conflict", "cut-off"];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Everything secret that has to do with the devices, signatures of tokens made in these seconds included.
fn secrets_of(devices: &[&str], seconds: &RangeInclusive<u64>) -> Scanner {
    let mut scanner = Scanner::default();
    for group_key in [PRIMARY_KEY, SECONDARY_KEY, WRONG_KEY] {
        scanner.seek_base64(group_key);
        for device in devices {
            let key = device_key(group_key, device);
            scanner.seek(&key);
            for expiry in seconds.clone().map(|second| second + TOKEN_LIFETIME) {
                scanner.seek(&signature(&key, SCOPE, device, expiry));
            }
        }
    }
    scanner
}

/// What happens to be written by the simulators of this process, from now on.
fn record_simulators(file: &Path) {
    let file = std::fs::File::create(file).unwrap();
    let filter = tracing_subscriber::EnvFilter::new("dps_simulator=trace,off");
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(file).with_ansi(false);
    logs.try_init().unwrap();
}

/// Lets everything go wrong that can.
async fn cause_failures(world: &World) {
    world.device("fine").await;
    world.wait_ready("fine").await;
    world.group_key("wrong-key", WRONG_KEY).await;
    world.integration_without_key("wrong", json!({})).await;
    world.group_key("malformed-key", &PRIMARY_KEY[..PRIMARY_KEY.len() - 3]).await;
    world.integration_without_key("malformed", json!({})).await;
    world.group_key("long-key", &format!("{PRIMARY_KEY}{SECONDARY_KEY}")).await;
    world.integration_without_key("long", json!({})).await;
    world.device_with("refused", json!({"integrationRef": {"name": "wrong"}})).await;
    world.device_with("stuck", json!({"integrationRef": {"name": "malformed"}})).await;
    let echo = json!({"errorCode": 400_004, "message": format!("no {PRIMARY_KEY} for you")});
    let answer = FaultAction::Answer {
        status: 400,
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: RawBody::Text(echo.to_string()),
    };
    world.dps.inject(Fault::device("echoed", answer)).unwrap();
    world.dps.inject(Fault::device("garbled", FaultAction::Malformed)).unwrap();
    let cut_off = Fault::device("cut-off", FaultAction::Truncated).on(OperationKind::Register).times(1);
    world.dps.inject(cut_off).unwrap();
    world.create(Kind::Secret, manifests::secret("conflict-hub", &[("note", "not yours")])).await;
    for name in ["echoed", "garbled", "conflict"] {
        world.device(name).await;
    }
    world.wait_reason("refused", "Unauthorized").await;
    world.wait_integration("malformed", "KeyInvalid").await;
    world.wait_integration("long", "KeyInvalid").await;
    world.wait_reason("echoed", "InvalidConfiguration").await;
    world.wait_reason("garbled", "InvalidResponse").await;
    world.wait_reason("conflict", "SecretConflict").await;
    world.patch(Kind::Secret, "fine-hub", json!({"data": {"sharedAccessKey": "bWFuZ2xlZA=="}})).await;
    world.dps.set_outage(Outage::Reset);
    world.device("cut-off").await;
    world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    world.dps.set_outage(Outage::None);
    world.wait_ready("cut-off").await;
    world.wait_ready("fine").await;
}

/// Everything that can be read without reading Secrets.
async fn evidence(world: &World, simulators: &Path) -> Vec<(String, String)> {
    let audit = world.audit_text();
    let ours: Vec<&str> = audit.lines().filter(|line| line.contains(&world.namespace)).collect();
    let mut evidence = vec![
        ("operator's log".to_owned(), world.operator_log()),
        ("simulator's log".to_owned(), std::fs::read_to_string(simulators).unwrap()),
        ("simulator's ledger".to_owned(), format!("{:?}", world.ledger())),
        ("audit log".to_owned(), ours.join("\n")),
    ];
    for kind in [Kind::Device, Kind::Integration, Kind::Event, Kind::ConfigMap, Kind::Secret] {
        for mut object in world.list(kind).await {
            object["data"] = Value::Null;
            evidence.push((format!("{kind:?} {}", object["metadata"]["name"]), object.to_string()));
        }
    }
    evidence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_signature_is_shown_whatever_goes_wrong() {
    let simulators = std::env::temp_dir().join(format!("dps-operator-tests-{}.log", std::process::id()));
    record_simulators(&simulators);
    let since = now();
    let mut world = World::with(Setup { log_level: EVERYTHING, ..Setup::default() }).await;
    world.integration(INTEGRATION).await;

    cause_failures(&world).await;
    world.stop_operator().await;

    let scanner = secrets_of(&DEVICES, &(since..=now()));
    let evidence = evidence(&world, &simulators).await;
    std::fs::remove_file(simulators).unwrap();
    for (place, text) in &evidence {
        let found = scanner.find(text.as_bytes());
        assert_eq!(found, None, "in {place}");
        assert!(!text.contains("SharedAccessSignature"), "in {place}");
    }
    assert!(evidence[0].1.contains(" TRACE "), "the operator logged as much as it can");
    // The same search finds what is there: keys where they belong, and one that is planted in each place.
    let secret = world.secret("fine-hub").await;
    assert!(scanner.find(secret["connectionString"].as_bytes()).is_some());
    let token = signature(&device_key(PRIMARY_KEY, "fine"), SCOPE, "fine", since + TOKEN_LIFETIME);
    for (place, text) in &evidence {
        let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let (head, tail) = text.split_at(middle);
        for planted in
            [secret["sharedAccessKey"].as_str(), &PRIMARY_KEY[7..19], &crate::world::scanner::base64(&token)]
        {
            assert!(scanner.find(format!("{head}{planted}{tail}").as_bytes()).is_some(), "in {place}");
        }
    }
}
