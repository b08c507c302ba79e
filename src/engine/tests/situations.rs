//! What devices and integrations come to.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{KEY, OTHER_KEY, WATCH, World, condition};
use crate::controller::device::decide::Call;
use crate::controller::device::facts::ServedRequests;
use crate::dps::error::DpsError;
use crate::engine::Message;
use crate::engine::reconcile::outcome::{Called, Done, Outcome, Question};
use crate::kube_io::watch::Observed;

const WRONG: &str = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=";
const MINUTE: Duration = Duration::from_secs(60);
/// The rate is one call a minute.
const SLOW: &[&str] = &["--registrations-per-minute=1"];

#[tokio::test]
async fn a_device_is_registered_gets_its_secret_and_then_its_status_in_two_writes() {
    let mut world = World::start(&[]).await;
    world.until_idle(0).await;
    let before = world.writes();
    world.declare("truck-1", json!({}));

    world.until_ready("truck-1").await;

    let status = world.status("truck-1");
    let secret = world.api.get("secrets", "truck-1-hub").unwrap();
    assert_eq!(status["secret"]["resourceVersion"], secret["metadata"]["resourceVersion"]);
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], "truck-1");
    // Besides the integration's own status, which says that DPS has accepted the key.
    world.until_idle(0).await;
    assert!(world.writes() - before <= 4 && world.registers() == 1);
    assert!(world.engine.active.work(0).is_none(), "a settled device has no work");
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn that_the_api_server_refuses_a_watch_is_said_once_the_others_have_been_read() {
    let log = Log::default();
    let writer = log.clone();
    let logs = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(logs);
    let mut world = World::without_integration(&[]).await;
    world.take(Message::Integration(WATCH, Observed::Listed));
    world.take(Message::Device(WATCH, Observed::Listed));
    world.take(Message::Secret(WATCH, Observed::Forbidden));
    assert!(world.engine.sync.is_complete());

    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = said.lines().find(|line| line.contains("refuses the other watches"));
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("refused=\"secrets\"")), "{said}");
    assert!(!said.contains("every watch has been read"), "{said}");
}

#[tokio::test]
async fn a_device_that_waits_for_its_turn_for_five_minutes_is_reported_as_queued() {
    let mut world = World::start(SLOW).await;
    world.dps.control().set_think_time(Duration::from_secs(3600));
    world.declare("first", json!({}));
    world.until("the first registration", |world| world.registers() == 1).await;
    for device in ["second", "last"] {
        world.declare(device, json!({}));
    }
    world.until_idle(1).await;

    world.pass(5 * MINUTE - Duration::from_secs(1));
    world.until("the second registration", |world| world.registers() == 2).await;
    world.until_idle(2).await;
    assert_eq!(world.reason("last"), "", "it is too early to say so");
    world.pass(Duration::from_secs(2));
    world.until_reason("last", "Queued").await;

    let status = world.status("last");
    assert_eq!(condition(&status, "Reconciling")["reason"], "Queued");
    assert_eq!(condition(&status, "Ready")["status"], "False");
    world.until_idle(2).await;
    let written = status["conditions"].clone();
    world.pass(MINUTE / 2);
    world.until_idle(2).await;
    assert_eq!(world.status("last")["conditions"], written, "it is said once");
}

#[tokio::test]
async fn a_registration_without_an_end_is_reported_by_a_new_device() {
    let mut world = World::start(&[]).await;
    world.dps.control().set_think_time(Duration::from_secs(3600));
    world.declare("truck-1", json!({}));
    world.until("the registration", |world| world.registers() == 1).await;
    let held = world.engine.active.permit(0).unwrap();
    let record = world.engine.fleet.get(0).unwrap();
    let target = world.engine.registry.target(record.integration).unwrap();
    let (revision, issuer) = (target.revision, target.credentials.in_use());

    // What the client says after five minutes.
    let called = Called {
        question: Question { permit: held.permit, revision, target: revision, issuer, ca: None },
        generation: 1,
        served: ServedRequests::default(),
        call: Call::Register,
        accepted: true,
        result: Err(DpsError::Deadline),
    };
    let effect = Outcome::Called(Box::new(called));
    world.take(Message::Outcome(Done { id: 0, uid: world.engine.fleet.get(0).unwrap().uid, effect }));
    world.until_reason("truck-1", "Registering").await;

    let status = world.status("truck-1");
    assert_eq!(condition(&status, "Reconciling")["reason"], "Registering");
    assert_eq!(condition(&status, "Registered")["reason"], "NeverRegistered");
    assert_eq!(condition(&status, "SecretReady")["reason"], "Missing");
    assert_eq!(status["attempts"], 1);
}

