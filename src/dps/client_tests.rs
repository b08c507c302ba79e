//! The client against a simulator over TLS.

use std::sync::Arc;
use std::time::Duration;

use dps_simulator::config::{Quotas, Tls};
use dps_simulator::{
    Config, EnrollmentGroup, Fault, FaultAction, HugeOf, IdScope as Scope, OperationKind, RawBody, Running,
    Simulator,
};
use serde_json::{Value, json};

use super::answer::Assignment;
use super::attestation::CredentialKind;
use super::attestation::symmetric_key::EnrollmentKey;
use super::ca_bundle::CaBundle;
use super::call::Call;
use super::client::{Asked, ClientError, DpsClient, Identity};
use super::clock_offset::{ClockOffset, Off, TokenClock};
use super::error::{DpsError, Invalid};
use super::host::{AllowedHosts, Endpoint};
use super::ids::{IdScope, RegistrationId};
use super::observe::{Observer, Unobserved};
use super::operation::Progress;
use super::scrub::Shown;

pub(super) const KEY: &str = "Y29tcG9uZW50LXRlc3Qta2V5LW9mLW5vLWdyb3VwLTAwMDE=";
pub(super) const OTHER_KEY: &str = "Y29tcG9uZW50LXRlc3Qta2V5LW9mLW5vLWdyb3VwLTAwMDI=";
pub(super) const SCOPE: &str = "0neTEST";

pub(super) async fn simulator() -> Running {
    simulator_with(Tls::default()).await
}

pub(super) async fn simulator_with(tls: Tls) -> Running {
    choose_tls();
    let config = Config {
        tls,
        think_time: Duration::ZERO,
        retry_after: Some(Duration::ZERO),
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![Scope {
            id_scope: SCOPE.to_owned(),
            hubs: vec!["hub-a.azure-devices.net".to_owned()],
            enrollment_groups: vec![EnrollmentGroup::new("fleet", KEY, OTHER_KEY).unwrap()],
            ..Scope::default()
        }],
        ..Config::default()
    };
    Simulator::start(config).await.unwrap()
}

