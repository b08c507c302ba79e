use super::fleet::{INTEGRATIONS_SHOWN, NAMESPACES_SHOWN};
use super::*;
use crate::telemetry::watches::WatchStates;

fn gauges(number: usize) -> IntegrationGauges {
    IntegrationGauges {
        namespace: "fleet".to_owned(),
        name: format!("factory-{number}"),
        ready: true,
        reason: "Available".to_owned(),
        devices: [("ready", 3), ("pending", 1), ("failed", 0), ("suspended", 0)],
        assigned: 3,
        hubs: vec![("hub-a.azure-devices.net".to_owned(), 3)],
        failures: vec![("Unauthorized".to_owned(), 1)],
        fallen_back: true,
        certificates: Some(CertificateGauges {
            states: [
                ("current", 5),
                ("unregistered", 4),
                ("overdue", 3),
                ("expired", 2),
                ("missing", 1),
                ("invalid", 0),
            ],
            earliest_expiry: Some(1_800_000_000),
        }),
        rotation: Some(RotationGauges { total: 3, pending: 2, blocked: true }),
    }
}

/// With labels as the engine names them.
fn metrics() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.begin_series_at_zero(&Labels {
        lanes: &["new", "changed", "fleet", "last"],
        kinds: &["dpsintegrations", "provisioneddevices", "secrets"],
        credentials: &["key", "certificate"],
        operations: &["register"],
        outcomes: &["throttled", "unavailable"],
    });
    metrics
}

fn unserved(number: usize) -> Unserved {
    Unserved { namespace: format!("tenant-{number}"), devices: 2 }
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{text}"))
}

