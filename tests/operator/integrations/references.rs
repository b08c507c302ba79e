//! What an integration refers to is missing, wrong, mended, or gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::objects::{identity, is_ready, ready_reason};
use crate::world::{INTEGRATION, Kind, PRIMARY_KEY, SCOPE, SECONDARY_KEY, World, condition, manifests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_secret_may_come_later_and_go_again() {
    let world = World::empty().await;
    world.integration_without_key(INTEGRATION, json!({})).await;
    world.devices("truck", 3).await;
    let integration = world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "KeySecretNotFound");
    assert!(condition(&integration, "Ready").unwrap().message.contains("factory-key"));

    world.group_key("factory-key", PRIMARY_KEY).await;

    world.wait_integration(INTEGRATION, "Available").await;
    world.wait_all_ready(3).await;

    world.delete(Kind::Secret, "factory-key").await;

    world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert!(world.list(Kind::Device).await.iter().all(is_ready), "provisioned devices are left in peace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_key_is_told_apart_from_a_missing_one_and_never_shown() {
    let world = World::empty().await;
    world.create(Kind::Secret, manifests::secret("factory-key", &[("other", PRIMARY_KEY)])).await;
    world.integration_without_key(INTEGRATION, json!({})).await;
    let integration = world.wait_integration(INTEGRATION, "KeySecretNotFound").await;
    assert!(condition(&integration, "Ready").unwrap().message.contains("primaryKey"));

    let cut_off = &PRIMARY_KEY[..PRIMARY_KEY.len() - 1];
    let too_short = "ZWxldmVuIGJ5dGVz";
    let too_long = PRIMARY_KEY.repeat(2);
    let two_lines = format!("{PRIMARY_KEY}\n{PRIMARY_KEY}");
    for bad in ["", "!!! this is not base64 !!!", cut_off, too_short, &too_long, &two_lines] {
        world.change_group_key("factory-key", bad).await;
        let integration = world.wait_integration(INTEGRATION, "KeyInvalid").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "KeyInvalid", "{bad:?}");
        let message = condition(&integration, "Ready").unwrap().message;
        assert!(!message.contains("this is not") && !message.contains(&PRIMARY_KEY[..12]), "{message}");
        // Mended in between, so that each of them has to be noticed.
        world.change_group_key("factory-key", PRIMARY_KEY).await;
        world.wait_integration(INTEGRATION, "Available").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trailing_newline_in_the_key_is_forgiven() {
    let world = World::empty().await;
    world.group_key("factory-key", &format!("{PRIMARY_KEY}\n")).await;
    world.integration_without_key(INTEGRATION, json!({})).await;

    world.device("truck-1").await;

    world.wait_ready("truck-1").await;
    let key = &world.secret("truck-1-hub").await["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_secret_is_refused_as_a_group_key() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    let before = world.mark().await;

    let key = json!({"name": "truck-1-hub", "key": "sharedAccessKey"});
    let spec = json!({"attestation": {"symmetricKey": {"primaryKeyRef": key}}});
    world.integration_without_key("feedback", spec).await;
    world.device_with("truck-2", json!({"integrationRef": {"name": "feedback"}})).await;

    let integration = world.wait_integration("feedback", "KeyInvalid").await;
    assert!(condition(&integration, "Ready").unwrap().message.contains("truck-1-hub"));
    assert_eq!(world.ledger_since(before), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secondary_key_can_be_the_active_one() {
    let world = World::empty().await;
    let both = [("primaryKey", PRIMARY_KEY), ("secondaryKey", SECONDARY_KEY)];
    world.create(Kind::Secret, manifests::secret("factory-key", &both)).await;
    let keys = json!({"active": "Secondary", "secondaryKeyRef": {"name": "factory-key"}});
    world.integration_without_key(INTEGRATION, json!({"attestation": {"symmetricKey": keys}})).await;

    world.device("truck-1").await;

    let device = world.wait_ready("truck-1").await;
    assert_eq!(device["status"]["credential"]["slot"], "Secondary");
    let accepted = |i: &Value| i["status"]["credentials"]["working"] == "Secondary";
    let integration = world.wait(Kind::Integration, INTEGRATION, "accepted", accepted).await;
    let fingerprints = &integration["status"]["credentials"];
    assert_eq!(fingerprints["secondary"]["fingerprint"], device["status"]["credential"]["fingerprint"]);
    assert_ne!(fingerprints["primary"], fingerprints["secondary"]);
    let key = &world.secret("truck-1-hub").await["sharedAccessKey"];
    assert!(world.dps.accepts_device_key(SCOPE, "truck-1", key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_bundle_may_be_missing_or_broken_and_is_mended() {
    let world = World::empty().await;
    let ca = world.get(Kind::ConfigMap, "simulator-ca").await["data"]["ca.crt"].clone();
    world.delete(Kind::ConfigMap, "simulator-ca").await;
    world.integration(INTEGRATION).await;
    world.device("truck-1").await;
    let integration = world.wait_integration(INTEGRATION, "CaBundleNotFound").await;
    assert_eq!(condition(&integration, "Reconciling").unwrap().reason, "CaBundleNotFound");

    let named = |data: Value| json!({"metadata": {"name": "simulator-ca"}, "data": data});
    world.create(Kind::ConfigMap, named(json!({"another": ca}))).await;
    let told = |i: &Value| condition(i, "Ready").is_some_and(|ready| ready.message.contains("has no key"));
    world.wait(Kind::Integration, INTEGRATION, "told of the missing key", told).await;

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
async fn without_the_right_ca_nothing_is_registered() {
    let world = World::empty().await;

    world.integration_with(INTEGRATION, json!({"caBundleRef": null})).await;
    world.device("truck-1").await;

    let integration = world.wait_integration(INTEGRATION, "EndpointUnreachable").await;
    let message = condition(&integration, "Ready").unwrap().message;
    assert!(message.contains("TLS certificate is not trusted"), "{message}");
    assert_eq!(world.ledger(), [], "no request, no token");
}

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
        let name = format!("elsewhere-{number}");
        world.integration_with(&name, json!({"hostname": host})).await;
        world.device_with(&format!("truck-{number}"), json!({"integrationRef": {"name": name}})).await;
    }

    for (number, host) in hosts.iter().enumerate() {
        let integration = world.wait_integration(&format!("elsewhere-{number}"), "HostNotAllowed").await;
        assert_eq!(condition(&integration, "Stalled").unwrap().reason, "HostNotAllowed", "{host}");
    }
    assert_eq!(world.ledger(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_and_hubs_add_up() {
    let world = World::start().await;
    world.dps.set_device_enabled(SCOPE, "broken", false).unwrap();
    world.devices("truck", 6).await;
    world.device("broken").await;
    world.device_with("parked", json!({"suspend": true})).await;
    for number in 1..=6 {
        world.wait_ready(&format!("truck-{number}")).await;
    }
    world.wait_reason("broken", "Disabled").await;

    let complete = |devices: &Value| {
        *devices == json!({"total": 8, "ready": 6, "pending": 0, "failed": 1, "suspended": 1, "assigned": 6})
    };
    let integration = world.wait_counters(INTEGRATION, complete).await;

    let hubs = integration["status"]["hubs"].as_array().unwrap();
    assert_eq!(hubs.iter().map(|hub| hub["devices"].as_u64().unwrap()).sum::<u64>(), 6);
    for hub in hubs {
        let selector = format!("status.assignedHub={}", hub["hostname"].as_str().unwrap());
        let arguments = ["get", "pdev", "-n", &world.namespace, "-o", "name", "--field-selector", &selector];
        let listed = world.control_plane().kubectl_ok(&arguments).unwrap();
        assert_eq!(listed.lines().count() as u64, hub["devices"].as_u64().unwrap());
    }
    assert_eq!(integration["status"]["failures"], json!([{"reason": "Disabled", "devices": 1}]));
    assert_eq!(integration["status"]["otherHubs"], 0);
    assert_eq!(integration["status"]["acceptedIdScope"], SCOPE);
    assert_eq!(integration["status"]["credentials"]["working"], "Primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_scope_is_fixed_once_dps_has_accepted_it() {
    let world = World::empty().await;
    world.integration(INTEGRATION).await;
    world.wait_integration(INTEGRATION, "Available").await;
    let elsewhere = json!({"spec": {"idScope": "0neOTHER"}});
    world.try_patch(Kind::Integration, INTEGRATION, elsewhere.clone()).await.expect("not accepted yet");
    let back = json!({"spec": {"idScope": SCOPE}});
    world.try_patch(Kind::Integration, INTEGRATION, back).await.expect("not accepted yet");

    world.device("truck-1").await;
    world.wait_ready("truck-1").await;
    world.wait(Kind::Integration, INTEGRATION, "accepted", |i| i["status"]["acceptedIdScope"] == SCOPE).await;

    let refused = world.try_patch(Kind::Integration, INTEGRATION, elsewhere).await;
    assert!(
        refused.unwrap_err().to_string().contains("idScope is fixed"),
        "told to make another integration"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_integration_holds_new_devices_and_lets_them_go_later() {
    let world = World::empty().await;
    world.integration_with(INTEGRATION, json!({"suspend": true})).await;
    world.devices("truck", 3).await;
    let integration = world.wait_integration(INTEGRATION, "Suspended").await;
    assert!(condition(&integration, "Ready").unwrap().is_true());
    world.wait_counters(INTEGRATION, |devices| devices["pending"] == 3).await;
    assert_eq!(world.ledger(), []);
    let devices = world.list(Kind::Device).await;
    assert!(devices.iter().all(|device| ready_reason(device).is_empty()), "it is not copied to its devices");

    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"suspend": false}})).await;

    world.wait_all_ready(3).await;
}

/// The operator watches the first 128 objects that integrations refer to and reads the others now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_integrations_than_the_operator_watches_keys_of_all_work() {
    const INTEGRATIONS: usize = 140;
    let world = World::empty().await;

    for number in 1..=INTEGRATIONS {
        let name = format!("factory-{number}");
        world.integration(&name).await;
        world.device_with(&format!("truck-{number}"), json!({"integrationRef": {"name": name}})).await;
    }

    world.wait_all_ready(INTEGRATIONS).await;
    assert_eq!(world.registers(), INTEGRATIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_outside_the_prefixes_are_refused() {
    let world = World::empty().await;
    let prefixes = json!({"registrationIdPrefixes": ["truck-", "{namespace}-"]});
    world.integration_with(INTEGRATION, prefixes).await;

    world.device("truck-1").await;
    world.device("car-1").await;
    let own = format!("{}-1", world.namespace);
    world.device(&own).await;

    world.wait_ready("truck-1").await;
    world.wait_ready(&own).await;
    let refused = world.wait_reason("car-1", "ReferenceNotAllowed").await;
    assert_eq!(condition(&refused, "Stalled").unwrap().reason, "ReferenceNotAllowed");
    assert!(world.ledger().iter().all(|entry| entry.registration_id.as_deref() != Some("car-1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_told_of_a_missing_integration_after_thirty_seconds_and_go_on_when_it_comes() {
    let world = World::start().await;
    world.devices("truck", 3).await;
    world.wait_all_ready(3).await;
    let (secrets, before) = (world.generated_secrets().await, world.mark().await);
    let start = Instant::now();
    world.delete(Kind::Integration, INTEGRATION).await;
    world.device_with("early", json!({"integrationRef": {"name": "later"}})).await;
    let broken = json!({"hostname": "evil.example"});
    world.integration_with("unusable", broken).await;
    world.device_with("stuck", json!({"integrationRef": {"name": "unusable"}})).await;

    let early = world.wait_reason("early", "IntegrationNotFound").await;
    assert!(start.elapsed() >= Duration::from_secs(29), "not before it has had time to come");
    assert_eq!(condition(&early, "Reconciling").unwrap().reason, "IntegrationNotFound");
    assert!(!condition(&early, "Ready").unwrap().is_true());
    let stuck = world.wait_reason("stuck", "IntegrationNotReady").await;
    assert!(condition(&stuck, "Ready").unwrap().message.contains("unusable"));
    for number in 1..=3 {
        let device = world.wait_reason(&format!("truck-{number}"), "IntegrationNotFound").await;
        assert!(condition(&device, "Ready").unwrap().is_true(), "provisioned devices keep what they have");
        assert_eq!(condition(&device, "Registered").unwrap().status, "Unknown");
    }

    world.integration_without_key(INTEGRATION, json!({})).await;
    world.wait_integration(INTEGRATION, "Available").await;
    for number in 1..=3 {
        world.wait_reason(&format!("truck-{number}"), "Provisioned").await;
    }
    assert_eq!(world.ledger_since(before), [], "equal scope and keys: nothing to do");
    let identities = |secrets: &[Value]| secrets.iter().map(identity).collect::<Vec<_>>();
    assert_eq!(identities(&world.generated_secrets().await), identities(&secrets));

    world.integration("later").await;
    world.wait_ready("early").await;
}
