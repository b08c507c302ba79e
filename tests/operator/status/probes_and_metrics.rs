//! What probes and metrics show.

use crate::world::waiting::until_true;
use crate::world::{INTEGRATION, Kind, POLL, Setup, WRONG_KEY, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_devices_calls_and_requests_and_name_no_device() {
    const DEVICES: usize = 7;
    let world = World::start().await;
    world.devices("truck", DEVICES).await;
    world.wait_all_ready(DEVICES).await;
    world.wait_counters(INTEGRATION, |devices| devices["ready"] == DEVICES).await;

    let replica = world.first_replica();
    let of = |name: &str, rest: &str| {
        format!(
            "dps_operator_{name}{{integration=\"{INTEGRATION}\",namespace=\"{}\"{rest}}}",
            world.namespace
        )
    };
    let devices = DEVICES as f64;
    for (series, value) in [
        (of("devices", ",state=\"ready\""), devices),
        (of("devices", ",state=\"failed\""), 0.0),
        (of("devices_assigned", ""), devices),
        (of("integration_ready", ",reason=\"Available\""), 1.0),
        (r#"dps_operator_dps_requests_total{operation="register",outcome="success"}"#.to_owned(), devices),
        (r#"dps_operator_permits_total{lane="new"}"#.to_owned(), devices),
        (r#"dps_operator_queue_length{lane="new"}"#.to_owned(), 0.0),
        (r#"dps_operator_api_requests_total{outcome="success",resource="secrets",verb="create"}"#.to_owned(), devices),
        (r#"dps_operator_api_requests_total{outcome="success",resource="provisioneddevices/status",verb="update"}"#.to_owned(), devices),
        (r#"dps_operator_watch_synced{kind="secrets"}"#.to_owned(), 1.0),
        ("dps_operator_leader".to_owned(), 1.0),
        ("dps_operator_throttled_total".to_owned(), 0.0),
        (format!("dps_operator_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        // Gauges are set once a second.
        let shows = until_true(world.patience, POLL, async || replica.metric(&series).await == Some(value)).await;
        assert!(shows, "{series}: {:?}", replica.metric(&series).await);
    }
    let text = replica.page("/metrics").await.text;
    assert!(!text.contains("truck"), "no device is named");

    world.delete(Kind::Integration, INTEGRATION).await;
    let gone = of("integration_ready", ",reason=\"Available\"");
    let is_gone = until_true(world.patience, POLL, async || replica.metric(&gone).await.is_none()).await;
    assert!(is_gone, "the integration is still shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_and_the_integration_is_shown_as_not_ready() {
    let world = World::empty().await;
    world.group_key("factory-key", WRONG_KEY).await;
    world.integration_without_key(INTEGRATION, serde_json::json!({})).await;
    world.device("truck-1").await;
    world.wait_integration(INTEGRATION, "Unauthorized").await;

    let replica = world.first_replica();
    let shown = format!(
        "dps_operator_integration_ready{{integration=\"{INTEGRATION}\",namespace=\"{}\",reason=\"Unauthorized\"}}",
        world.namespace
    );
    let shows = until_true(world.patience, POLL, async || replica.metric(&shown).await == Some(0.0)).await;
    assert!(shows, "{shown}");
    let refused = r#"dps_operator_dps_requests_total{operation="register",outcome="refused"}"#;
    assert!(replica.metric(refused).await.is_some_and(|count| count >= 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_is_ready_only_once_it_has_read_all_objects_and_alive_all_the_time() {
    let mut world = World::without_operator(Setup::default()).await;
    world.delete(Kind::RoleBinding, "operator").await;
    world.start_operator().await;
    let page = world.first_replica().page("/readyz").await;
    assert_eq!((page.status, page.text.as_str()), (503, "the cluster's objects have not all been read\n"));
    assert_eq!(world.first_replica().page("/livez").await.status, 200);

    world.allow_operator().await;

    world.first_replica().wait_synced().await;
}