#[test]
fn the_fleet_is_shown_by_integration_and_what_is_gone_is_not() {
    let metrics = metrics();
    metrics.set_fleet(vec![gauges(1)], vec![unserved(1)]);
    let text = metrics.text(&WatchStates::default()).unwrap();
    let labels = r#"{integration="factory-1",namespace="fleet""#;
    assert_eq!(
        line(&text, &format!("dps_operator_devices{labels},state=\"ready\"")).rsplit(' ').next(),
        Some("3")
    );
    for (name, value) in [
        (r#"integration_ready{integration="factory-1",namespace="fleet",reason="Available"}"#, "1"),
        (r#"hub_devices{hub="hub-a.azure-devices.net",integration="factory-1",namespace="fleet"}"#, "3"),
        (r#"device_failures{integration="factory-1",namespace="fleet",reason="Unauthorized"}"#, "1"),
        (r#"key_rotation_blocked{integration="factory-1",namespace="fleet"}"#, "1"),
        (r#"key_rotation_pending{integration="factory-1",namespace="fleet"}"#, "2"),
        (r#"certificates{integration="factory-1",namespace="fleet",state="overdue"}"#, "3"),
        (
            r#"certificate_earliest_expiry_timestamp_seconds{integration="factory-1",namespace="fleet"}"#,
            "1800000000",
        ),
        (r#"key_fallback{integration="factory-1",namespace="fleet"}"#, "1"),
        (r#"devices_without_integration{namespace="tenant-1"}"#, "2"),
    ] {
        assert_eq!(line(&text, &format!("dps_operator_{name}")).rsplit(' ').next(), Some(value));
    }
    metrics.set_fleet(Vec::new(), Vec::new());
    let text = metrics.text(&WatchStates::default()).unwrap();
    assert!(!text.contains("factory-1") && !text.contains("tenant-1"));
}

#[test]
fn the_number_of_series_is_bounded_however_many_integrations_there_are() {
    let metrics = metrics();
    let unserved = (0..NAMESPACES_SHOWN + 7).map(unserved).collect();
    metrics.set_fleet((0..INTEGRATIONS_SHOWN + 7).map(gauges).collect(), unserved);
    let text = metrics.text(&WatchStates::default()).unwrap();
    assert_eq!(line(&text, "dps_operator_integrations_not_shown"), "dps_operator_integrations_not_shown 7");
    let shown = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(shown("dps_operator_integration_ready{"), INTEGRATIONS_SHOWN);
    assert_eq!(shown("dps_operator_devices_without_integration{"), NAMESPACES_SHOWN);
}

#[test]
fn any_number_of_integrations_hides_none_of_another_namespace() {
    let metrics = metrics();
    let many = (0..INTEGRATIONS_SHOWN + 7).map(gauges);
    let other = ["b", "a"].map(|name| IntegrationGauges {
        namespace: "later".to_owned(),
        name: name.to_owned(),
        ..IntegrationGauges::default()
    });
    metrics.set_fleet(many.chain(other).collect(), Vec::new());
    let text = metrics.text(&WatchStates::default()).unwrap();
    for name in ["a", "b"] {
        line(&text, &format!(r#"dps_operator_devices_assigned{{integration="{name}",namespace="later"}}"#));
    }
    assert_eq!(line(&text, "dps_operator_integrations_not_shown"), "dps_operator_integrations_not_shown 9");
}

#[test]
fn calls_and_requests_are_counted_by_what_came_of_them_conflicts_and_throttling_too() {
    let metrics = metrics();
    metrics.count_dps_request("register", "throttled", Duration::from_millis(20));
    metrics.count_dps_handshake("certificate");
    metrics.count_api_request("update", "provisioneddevices/status", "conflict");
    metrics.count_api_request("watch", "secrets", "success");
    metrics.count_grant("new", Duration::from_secs(2));
    let text = metrics.text(&WatchStates::default()).unwrap();
    for expected in [
        "dps_operator_throttled_total 1",
        r#"dps_operator_dps_handshakes_total{credential="certificate"} 1"#,
        r#"dps_operator_dps_handshakes_total{credential="key"} 0"#,
        r#"dps_operator_dps_requests_total{operation="register",outcome="throttled"} 1"#,
        r#"dps_operator_write_conflicts_total{resource="provisioneddevices/status"} 1"#,
        r#"dps_operator_watch_starts_total{resource="secrets"} 1"#,
        r#"dps_operator_permits_total{lane="new"} 1"#,
        r#"dps_operator_permits_total{lane="last"} 0"#,
        r#"dps_operator_queue_wait_seconds_sum{lane="new"} 2"#,
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
    }
}

/// rate() does not see the increase with which a series begins.
#[test]
fn what_alerts_count_is_there_before_anything_has_happened() {
    let metrics = metrics();
    let text = metrics.text(&WatchStates::default()).unwrap();
    for expected in [
        r#"dps_operator_dps_requests_total{operation="register",outcome="unavailable"} 0"#,
        r#"dps_operator_dps_request_duration_seconds_count{operation="register"} 0"#,
        r#"dps_operator_api_requests_total{outcome="refused",resource="secrets",verb="create"} 0"#,
        r#"dps_operator_write_conflicts_total{resource="dpsintegrations/status"} 0"#,
        r#"dps_operator_queue_wait_seconds_bucket{lane="new",le="300"} 0"#,
        r#"dps_operator_permits_total{lane="changed"} 0"#,
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_are_shown_by_kind_with_their_age_and_what_is_no_longer_watched_is_not() {
    let (metrics, states) = (metrics(), WatchStates::default());
    let shown = || {
        let text = metrics.text(&states).unwrap();
        ["watch_synced", "watch_last_event_seconds", "watches_stale"].map(|name| {
            let start = format!("dps_operator_{name}{{kind=\"secrets\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        })
    };
    let (said, none) = (|value: &str| Some(value.to_owned()), None);
    let [watch, _other] = [(); 2].map(|()| states.begin("secrets", false));
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(shown(), [said("0"), said("7"), said("0")], "nothing has been read");

    metrics.set_synced("secrets", true);
    assert_eq!(shown(), [said("1"), said("7"), said("0")]);
    watch.set_stale(true);
    assert_eq!(shown(), [said("0"), said("7"), said("1")], "what was read may be out of date");
    watch.set_stale(false);
    assert_eq!(shown()[0], said("1"));

    drop((watch, _other));
    assert_eq!(shown()[1..], [none.clone(), none]);
}

/// docs/monitoring.md describes every metric, and the chart's alerts and dashboard ask for no other.
#[test]
fn every_metric_is_documented() {
    let states = WatchStates::default();
    let _watch = states.begin("secrets", false);
    let metrics = metrics();
    metrics.set_fleet(vec![gauges(1)], vec![unserved(1)]);
    metrics.count_grant("new", Duration::ZERO);
    metrics.count_dps_request("register", "success", Duration::ZERO);
    metrics.count_failed_operation("Disabled");
    metrics.count_api_request("create", "secrets", "conflict");
    metrics.count_api_request("watch", "secrets", "success");
    let text = metrics.text(&states).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE dps_operator_")?.split(' ').next())
        .collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/monitoring.md")).unwrap();
    let missing: Vec<_> = names.iter().filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, Vec::<&&str>::new());
    let chart = std::fs::read_to_string(root.join("tests/chart/metrics.txt")).unwrap();
    let shown = names.iter().map(|name| format!("dps_operator_{name}"));
    let listed = chart.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    assert_eq!(shown.collect::<std::collections::BTreeSet<_>>(), listed.collect());
}