#[tokio::test]
async fn a_deleted_secret_is_written_again_without_a_call() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    let data = world.api.get("secrets", "truck-1-hub").unwrap()["data"].clone();

    world.delete("secrets", "truck-1-hub");
    world.until("the Secret", |world| world.api.get("secrets", "truck-1-hub").is_some()).await;

    world.until_idle(0).await;
    assert_eq!(world.api.get("secrets", "truck-1-hub").unwrap()["data"], data);
    assert_eq!(world.registers(), 1);
}

#[tokio::test]
async fn another_object_of_the_same_name_begins_with_nothing_of_its_predecessor() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    for _ in 0..4 {
        world.delete("secrets", "truck-1-hub");
        world.until("the Secret", |world| world.api.get("secrets", "truck-1-hub").is_some()).await;
        world.until_idle(0).await;
        world.pass(Duration::from_secs(2));
    }
    world.engine.active.restored(0, world.now.mono);
    assert!(world.engine.active.contested(0, world.now.mono).is_some());

    world.api.delete("provisioneddevices", "truck-1");
    world.api.changes();
    world.declare("truck-1", json!({}));

    assert!(world.engine.active.contested(0, world.now.mono).is_none());
}

#[tokio::test]
async fn a_missing_integration_is_reported_after_thirty_seconds_and_not_before() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({"integrationRef": {"name": "other"}}));
    world.until_idle(0).await;
    world.pass(Duration::from_secs(29));
    world.until_idle(0).await;
    assert_eq!(world.reason("truck-1"), "");

    world.pass(Duration::from_secs(2));
    world.until_reason("truck-1", "IntegrationNotFound").await;

    assert_eq!(world.registers(), 0);
}

#[tokio::test]
async fn a_wrong_key_costs_three_refusals_and_then_one_a_minute() {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"attestation": {"symmetricKey": {
        "primaryKeyRef": {"name": "group", "key": "primaryKey"}, "secondaryKeyRef": null,
    }}}));
    world.show_keys(WRONG, OTHER_KEY);
    for number in 0..10 {
        world.declare(&format!("truck-{number}"), json!({}));
    }

    world.until("the refusal", |world| world.integration_reason() == "Unauthorized").await;
    world.until_idle(0).await;

    assert_eq!(world.dps.control().ledger_len(), 3);
    world.pass(MINUTE - Duration::from_secs(1));
    world.until_idle(0).await;
    assert_eq!(world.dps.control().ledger_len(), 3, "it is not tried again so soon");
    world.pass(Duration::from_secs(2));
    world.until("the next try", |world| world.dps.control().ledger_len() == 4).await;
    world.until_idle(0).await;
    world.show_keys(KEY, OTHER_KEY);
    world.pass(Duration::from_secs(1));
    world.until_idle(0).await;
    for number in (0..10).rev() {
        world.pass(Duration::from_secs(1));
        world.until_ready(&format!("truck-{number}")).await;
    }
}

#[tokio::test]
async fn the_other_key_is_used_while_dps_refuses_the_one_that_was_asked_for_and_the_status_says_so() {
    let mut world = World::start(&[]).await;
    world.show_keys(WRONG, OTHER_KEY);
    for number in 0..4 {
        world.declare(&format!("truck-{number}"), json!({}));
    }

    world.until("the refusal", |world| world.integration_reason() == "Unauthorized").await;
    world.until_idle(0).await;
    // A key that DPS has not accepted has three calls at once, and then one in ten seconds.
    for _ in 0..3 {
        world.pass(Duration::from_secs(11));
        world.until_idle(0).await;
    }
    world
        .until("use of the other key", |world| world.integration()["credentials"]["inUse"] == "Secondary")
        .await;
    for number in 0..4 {
        world.until_ready(&format!("truck-{number}")).await;
    }

    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.status("truck-0")["credential"]["slot"], "Secondary");
    world.until("acceptance", |world| world.integration()["credentials"]["working"] == "Secondary").await;
}

