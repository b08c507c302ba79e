//! The admin API, as scripts use it.

use bytes::Bytes;
use dps_simulator::config::loopback;
use dps_simulator::{Config, Outage, Running, SymmetricKey};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::csr::csr;
use crate::device::{self, Device, GROUP, HUB_A, HUB_B, SCOPE, device_key};
use crate::issuance;
use crate::pki::Identity;

async fn start() -> Running {
    let mut config = Config { admin: Some(loopback(0)), ..device::config() };
    config.id_scopes[0].hubs.push(HUB_B.to_owned());
    device::start(config).await
}

async fn call(simulator: &Running, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let stream = TcpStream::connect(simulator.admin_address().unwrap()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = Full::new(Bytes::from(body.to_string()));
    let request = Request::builder().method(method).uri(path).header("host", "localhost").body(body);
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn get(simulator: &Running, path: &str) -> Value {
    let (status, body) = call(simulator, Method::GET, path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn change(simulator: &Running, method: Method, path: &str, body: Value) {
    let (status, answer) = call(simulator, method, path, body).await;
    assert_eq!(status, 204, "{path}: {answer}");
}

#[tokio::test]
async fn it_says_that_it_is_healthy() {
    let simulator = start().await;
    assert_eq!(get(&simulator, "/healthz").await, json!({"status": "ok"}));
}

#[tokio::test]
async fn the_ledger_can_be_read_from_a_point_on_and_cleared() {
    let simulator = start().await;
    Device::connect(&simulator, "dev").await.provision().await;
    let entries = get(&simulator, "/v1/ledger?since=1").await["entries"].take();
    assert_eq!(entries.as_array().unwrap().len(), 1);
    let poll = &entries[0];
    assert_eq!((&poll["operation"], &poll["outcome"]), (&json!("poll"), &json!("assigned")));
    assert_eq!(poll["key"], json!({"kind": "group", "enrollment": GROUP, "slot": "primary"}));

    change(&simulator, Method::DELETE, "/v1/ledger", Value::Null).await;
    assert_eq!(get(&simulator, "/v1/ledger").await, json!({"entries": []}));
    let totals = get(&simulator, "/v1/ledger/totals").await;
    assert_eq!((&totals["register"], &totals["poll"]), (&json!(1), &json!(1)));
    assert_eq!(totals["byStatus"], json!({"200": 1, "202": 1}));
    let (status, _) = call(&simulator, Method::GET, "/v1/ledger?since=now", Value::Null).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn faults_are_injected_listed_and_cleared() {
    let simulator = start().await;
    let fault = json!({
        "registrationId": "dev",
        "operations": ["register"],
        "times": 2,
        "action": {"type": "status", "status": 429, "retryAfter": "7", "errorCode": 429001},
    });
    let (status, made) = call(&simulator, Method::POST, "/v1/faults", fault).await;
    assert_eq!((status.as_u16(), &made), (200, &json!({"id": 1})));
    let mut device = Device::connect(&simulator, "dev").await;
    assert_eq!(device.register().await.header("retry-after"), "7");
    assert_eq!(get(&simulator, "/v1/faults").await[0]["hit"], 1);

    change(&simulator, Method::DELETE, "/v1/faults/1", Value::Null).await;
    assert_eq!(call(&simulator, Method::DELETE, "/v1/faults/1", Value::Null).await.0, 404);
    assert_eq!(device.register().await.status, 202);
    simulator.inject(dps_simulator::Fault::global(dps_simulator::FaultAction::Html)).unwrap();
    change(&simulator, Method::DELETE, "/v1/faults", Value::Null).await;
    assert_eq!(get(&simulator, "/v1/faults").await, json!([]));
}

#[tokio::test]
async fn every_action_can_be_written_in_json_and_is_listed_as_it_was_written() {
    let simulator = start().await;
    let actions = [
        json!({"type": "status", "status": 503, "retryAfter": null, "errorCode": null}),
        json!({"type": "delay", "for": "500ms"}),
        json!({"type": "answer", "status": 200, "headers": {"a": "b"}, "body": {"base64": "/w=="}}),
        json!({"type": "malformed"}),
        json!({"type": "html"}),
        json!({"type": "contentType", "value": null}),
        json!({"type": "truncated"}),
        json!({"type": "reset"}),
        json!({"type": "slow", "bytesPerSecond": 1, "from": "head"}),
        json!({"type": "huge", "bytes": 100_000_000, "of": "nesting"}),
        json!({"type": "endless"}),
        json!({"type": "redirect", "status": 307, "location": "https://example.com/"}),
        json!({"type": "rewrite", "operation": {}, "registrationState": {"assignedHub": null}}),
        json!({"type": "assigning"}),
        json!({"type": "outcome", "status": "failed", "errorCode": 400_208, "errorMessage": null}),
    ];
    for action in &actions {
        let fault = json!({"registrationId": "nobody", "action": action});
        let (status, answer) = call(&simulator, Method::POST, "/v1/faults", fault).await;
        assert_eq!(status, 200, "{action}: {answer}");
    }
    let listed = get(&simulator, "/v1/faults").await;
    for (active, action) in listed.as_array().unwrap().iter().zip(&actions) {
        assert_eq!(&active["fault"]["action"], action);
    }
}

#[tokio::test]
async fn settings_are_changed_one_by_one() {
    let simulator = start().await;
    let body = json!({"thinkTime": "2m", "retryAfter": null, "quotas": {"registrationsPerMinute": 7}});
    let (status, settings) = call(&simulator, Method::PATCH, "/v1/settings", body).await;
    assert_eq!(status, 200, "{settings}");
    assert_eq!(
        settings,
        json!({
            "thinkTime": "2m",
            "assignAtOnce": false,
            "retryAfter": null,
            "quotas": {"registrationsPerMinute": 7, "pollsPerTenSeconds": 5},
        })
    );
    assert_eq!(get(&simulator, "/v1/settings").await, settings);
    let unknown = json!({"thinkTme": "1s"});
    assert_eq!(call(&simulator, Method::PATCH, "/v1/settings", unknown).await.0, 400);
}

#[tokio::test]
async fn the_clock_is_set_and_refuses_tokens_of_another_time() {
    let simulator = start().await;
    change(&simulator, Method::PUT, "/v1/clock", json!({"ahead": 7200})).await;
    assert_eq!(get(&simulator, "/v1/clock").await, json!({"ahead": 7200}));
    // The token of an hour ago.
    let mut device = Device::connect(&simulator, "truck-1").await;
    let refused = device.register().await;
    assert_eq!(device::error(&refused), (401, 401_002));
    let date = jiff::fmt::rfc2822::parse(refused.header("date")).unwrap().timestamp();
    assert!(date.as_second() - jiff::Timestamp::now().as_second() > 7100, "{date}");

    simulator.set_clock_ahead(0);
    assert_eq!(device.register().await.status, 202);
}

#[tokio::test]
async fn an_outage_is_switched_on_and_off() {
    let simulator = start().await;
    change(&simulator, Method::PUT, "/v1/outage", json!({"outage": "reset"})).await;
    assert_eq!(simulator.outage(), Outage::Reset);
    assert_eq!(get(&simulator, "/v1/outage").await, json!({"outage": "reset"}));
    change(&simulator, Method::PUT, "/v1/outage", json!({"outage": "none"})).await;
    assert_eq!(simulator.outage(), Outage::None);
}

#[tokio::test]
async fn a_device_key_can_be_checked() {
    let simulator = start().await;
    let key = device_key("dev").to_base64();
    let body = json!({"idScope": SCOPE, "registrationId": "dev", "key": key});
    let check = || call(&simulator, Method::POST, "/v1/check-device-key", body.clone());
    assert_eq!(check().await.1, json!({"accepted": false}));
    Device::connect(&simulator, "dev").await.provision().await;
    assert_eq!(check().await.1, json!({"accepted": true}));
}

#[tokio::test]
async fn groups_devices_hubs_and_records_are_changed_by_path() {
    let simulator = start().await;
    let scope = format!("/v1/scopes/{SCOPE}");
    let group = format!("{scope}/groups/{GROUP}");
    let mut device = Device::connect(&simulator, "dev").await;

    change(&simulator, Method::PUT, &format!("{group}/hub"), json!({"hub": HUB_B})).await;
    assert_eq!(device.provision().await["assignedHub"], HUB_B);
    let record = format!("{scope}/registrations/dev");
    assert_eq!(get(&simulator, &record).await["assignedHub"], HUB_B);
    change(&simulator, Method::PUT, &format!("{record}/hub"), json!({"hub": HUB_A})).await;
    assert_eq!(get(&simulator, &record).await["assignedHub"], HUB_A);
    change(&simulator, Method::DELETE, &record, Value::Null).await;
    assert_eq!(call(&simulator, Method::GET, &record, Value::Null).await.0, 404);

    let policy = json!({"updateHubAssignment": false});
    change(&simulator, Method::PUT, &format!("{group}/reprovision-policy"), policy).await;
    change(&simulator, Method::PUT, &format!("{scope}/hubs"), json!({"hubs": [HUB_A]})).await;
    let counters = format!("{scope}/quota-counters");
    let spent = call(&simulator, Method::POST, &counters, json!({"requests": 2})).await;
    assert_eq!(spent, (StatusCode::OK, json!({"admitted": 2})));
    change(&simulator, Method::DELETE, &counters, Value::Null).await;

    let shut = format!("{scope}/devices/dev/enabled");
    change(&simulator, Method::PUT, &shut, json!({"enabled": false})).await;
    assert_eq!(device.register().await.json()["status"], "disabled");
    change(&simulator, Method::PUT, &shut, json!({"enabled": true})).await;
    change(&simulator, Method::PUT, &format!("{group}/enabled"), json!({"enabled": false})).await;
    assert_eq!(device.register().await.json()["status"], "disabled");
    change(&simulator, Method::PUT, &format!("{group}/enabled"), json!({"enabled": true})).await;

    let keys = json!({"primaryKey": device::base64([9; 64]), "secondaryKey": device::secondary()});
    change(&simulator, Method::PUT, &format!("{group}/keys"), keys).await;
    assert_eq!(device.register().await.status, 401);
    change(&simulator, Method::DELETE, &group, Value::Null).await;
    let gone = call(&simulator, Method::DELETE, &group, Value::Null).await;
    assert_eq!(gone.0, 404);
    assert!(gone.1["error"].as_str().unwrap().contains(GROUP));
}

#[tokio::test]
async fn an_invalid_call_is_refused_without_showing_keys() {
    let simulator = start().await;
    let path = format!("/v1/scopes/{SCOPE}/groups/{GROUP}/keys");
    let short = json!({"primaryKey": "c2hvcnQ=", "secondaryKey": device::secondary()});
    let (status, body) = call(&simulator, Method::PUT, &path, short).await;
    assert_eq!(status, 400);
    let message = body["error"].as_str().unwrap();
    assert!(message.contains("16 to 64 bytes") && !message.contains("c2hvcnQ"), "{message}");

    for (method, path) in [(Method::GET, "/v1/nothing"), (Method::POST, "/v1/ledger"), (Method::GET, "/")] {
        assert_eq!(call(&simulator, method, path, Value::Null).await.0, 404, "{path}");
    }
    let fault = json!({"action": {"type": "explode"}});
    assert_eq!(call(&simulator, Method::POST, "/v1/faults", fault).await.0, 400);
}

#[tokio::test]
async fn certificate_authorities_handshakes_and_thumbprints_are_changed_and_read() {
    let simulator = start().await;
    let root = Identity::root("fleet-root");
    let leaf = root.device("truck-1");
    let authority = format!("/v1/scopes/{SCOPE}/certificate-authorities/root");
    let (status, body) = call(&simulator, Method::PUT, &authority, json!({"verified": true})).await;
    assert_eq!(status, 404);
    assert_eq!(
        body["error"],
        "there is no certificate authority \"root\" in this id scope; upload it with its certificate"
    );
    let pem = json!({"pem": root.pem});
    change(&simulator, Method::PUT, &authority, json!({"certificate": pem, "verified": false})).await;
    let group = format!("/v1/scopes/{SCOPE}/groups/{GROUP}/certificates");
    change(&simulator, Method::PUT, &group, json!({"primary": pem})).await;
    let connect =
        async || Device::with_certificate(&simulator, "truck-1", leaf.presented(&[])).await.unwrap();
    assert_eq!(connect().await.register().await.status, 401);
    change(&simulator, Method::PUT, &authority, json!({"verified": true})).await;
    connect().await.provision().await;

    let record = get(&simulator, &format!("/v1/scopes/{SCOPE}/registrations/truck-1")).await;
    assert_eq!(record["hubThumbprints"], json!([leaf.certificate().thumbprint().as_str()]));
    assert_eq!((&record["status"], &record["x509"]), (&json!("assigned"), &json!({})));

    for handshake in [json!("certificateNotRequested"), json!({"slow": 5}), json!("normal")] {
        change(&simulator, Method::PUT, "/v1/handshake", json!({"handshake": handshake})).await;
        assert_eq!(get(&simulator, "/v1/handshake").await["handshake"], handshake);
    }
    let other = call(&simulator, Method::PUT, &group, json!({"primary": {"pem": "none"}})).await;
    assert_eq!(other.0, 400);
}

#[tokio::test]
async fn an_individual_enrollment_gets_keys_and_a_device_id_that_counts_once_the_record_is_gone() {
    let simulator = start().await;
    let mut device = Device::connect(&simulator, "edge-7").await;
    device.provision().await;
    let path = |what: &str| format!("/v1/scopes/{SCOPE}/devices/edge-7/{what}");
    let [primary, secondary] = [5, 6].map(|byte| device::base64([byte; 32]));
    let keys = json!({"primaryKey": primary, "secondaryKey": secondary});
    change(&simulator, Method::PUT, &path("keys"), keys).await;
    change(&simulator, Method::PUT, &path("device-id"), json!({"deviceId": "edge-seven"})).await;
    assert_eq!(device.register().await.status, 401, "its own enrollment comes before the group's");

    for key in [&secondary, &primary] {
        device.sign_with(&SymmetricKey::from_base64(key).unwrap());
        assert_eq!(device.provision().await["deviceId"], "edge-7", "as its record has it");
    }
    change(&simulator, Method::DELETE, &format!("/v1/scopes/{SCOPE}/registrations/edge-7"), Value::Null)
        .await;
    assert_eq!(device.provision().await["deviceId"], "edge-seven");
    change(&simulator, Method::PUT, &path("device-id"), json!({"deviceId": null})).await;
    assert_eq!(call(&simulator, Method::PUT, &path("keys"), json!({"primaryKey": "x"})).await.0, 400);
}

#[tokio::test]
async fn certificate_policies_are_set_and_removed_and_the_root_is_read() {
    let simulator = start().await;
    let root = get(&simulator, "/v1/issuing-root").await;
    assert_eq!(root, json!({"pem": simulator.issuing_root_pem()}));
    let devices = format!("/v1/scopes/{SCOPE}/devices");
    let own = format!("{devices}/edge-7/issuance");
    let none = call(&simulator, Method::PUT, &own, json!({"validity": "7d"})).await;
    assert_eq!(none.0, 404);
    assert!(none.1["error"].as_str().unwrap().contains("no individual enrollment \"edge-7\""));
    let keys = json!({"primaryKey": device::base64([5; 32]), "secondaryKey": device::base64([6; 32])});
    change(&simulator, Method::PUT, &format!("{devices}/edge-7/keys"), keys).await;
    let mut edge = issuance::connect(&simulator, "edge-7").await;
    edge.sign_with(&SymmetricKey::from_base64(&device::base64([5; 32])).unwrap());
    let member = issuance::connect(&simulator, "dev").await;
    let group = format!("/v1/scopes/{SCOPE}/groups/{GROUP}/issuance");

    for (path, mut device) in [(own, edge), (group, member)] {
        let csr = csr(&device.registration_id);
        let body = json!({"csr": csr});
        assert_eq!(device.register_with(body.clone()).await.status, 400, "{path}");
        change(&simulator, Method::PUT, &path, json!({"validity": "7d"})).await;
        let operation = device.register_with(body.clone()).await.operation_id();
        let state = device.poll(&operation).await.json()["registrationState"].take();
        let chain = issuance::chain(&state);
        issuance::check(&chain, &csr, &device.registration_id, &simulator);
        let asked = json!({
            "idScope": SCOPE,
            "registrationId": device.registration_id,
            "certificate": {"pem": issuance::pem(&chain[0])},
        });
        let checked = call(&simulator, Method::POST, "/v1/check-device-certificate", asked).await;
        assert_eq!(checked.1, json!({"accepted": true}));
        for unfit in [json!({"validity": "0"}), json!({"validity": 7}), json!({})] {
            assert_eq!(call(&simulator, Method::PUT, &path, unfit.clone()).await.0, 400, "{unfit}");
        }
        change(&simulator, Method::DELETE, &path, Value::Null).await;
        assert_eq!(device.register_with(body).await.status, 400, "{path}");
    }
}
