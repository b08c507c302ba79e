//! Which DPS an integration leads to, and how: id scope, host name, CA bundle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, PRIMARY_KEY, SCOPE, World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_allowed_gets_no_request() {
    let world = World::empty().await;
    let port = world.port();
    let hosts = [
        format!("127.0.0.1:{port}"),
        "localhost".to_owned(),
        format!("localhost:{}", port ^ 1),
        "evil.example".to_owned(),
        format!("localhost.evil.example:{port}"),
    ];

    for (number, host) in hosts.iter().enumerate() {
        let name = format!("factory-{number}");
        world.integration_with(&name, json!({"hostname": host})).await;
        world.device_with(&format!("truck-{number}"), json!({"integrationRef": {"name": name}})).await;
    }

    for (number, host) in hosts.iter().enumerate() {
        let integration = world.wait_integration(&format!("factory-{number}"), "HostNotAllowed").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "HostNotAllowed", "{host}");
    }
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_name_and_key_secret_for_the_same_instance_register_nothing() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    let before = world.mark().await;

    let route = json!({"spec": {"hostname": world.host().to_uppercase(), "caBundleRef": {"key": "ca.crt"}}});
    world.patch(Kind::Integration, INTEGRATION, route).await;
    world.wait_integration(INTEGRATION, "Available").await;
    world.group_key("same-key", PRIMARY_KEY).await;
    let keys = json!({"primaryKeyRef": {"name": "same-key"}});
    let other_secret = json!({"spec": {"attestation": {"symmetricKey": keys}}});
    world.patch(Kind::Integration, INTEGRATION, other_secret).await;
    world.wait_integration(INTEGRATION, "Available").await;

    world.device("last").await;
    world.wait_ready("last").await;
    assert_eq!(world.devices_asked_since(before), ["last"]);
    assert_eq!(world.writes_since(before).await.get("patch secrets"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_invalid_ca_bundle_is_reported_until_it_is_corrected() {
    let world = World::empty().await;
    let ca = world.get(Kind::ConfigMap, "simulator-ca").await["data"]["ca.crt"].clone();
    world.delete(Kind::ConfigMap, "simulator-ca").await;
    world.integration(INTEGRATION).await;
    world.device("truck-1").await;
    let integration = world.wait_integration(INTEGRATION, "CaBundleNotFound").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "CaBundleNotFound");

    let named = |data: Value| json!({"metadata": {"name": "simulator-ca"}, "data": data});
    world.create(Kind::ConfigMap, named(json!({"another": ca}))).await;
    let reported =
        |i: &Value| condition(i, "Ready").is_some_and(|ready| ready.message.contains("has no key"));
    world.wait(Kind::Integration, INTEGRATION, "reporting the missing key", reported).await;

    let too_large = format!("{}{}", "# padding\n".repeat(26_300), ca.as_str().unwrap());
    for broken in [json!("no certificate"), json!(""), json!(too_large)] {
        world.patch(Kind::ConfigMap, "simulator-ca", named(json!({"ca.crt": broken}))).await;
        let integration = world.wait_integration(INTEGRATION, "CaBundleInvalid").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "CaBundleInvalid");
    }
    assert_eq!(world.ledger(), []);

    world.patch(Kind::ConfigMap, "simulator-ca", named(json!({"ca.crt": ca}))).await;

    world.wait_ready("truck-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_bundle_that_is_no_utf_8_is_used_and_what_is_damaged_in_it_is_said() {
    let world = World::empty().await;
    let ca = world.get(Kind::ConfigMap, "simulator-ca").await["data"]["ca.crt"].clone();
    world.delete(Kind::ConfigMap, "simulator-ca").await;
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = [b"# Autorit\xe9\n", damaged.as_bytes(), ca.as_str().unwrap().as_bytes()].concat();
    let data = json!({"ca.crt": STANDARD.encode(bundle)});
    world.create(Kind::ConfigMap, json!({"metadata": {"name": "simulator-ca"}, "binaryData": data})).await;

    world.integration(INTEGRATION).await;
    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    let integration = world.wait_integration(INTEGRATION, "Available").await;
    let message = condition(&integration, "Ready").unwrap().message;
    assert!(message.contains("certificate 1 of 2 (line 2) is damaged"), "{message}");
    let warned =
        async || world.list(Kind::Event).await.iter().any(|event| event["reason"] == "CaBundleFlawed");
    assert!(until_true(world.patience, POLL, warned).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_ca_no_request_is_sent() {
    let world = World::empty().await;

    world.integration_with(INTEGRATION, json!({"caBundleRef": null})).await;
    world.device("truck-1").await;

    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    let message = condition(&integration, "Ready").unwrap().message;
    assert!(message.contains("TLS certificate is not trusted"), "{message}");
    assert_eq!(world.ledger(), [], "no request, no token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrected_ca_bundle_is_used_at_once() {
    let world = World::empty().await;
    let unrelated = unrelated_ca().await;
    let ca = json!({"metadata": {"name": "other-ca"}, "data": {"ca.crt": unrelated}});
    world.create(Kind::ConfigMap, ca).await;
    world.integration_with(INTEGRATION, json!({"caBundleRef": {"name": "other-ca"}})).await;
    world.device("truck-1").await;
    world.wait_integration(INTEGRATION, "EndpointUnreachable").await;

    let right = world.get(Kind::ConfigMap, "simulator-ca").await["data"].clone();
    world.patch(Kind::ConfigMap, "other-ca", json!({"data": right})).await;

    world.wait_ready("truck-1").await;
}

/// A CA that signed nothing here: that of another simulator.
async fn unrelated_ca() -> String {
    let other = dps_simulator::Simulator::start(crate::world::simulator()).await.unwrap();
    other.ca_pem().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_scope_is_fixed_once_dps_has_accepted_it() {
    let world = World::empty().await;
    world.integration(INTEGRATION).await;
    world.wait_integration(INTEGRATION, "Available").await;
    let other = json!({"spec": {"idScope": "0neOTHER"}});
    world.try_patch(Kind::Integration, INTEGRATION, other.clone()).await.expect("not accepted yet");
    let back = json!({"spec": {"idScope": SCOPE}});
    world.try_patch(Kind::Integration, INTEGRATION, back).await.expect("not accepted yet");

    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.wait(Kind::Integration, INTEGRATION, "accepted", |i| i["status"]["acceptedIdScope"] == SCOPE).await;

    let refused = world.try_patch(Kind::Integration, INTEGRATION, other).await;
    assert!(
        refused.unwrap_err().to_string().contains("idScope is fixed"),
        "the message says to make another integration"
    );
}