pub(super) fn choose_tls() {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(super) fn client(ca: Option<&str>) -> Result<DpsClient, ClientError> {
    observed(ca, Arc::new(Unobserved))
}

pub(super) fn observed(ca: Option<&str>, observer: Arc<dyn Observer>) -> Result<DpsClient, ClientError> {
    choose_tls();
    let suffixes = Arc::from([".azure-devices.net".to_owned()]);
    let bundle = ca.map(|pem| CaBundle::read(pem.as_bytes())).transpose()?;
    DpsClient::new(bundle.as_ref(), None, suffixes, observer)
}

pub(super) fn endpoint(port: u16) -> Endpoint {
    endpoint_at(&format!("localhost:{port}"))
}

pub(super) fn endpoint_at(host: &str) -> Endpoint {
    AllowedHosts::parse([host]).unwrap().check(host).unwrap()
}

pub(super) struct Device {
    scope: &'static str,
    id: &'static str,
    key: &'static str,
    payload: Value,
    clock: ClockOffset,
}

impl Default for Device {
    fn default() -> Self {
        Self { scope: SCOPE, id: "truck-1", key: KEY, payload: Value::Null, clock: ClockOffset::default() }
    }
}

impl Device {
    async fn register(&self, dps: &Running) -> Result<Assignment, DpsError> {
        self.register_at(endpoint(dps.address().port()), &client(Some(dps.ca_pem())).unwrap()).await
    }

    pub async fn register_at(&self, endpoint: Endpoint, client: &DpsClient) -> Result<Assignment, DpsError> {
        let scope = IdScope::parse(self.scope).unwrap();
        let id = RegistrationId::parse(self.id).unwrap();
        let credential =
            EnrollmentKey::parse(CredentialKind::GroupKey, self.key.as_bytes()).unwrap().for_device(&id);
        let identity = Identity {
            clock: &self.clock,
            endpoint: &endpoint,
            scope: &scope,
            id: &id,
            credential: &credential,
        };
        match client
            .register(identity, Asked { payload: self.payload.as_object(), ..Asked::default() }, || {})
            .await?
        {
            Progress::Assigned(assignment) => Ok(assignment),
            Progress::Delayed(delayed) => panic!("{delayed:?}"),
        }
    }

    async fn lookup(&self, dps: &Running) -> Result<Assignment, DpsError> {
        let (endpoint, scope) = (endpoint(dps.address().port()), IdScope::parse(self.scope).unwrap());
        let id = RegistrationId::parse(self.id).unwrap();
        let credential =
            EnrollmentKey::parse(CredentialKind::GroupKey, self.key.as_bytes()).unwrap().for_device(&id);
        let identity = Identity {
            clock: &self.clock,
            endpoint: &endpoint,
            scope: &scope,
            id: &id,
            credential: &credential,
        };
        client(Some(dps.ca_pem())).unwrap().lookup(identity).await
    }
}

async fn register_under(fault: Fault) -> (Result<Assignment, DpsError>, Running) {
    let dps = simulator().await;
    dps.control().inject(fault).unwrap();
    (Device::default().register(&dps).await, dps)
}

fn on_poll(action: FaultAction) -> Fault {
    Fault::global(action).on(OperationKind::Poll)
}

#[tokio::test]
async fn a_device_registers_and_is_found_again() {
    let dps = simulator().await;
    let device = Device { id: "aa:bb.c_d-1", ..Device::default() };
    let assignment = device.register(&dps).await.unwrap();
    assert_eq!(
        (assignment.hub.as_str(), assignment.device_id.as_str()),
        ("hub-a.azure-devices.net", "aa:bb.c_d-1")
    );
    assert_eq!(assignment.enrollment_group.as_ref().map(Shown::as_str), Some("fleet"));
    assert_eq!(device.lookup(&dps).await.unwrap().hub, assignment.hub);
    let calls: Vec<_> = dps.control().ledger().iter().map(|entry| entry.operation).collect();
    assert_eq!(calls, [OperationKind::Register, OperationKind::Poll, OperationKind::Lookup]);
}

#[tokio::test]
async fn an_unknown_registration_scope_and_a_wrong_key_are_distinguished() {
    let dps = simulator().await;
    assert!(matches!(Device::default().lookup(&dps).await, Err(DpsError::NotAssigned(_))));
    let elsewhere = Device { scope: "0neOTHER", ..Device::default() };
    assert!(matches!(elsewhere.register(&dps).await, Err(DpsError::NotFound(d)) if d.code == Some(404_201)));
    let wrong = Device { key: "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=", ..Device::default() };
    let Err(DpsError::Unauthorized(refusal)) = wrong.register(&dps).await else { panic!("not refused") };
    let detail = refusal.detail;
    assert_eq!((detail.http_status, detail.code), (Some(401), Some(401_002)));
    assert!(detail.tracking_id.is_some_and(|id| id.as_str().len() == 36));
    assert!(Device { key: OTHER_KEY, ..Device::default() }.register(&dps).await.is_ok());
}

#[tokio::test]
async fn what_may_pass_while_polling_is_tried_again() {
    for action in
        [FaultAction::status(503), FaultAction::throttled("0"), FaultAction::Reset, FaultAction::Truncated]
    {
        let (result, dps) = register_under(on_poll(action.clone()).times(1)).await;
        assert!(result.is_ok(), "{action:?}: {result:?}");
        assert_eq!(dps.control().totals().register, 1, "{action:?}");
    }
}

#[tokio::test]
async fn polls_keep_their_distance_unless_dps_says_otherwise() {
    let dps = simulator().await;
    dps.control().set_retry_after(None);
    dps.control().set_think_time(Duration::from_secs(3));
    Device::default().register(&dps).await.unwrap();
    let times: Vec<_> = dps.control().ledger().iter().map(|entry| entry.time).collect();
    let apart = |pair: &[jiff::Timestamp]| pair[1].duration_since(pair[0]).as_secs_f64();
    assert!(times.len() == 3 && times.windows(2).all(|pair| apart(pair) >= 1.95), "{times:?}");
}

#[tokio::test]
async fn a_forgotten_operation_is_worth_a_fresh_registration() {
    for status in [400, 404, 410] {
        let (result, _dps) = register_under(on_poll(FaultAction::status(status))).await;
        assert!(matches!(result, Err(DpsError::Forgotten(_))), "{status}: {result:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_whether_the_request_carried_a_payload() {
    for (payload, carried) in [(Value::Null, false), (json!({"site": "a"}), true)] {
        let dps = simulator().await;
        let refused = Fault::global(FaultAction::status(400)).on(OperationKind::Register);
        dps.control().inject(refused).unwrap();
        let result = Device { payload, ..Device::default() }.register(&dps).await;
        let Err(DpsError::Rejected { call, .. }) = result else { panic!("{result:?}") };
        assert_eq!(call, Call::Register { payload: carried, csr: false });
    }
}

#[tokio::test]
async fn an_operation_is_asked_for_by_an_id_that_a_path_can_have_or_not_at_all() {
    for id in ["", " ", ".", "..", "a\u{0}", &"4".repeat(60_000)] {
        let body = json!({"operationId": id, "status": "assigning"}).to_string();
        let register = Fault::global(FaultAction::json(&body)).on(OperationKind::Register);
        let (result, dps) = register_under(register).await;
        assert_eq!(
            result,
            Err(DpsError::InvalidResponse(Invalid::NoOperationId)),
            "{:?}",
            &id[..id.len().min(9)]
        );
        assert_eq!(dps.control().totals().poll, 0);
        // A poll that says so is asked for by the id that is known.
        let rewritten = json!({"operationId": id, "status": "assigning"}).as_object().unwrap().clone();
        let rewrite =
            FaultAction::Rewrite { operation: rewritten, registration_state: serde_json::Map::new() };
        let (result, dps) = register_under(on_poll(rewrite).times(1)).await;
        assert!(result.is_ok(), "{result:?}");
        assert!(dps.control().ledger().iter().all(|entry| entry.operation != OperationKind::Other));
    }
}

#[tokio::test]
async fn calls_that_are_under_way_when_the_clock_jumps_are_refused_for_the_clock() {
    let dps = simulator().await;
    let late = FaultAction::Delay { time: Duration::from_millis(300) };
    dps.control().inject(Fault::global(late).after_processing().times(6)).unwrap();
    dps.control().set_clock_ahead(2 * 3600);
    let device = Device::default();

    let six = futures_util::future::join_all((0..6).map(|_| device.register(&dps))).await;

    assert!(six.iter().all(|result| *result == Err(DpsError::ClockOff)), "{six:?}");
    assert!(device.register(&dps).await.is_ok(), "the next one is made for DPS's time");
    let wrong = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=";
    let wrong = Device { key: wrong, clock: device.clock, ..Device::default() };
    let Err(DpsError::Unauthorized(refusal)) = wrong.register(&dps).await else { panic!("not refused") };
    assert_eq!(refusal.clock, TokenClock::Corrected(Off::Behind));
    let issuer = EnrollmentKey::parse(CredentialKind::GroupKey, wrong.key.as_bytes()).unwrap().id();
    assert_eq!((refusal.issuer, refusal.concerns_credential()), (issuer, true));
}

#[tokio::test]
async fn a_clock_that_is_days_off_is_named_and_condemns_no_key() {
    for (ahead, off) in [(2 * 86_400, Off::Behind), (56 * 365 * 86_400, Off::Behind)] {
        let dps = simulator().await;
        dps.control().set_clock_ahead(ahead);
        for _ in 0..2 {
            let Err(DpsError::Unauthorized(refusal)) = Device::default().register(&dps).await else {
                panic!("not refused")
            };
            assert_eq!(refusal.clock, TokenClock::Unbelievable(off));
            assert!(!refusal.concerns_credential());
        }
    }
}

#[tokio::test]
async fn refusals_keep_what_dps_said() {
    let throttled = FaultAction::throttled("7");
    let (result, _dps) = register_under(Fault::global(throttled)).await;
    assert!(
        matches!(result, Err(DpsError::Throttled { retry_after: Some(wait), .. }) if wait == Duration::from_secs(7))
    );
    let (result, _dps) = register_under(Fault::global(FaultAction::status(500))).await;
    assert!(matches!(result, Err(DpsError::Server { .. })));
    let (result, _dps) = register_under(Fault::global(FaultAction::status(409))).await;
    assert!(matches!(result, Err(DpsError::Conflict(_))));
}

#[tokio::test]
async fn a_clock_that_is_off_costs_one_refusal_for_all_calls_to_an_instance() {
    let dps = simulator().await;
    let date = |hours| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        let (headers, body) = ([("date".to_owned(), date)].into(), RawBody::Text("{}".to_owned()));
        Fault::global(FaultAction::Answer { status: 401, headers, body }).times(1)
    };
    let device = Device::default();
    dps.control().inject(date(1)).unwrap();
    assert_eq!(device.register(&dps).await, Err(DpsError::ClockOff));
    assert!(device.register(&dps).await.is_ok());
    // Refused although the token was made for DPS's time: then it is not the clock.
    dps.control().inject(date(1)).unwrap();
    assert!(matches!(device.register(&dps).await, Err(DpsError::Unauthorized(_))));
    // The clock has been set right: the next refusal shows it.
    dps.control().inject(date(0)).unwrap();
    assert_eq!(device.register(&dps).await, Err(DpsError::ClockOff));
    assert!(device.register(&dps).await.is_ok());
}

#[tokio::test]
async fn answers_that_cannot_be_accepted_are_not() {
    let state = |field: &str, value: &str| FaultAction::rewrite_state(field, json!(value));
    let many = (0..70).map(|number| (format!("x-filler-{number}"), "a".to_owned())).collect();
    for (action, why) in [
        (FaultAction::Malformed, Invalid::NotJson),
        (FaultAction::Html, Invalid::NotJson),
        (FaultAction::json("[[[[[[[["), Invalid::NotJson),
        (state("assignedHub", "evil.example"), Invalid::HubSuffix("evil.example".into())),
        (state("assignedHub", "a;b.azure-devices.net"), Invalid::HubHostname),
        (state("registrationId", "truck-2"), Invalid::RegistrationId),
        (state("deviceId", "truck-2"), Invalid::DeviceId),
        (FaultAction::Huge { bytes: 2 << 20, of: HugeOf::Space }, Invalid::TooLarge),
        (FaultAction::Endless, Invalid::TooLarge),
        (FaultAction::Huge { bytes: 20_000, of: HugeOf::Header }, Invalid::TooLarge),
        (FaultAction::Huge { bytes: 1_000_000, of: HugeOf::Header }, Invalid::TooLarge),
        (
            FaultAction::Answer { status: 200, headers: many, body: RawBody::Text("{}".to_owned()) },
            Invalid::TooLarge,
        ),
    ] {
        let (result, _dps) = register_under(on_poll(action.clone())).await;
        assert_eq!(result, Err(DpsError::InvalidResponse(why)), "{action:?}");
    }
    let (result, _dps) =
        register_under(on_poll(FaultAction::Huge { bytes: 200_000, of: HugeOf::Nesting })).await;
    assert_eq!(result, Err(DpsError::InvalidResponse(Invalid::NotJson)));
}

#[tokio::test]
async fn redirects_are_not_followed_and_no_token_goes_elsewhere() {
    let target = simulator().await;
    for status in [301, 302, 307, 308] {
        let location = format!("https://localhost:{}/x", target.address().port());
        let (result, _dps) = register_under(Fault::global(FaultAction::Redirect { status, location })).await;
        assert_eq!(result, Err(DpsError::InvalidResponse(Invalid::Redirect)), "{status}");
    }
    assert_eq!(target.control().ledger_len(), 0);
}

#[tokio::test]
async fn a_long_wait_that_dps_asks_for_is_waited_and_not_registered_once_more() {
    let (register, poll) = (OperationKind::Register, OperationKind::Poll);
    let (long, sure) = (jiff::SignedDuration::from_secs(4), jiff::SignedDuration::from_secs(2));
    let after = |wait| jiff::Timestamp::now() + wait;
    let until = after(long);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&until).unwrap();
    let going_on = |text: &str| {
        let headers = [("retry-after".to_owned(), text.to_owned())].into();
        let body = RawBody::Text(json!({"status": "assigning"}).to_string());
        FaultAction::Answer { status: 202, headers, body }
    };
    let failing =
        |status| FaultAction::Status { status, retry_after: Some("3".to_owned()), error_code: None };
    for fault in [
        Fault::global(going_on(&date)).on(poll),
        Fault::global(going_on("3")).on(poll),
        Fault::global(failing(429)).on(poll),
        Fault::global(failing(503)).on(poll),
    ] {
        let dps = simulator().await;
        dps.control().inject(fault.clone().times(1)).unwrap();
        let impatient =
            client(Some(dps.ca_pem())).unwrap().with_operation_timeout(Duration::from_millis(2900));
        let earliest = if fault.action == going_on(&date) { until - sure } else { after(sure) };

        let result = Device::default().register_at(endpoint(dps.address().port()), &impatient).await;

        assert!(result.is_ok(), "{fault:?}: {result:?}");
        assert!(jiff::Timestamp::now() >= earliest, "{fault:?}");
        assert_eq!(dps.control().totals().register, 1);
    }
    // On the answer to the registration itself.
    let dps = simulator().await;
    dps.control().set_retry_after(Some(Duration::from_secs(3)));
    let impatient = client(Some(dps.ca_pem())).unwrap().with_operation_timeout(Duration::from_millis(2900));
    assert!(Device::default().register_at(endpoint(dps.address().port()), &impatient).await.is_ok());
    let calls: Vec<_> = dps.control().ledger().iter().map(|entry| entry.operation).collect();
    assert_eq!(calls, [register, poll]);
}

#[tokio::test]
async fn an_operation_without_an_end_is_given_up() {
    let dps = simulator().await;
    dps.control().set_think_time(Duration::from_secs(3600));
    let impatient = client(Some(dps.ca_pem())).unwrap().with_operation_timeout(Duration::from_secs(3));

    let result = Device::default().register_at(endpoint(dps.address().port()), &impatient).await;

    assert_eq!(result, Err(DpsError::Deadline));
    let polls = dps.control().ledger().iter().filter(|entry| entry.operation == OperationKind::Poll).count();
    assert!((1..=2).contains(&polls), "{polls} polls");
}
