//! Operations for which DPS asks for a long wait, against a simulator.

use std::time::Duration;

use dps_simulator::{Fault, FaultAction, OperationKind, Running};
use tokio::time::Instant;

use super::attestation::CredentialKind;
use super::attestation::symmetric_key::EnrollmentKey;
use super::client::{Asked, DpsClient, Identity};
use super::client_tests::{KEY, OTHER_KEY, SCOPE, client, endpoint, endpoint_at, simulator};
use super::clock_offset::ClockOffset;
use super::error::DpsError;
use super::host::Endpoint;
use super::ids::{IdScope, RegistrationId};
use super::operation::{Delayed, OpenOperation, Progress};
use super::patience::Patience;
use crate::clock;

const LONG: Duration = Duration::from_secs(20 * 60);
const SHORT: Duration = Duration::from_secs(1);

/// A device at one instance.
struct Device {
    endpoint: Endpoint,
    scope: &'static str,
    id: &'static str,
    key: &'static str,
    client: DpsClient,
}

impl Device {
    fn of(dps: &Running) -> Self {
        let endpoint = endpoint(dps.address().port());
        let client = client(Some(dps.ca_pem())).unwrap();
        Self { endpoint, scope: SCOPE, id: "truck-1", key: KEY, client }
    }

    /// Registers, or resumes this operation.
    async fn go_on(&self, open: Option<OpenOperation>) -> Result<Progress, DpsError> {
        let (clock, scope) = (ClockOffset::default(), IdScope::parse(self.scope).unwrap());
        let id = RegistrationId::parse(self.id).unwrap();
        let credential =
            EnrollmentKey::parse(CredentialKind::GroupKey, self.key.as_bytes()).unwrap().for_device(&id);
        let identity = Identity {
            clock: &clock,
            endpoint: &self.endpoint,
            scope: &scope,
            id: &id,
            credential: &credential,
        };
        match open {
            Some(open) => self.client.resume(identity, open).await,
            None => self.client.register(identity, Asked::default(), || {}).await,
        }
    }

    async fn register(&self) -> Delayed {
        delayed(self.go_on(None).await)
    }

    async fn resume(&self, open: OpenOperation) -> Result<Progress, DpsError> {
        self.go_on(Some(open)).await
    }
}

fn delayed(progress: Result<Progress, DpsError>) -> Delayed {
    match progress {
        Ok(Progress::Delayed(delayed)) => *delayed,
        other => panic!("not delayed: {other:?}"),
    }
}

/// It answers registrations with this `Retry-After`.
async fn asking_for(wait: Duration) -> Running {
    let dps = simulator().await;
    dps.control().set_retry_after(Some(wait));
    dps
}

fn calls(dps: &Running) -> Vec<OperationKind> {
    dps.control().ledger().iter().map(|entry| entry.operation).collect()
}

#[tokio::test]
async fn a_long_wait_ends_the_call_and_one_poll_after_it_the_operation() {
    for wait in [Duration::from_secs(32), LONG, Duration::from_secs(3600)] {
        let dps = asking_for(wait).await;
        let device = Device::of(&dps);
        let begun = clock::now();

        let Delayed { operation, error } = device.register().await;

        let ask_at = operation.ask_at();
        let by_wall = Duration::try_from(ask_at.wall.duration_since(begun.wall)).unwrap();
        let moment = Duration::from_secs(10);
        for asked in [ask_at.mono - begun.mono, by_wall] {
            // Clocks may be set a little meanwhile.
            assert!(asked.abs_diff(wait) < moment, "{wait:?} {asked:?}");
        }
        assert!(begun.mono.elapsed() < moment);
        assert_eq!((error, calls(&dps)), (None, vec![OperationKind::Register]));

        assert!(matches!(device.resume(operation).await, Ok(Progress::Assigned(_))));
        assert_eq!(calls(&dps), [OperationKind::Register, OperationKind::Poll]);
    }
}

#[tokio::test]
async fn a_poll_may_be_answered_with_another_long_wait_also_by_one_that_fails() {
    let failing = |status| {
        let retry_after = Some("1200".to_owned());
        FaultAction::Status { status, retry_after, error_code: None }
    };
    for (answer, fails) in [(FaultAction::Assigning, false), (failing(429), true), (failing(503), true)] {
        let dps = asking_for(LONG).await;
        let device = Device::of(&dps);
        let open = device.register().await.operation;
        let before = open.ask_at();
        dps.control().inject(Fault::global(answer.clone()).on(OperationKind::Poll).times(1)).unwrap();

        let again = delayed(device.resume(open).await);

        assert_eq!(again.error.is_some(), fails, "{answer:?} {again:?}");
        assert!(again.operation.ask_at().mono > before.mono);
        assert!(matches!(device.resume(again.operation).await, Ok(Progress::Assigned(_))));
        assert_eq!(dps.control().totals().register, 1, "{answer:?}");
    }
}

#[tokio::test]
async fn polls_that_fail_in_a_row_are_counted_over_all_waits() {
    let dps = asking_for(LONG).await;
    let device = Device::of(&dps);
    let mut open = device.register().await.operation;
    let throttled = FaultAction::throttled("1200");
    dps.control().inject(Fault::global(throttled).on(OperationKind::Poll)).unwrap();
    for _ in 0..3 {
        open = delayed(device.resume(open).await).operation;
    }
    assert!(matches!(device.resume(open).await, Err(DpsError::Throttled { .. })));
}

#[tokio::test]
async fn the_patience_of_an_operation_goes_on_with_it() {
    let dps = asking_for(LONG).await;
    let device = Device::of(&dps);
    let open = device.register().await.operation;
    dps.control().inject(Fault::global(FaultAction::Assigning).on(OperationKind::Poll)).unwrap();
    dps.control().set_retry_after(None);

    let spent = OpenOperation { patience: Patience::new(Instant::now(), SHORT), ..open };

    assert_eq!(device.resume(spent).await.map(drop_progress), Err(DpsError::Deadline));
    assert_eq!(dps.control().totals().poll, 1, "it is asked for once all the same");
}

fn drop_progress(_: Progress) {}

#[tokio::test]
async fn an_operation_is_asked_for_by_nobody_but_who_has_begun_it() {
    let dps = asking_for(LONG).await;
    let open = Device::of(&dps).register().await.operation;
    let port = dps.address().port();
    for other in [
        Device { id: "truck-2", ..Device::of(&dps) },
        Device { scope: "0neOTHER", ..Device::of(&dps) },
        Device { key: OTHER_KEY, ..Device::of(&dps) },
        Device { endpoint: endpoint_at(&format!("127.0.0.1:{port}")), ..Device::of(&dps) },
    ] {
        let result = other.resume(open.clone()).await;
        assert!(matches!(result, Err(DpsError::Forgotten(_))), "{result:?}");
    }
    assert_eq!(calls(&dps), [OperationKind::Register]);
}

#[tokio::test]
async fn the_id_of_an_operation_is_in_no_text_about_it() {
    let dps = asking_for(LONG).await;
    let device = Device::of(&dps);
    let delayed = device.register().await;
    let text = format!("{delayed:?}");

    device.resume(delayed.operation).await.unwrap();

    let path = dps.control().ledger()[1].path.clone();
    let id = path.rsplit('/').next().unwrap();
    assert!(id.len() > 10 && path.contains("/operations/"), "{path}");
    assert!(!text.contains(id), "{text}");
}