#[tokio::test]
async fn what_the_leader_has_written_is_enough_for_the_next_one() {
    let mut world = World::start(&[]).await;
    for number in 0..5 {
        world.declare(&format!("truck-{number}"), json!({}));
    }
    for number in 0..5 {
        world.until_ready(&format!("truck-{number}")).await;
    }
    world.pass(MINUTE);
    world.until_idle(0).await;
    let (writes, calls) = (world.writes(), world.dps.control().ledger_len());

    world.engine.take_over(world.now);
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_idle(0).await;

    assert_eq!((world.writes(), world.dps.control().ledger_len()), (writes, calls));
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_asked_again_and_loses_nothing() {
    let mut world = World::start(&[]).await;
    world.api.set_unavailable(&["secrets"]);
    world.declare("truck-1", json!({}));
    world.until("the registration", |world| world.registers() == 1).await;
    world.until_idle(0).await;
    assert!(world.api.names("secrets").is_empty());

    world.api.set_unavailable(&[]);
    world.pass(Duration::from_secs(7));
    world.until_ready("truck-1").await;

    assert_eq!((world.registers(), world.api.names("secrets")), (1, vec!["fleet/truck-1-hub".to_owned()]));
}

#[tokio::test]
async fn after_an_outage_of_any_length_nothing_is_waited_for_any_longer() {
    let mut world = World::start(&[]).await;
    world.declare("first", json!({}));
    world.until_ready("first").await;
    world.api.set_unavailable(&["secrets", "status"]);
    world.declare("truck-1", json!({}));
    for _ in 0..20 {
        world.pass(MINUTE * 11);
        world.until_idle(0).await;
    }
    let before = world.integration()["devices"].clone();
    let waits = |due: Option<tokio::time::Instant>| due.is_none_or(|at| at > world.now.mono + MINUTE * 9);
    assert!(waits(world.engine.ready.next_due()) && waits(world.engine.registry.next_report(false)));

    world.api.set_unavailable(&[]);
    world.engine.outage_ended(world.now);
    world.until_ready("truck-1").await;
    world.until("the counters", |world| world.integration()["devices"] != before).await;
    assert_eq!((world.engine.active.all_unanswered().count(), world.registers()), (0, 2));
}

#[tokio::test]
async fn an_api_server_that_asks_to_wait_is_waited_for() {
    for (asked, waited) in [("40", 40), ("86400", 60)] {
        let mut world = World::start(&[]).await;
        world.api.set_unavailable(&["secrets"]);
        world.declare("truck-1", json!({}));
        let busy = http::Response::builder().status(429).header("Retry-After", asked).body(()).unwrap();
        world.engine.context.server.answers.take_in(Some(&busy));
        world.until("the registration", |world| world.registers() == 1).await;
        world.until_idle(0).await;
        world.api.set_unavailable(&[]);
        world.pass(Duration::from_secs(waited));
        world.until_idle(0).await;
        assert!(world.api.names("secrets").is_empty(), "{asked}");
        world.pass(Duration::from_secs(10));
        world.until_ready("truck-1").await;
    }
}

#[tokio::test]
async fn a_suspended_integration_registers_nothing_and_goes_on_where_it_stopped() {
    let mut world = World::start(&[]).await;
    world.declare_integration(json!({"suspend": true}));
    world.declare("truck-1", json!({}));
    world.until_idle(0).await;
    assert_eq!(world.dps.control().ledger_len(), 0);

    world.declare_integration(json!({"suspend": false}));

    world.until_ready("truck-1").await;
}

#[tokio::test]
async fn of_two_devices_with_one_registration_id_the_older_is_registered() {
    let mut world = World::start(&[]).await;
    world.declare("truck-1", json!({"registrationId": "shared"}));
    world.until_ready("truck-1").await;

    world.declare("truck-2", json!({"registrationId": "shared"}));
    world.until_reason("truck-2", "DuplicateRegistrationId").await;
    world.delete("provisioneddevices", "truck-1");

    world.until_ready("truck-2").await;
}
