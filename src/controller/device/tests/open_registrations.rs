//! What a device does whose registration DPS has accepted, and about whose end it wants to be asked later.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{NOW, Situation, device, failure, keys, registered, secret};
use crate::api::conditions::{ConditionType, Reason, find};
use crate::clock::Now;
use crate::controller::device::decide::{Call, Decision, Delay, SecretState, Step, registered_hash};
use crate::controller::device::facts::{FailedWork, ServedRequests, Trigger};
use crate::controller::device::open_registration::{OpenRegistration, RegisteredTerms};
use crate::controller::device::settings::Settings;
use crate::controller::device::status::{is_equal, render};
use crate::controller::integration::target::Instance;
use crate::dps::host::AllowedHosts;
use crate::dps::ids::{IdScope, RegistrationId};
use crate::dps::operation::{OpenOperation, Registrant};
use crate::fleet::SecretSeen;
use crate::schedule::permits::Lane;

const LONG: Duration = Duration::from_secs(20 * 60);
const LOOK_AGAIN: &str = "reconcile.fluxcd.io/requestedAt";
const TOKEN: &str = "dps-operator.io/reprovision-requested-at";

impl Situation {
    /// DPS has accepted the registration as it would be made now, and wants to be asked in this time.
    fn registering(self, left: Duration) -> Self {
        let mut situation = self;
        let open = situation.open(left);
        situation.facts.registering(open);
        situation
    }

    fn open(&self, left: Duration) -> OpenRegistration {
        let Instance { scope, endpoint, tls: _ } = self.target.instance.clone();
        let registration_id = RegistrationId::parse(self.device.registration_id()).unwrap();
        let credential = self.target.credentials.in_use();
        let registrant = Registrant { endpoint, scope, registration_id, credential };
        let ask_at = Now { wall: NOW.wall.checked_add(left).unwrap(), mono: NOW.mono + left };
        let settings = Settings::of(&self.device, None).unwrap();
        let terms = RegisteredTerms { slot: None, hash: registered_hash(&settings, &self.target) };
        let served = ServedRequests::now(&self.device, None, &self.facts.served);
        OpenRegistration { operation: OpenOperation::of(registrant, *NOW, ask_at), terms, served }
    }

    fn annotated(self, key: &str) -> Self {
        let mut situation = self;
        situation.device.metadata.annotations = Some([(key.to_owned(), "1".to_owned())].into());
        situation
    }

    /// The status says that all is in order, for this generation.
    fn observed(self) -> Self {
        let mut situation = self;
        let verdict = situation.decide().verdict.unwrap();
        situation.device.status = Some(render(&situation.device, &situation.facts, &verdict, NOW.wall));
        situation
    }
}

/// What is begun, what is said, and in how long it is decided upon again.
fn outcome(decision: &Decision) -> (Step, Option<Reason>, Option<Duration>) {
    let said = decision.verdict.as_ref().map(|verdict| verdict.reason);
    (decision.step, said, decision.wake.map(|wake| wake - NOW.mono))
}

fn waits(said: Option<Reason>) -> (Step, Option<Reason>, Option<Duration>) {
    (Step::Nothing, said, Some(LONG))
}

fn polls(lane: Lane) -> (Step, Option<Reason>, Option<Duration>) {
    (Step::Call(Call::Poll, lane), None, None)
}

/// Both of its integration's keys are others, of which this one is asked for.
fn rotated(situation: Situation) -> Situation {
    let mut situation = situation;
    situation.target.terms.credentials = keys(2, None);
    situation
}

#[test]
fn nothing_is_asked_of_dps_before_it_wants_to_be_asked_and_one_poll_then() {
    let new = Situation::new_device;
    let settled = || Situation::settled_device().observed();
    let registering = Some(Reason::Registering);
    for (what, wait, then, situation) in [
        ("a new device", registering, Lane::New, new()),
        ("one that a user asks to be registered", None, Lane::Changed, settled().annotated(TOKEN)),
        ("one of a rotation", None, Lane::Fleet, rotated(settled())),
        ("one of which nothing is wanted any more", None, Lane::Changed, settled()),
    ] {
        let situation = situation.registering(LONG);
        assert_eq!(outcome(&situation.decide()), waits(wait), "{what}");
        let mut due = situation;
        due.facts.registering(due.open(Duration::ZERO));
        let decision = due.decide();
        assert_eq!(decision.step, polls(then).0, "{what}");
        assert_ne!(decision.verdict.map(|verdict| verdict.reason), registering, "{what}");
    }
}

#[test]
fn a_new_device_says_until_when_it_waits_and_says_it_once() {
    let situation = Situation::new_device().registering(LONG);
    let verdict = situation.decide().verdict.unwrap();
    assert_eq!(
        verdict.message,
        "DPS has accepted the registration and is still assigning the device; it asks to be asked again at 00:20:00 UTC, and is asked then."
    );
    let status = render(&situation.device, &situation.facts, &verdict, NOW.wall);
    let condition = |kind| find(&status.conditions, kind).map(|found| (&*found.status, &*found.reason));
    assert_eq!(condition(ConditionType::Ready), Some(("False", "Registering")));
    assert_eq!(condition(ConditionType::Reconciling), Some(("True", "Registering")));
    assert_eq!(condition(ConditionType::Registered), Some(("False", "NeverRegistered")));
    assert_eq!(condition(ConditionType::Stalled), None);
    assert!(!serde_json::to_string(&status).unwrap().contains("4.operation"));
    let later = Situation { delay: Delay::Queued, ..situation };
    let again = render(&later.device, &later.facts, &later.decide().verdict.unwrap(), NOW.wall);
    assert!(is_equal(Some(&status), &again, None));
}

#[test]
fn whoever_asks_to_look_again_has_dps_asked_at_once_and_one_time() {
    for situation in [Situation::new_device(), Situation::settled_device().observed()] {
        let mut situation = situation.registering(LONG).annotated(LOOK_AGAIN);
        assert!(matches!(situation.decide().step, Step::Call(Call::Poll, _)));
        situation.facts.registering(situation.open(LONG));
        assert_eq!(situation.decide().step, Step::Nothing, "DPS has said when it wants to be asked");
    }
    // One that stood there when the device was registered asks for no more.
    let before = Situation::new_device().annotated(LOOK_AGAIN).registering(LONG);
    assert_eq!(before.decide().step, Step::Nothing);
}

#[test]
fn what_a_user_changes_meanwhile_is_registered_once_dps_has_come_to_an_end() {
    let mut situation = Situation::new_device().registering(LONG);
    let before = registered(&situation.device, &situation.target);
    situation.device = device(json!({"payload": {"site": "b"}}));
    assert_eq!(outcome(&situation.decide()), waits(Some(Reason::Registering)));
    situation.facts.registering(situation.open(Duration::ZERO));
    assert_eq!(outcome(&situation.decide()), polls(Lane::New));

    // What was registered is what stood there then.
    situation.facts.register(before, ServedRequests::default());

    assert_eq!(situation.facts.open, None);
    assert_eq!(situation.decide().step, Step::WriteSecret);
    let registering = Situation::settled_device().observed().registering(LONG).annotated(TOKEN);
    let served = registering.facts.open.as_ref().unwrap().serves(ServedRequests::now(
        &registering.device,
        None,
        &registering.facts.served,
    ));
    assert_eq!(served.token, None, "a token of later is not served by it");
}

#[test]
fn suspended_devices_and_integrations_wait_with_it() {
    for left in [LONG, Duration::ZERO] {
        let mut situation = Situation::new_device().registering(left);
        situation.device.spec.suspend = true;
        assert_eq!(outcome(&situation.decide()), (Step::Nothing, Some(Reason::Suspended), None));
        let mut situation = Situation::new_device().registering(left);
        situation.target.terms.suspended = true;
        assert_eq!(outcome(&situation.decide()), (Step::Nothing, None, None));
        situation.delay = Delay::HeldUp;
        assert_eq!(outcome(&situation.decide()).1, Some(Reason::IntegrationNotReady));
    }
}

#[test]
fn a_secret_that_was_touched_or_edited_is_mended_meanwhile() {
    let touched = Situation {
        secret: SecretState { read: true, ..secret(SecretSeen::No) },
        ..Situation::settled_device()
    };
    assert_eq!(touched.registering(LONG).decide().step, Step::WriteSecret);
    let mut edited = Situation::settled_device().registering(LONG).annotated(TOKEN);
    edited.device.spec = device(json!({"secret": {"labels": {"a": "b"}}})).spec;
    assert_eq!(edited.decide().step, Step::WriteSecret);
    let stranded = Situation { secret: secret(SecretSeen::No), ..Situation::settled_device() };
    let stranded = rotated(stranded).registering(LONG);
    assert_eq!(outcome(&stranded.decide()), waits(Some(Reason::CredentialUnavailable)));
}

#[test]
fn what_is_known_of_a_device_that_a_rollout_has_come_to_is_said_of_its_latest_edit() {
    let mut situation = rotated(Situation::settled_device().observed()).registering(LONG);
    situation.device.metadata.generation = Some(2);
    assert_eq!(outcome(&situation.decide()), waits(Some(Reason::Provisioned)));
    let mut failed = situation.facts.clone();
    failed.fail(failure(FailedWork::Registration, Reason::Disabled), 0, NOW.mono);
    failed.open = situation.facts.open.clone();
    let failed = Situation { facts: failed, ..rotated(Situation::settled_device()) };
    assert_eq!(outcome(&failed.decide()), waits(None), "DPS has not come to an end");
    situation.facts.trigger = Some(Trigger::Periodic);
    situation.device.metadata.generation = Some(1);
    assert_eq!(outcome(&situation.decide()), waits(None));
}

#[test]
fn a_failure_of_before_is_not_spoken_of_and_counts_once_it_fails_again() {
    let failed = || failure(FailedWork::Registration, Reason::AllocationFailed);
    let mut situation = Situation::new_device();
    situation.facts.fail(failed(), 0, NOW.mono);
    let mut situation = situation.registering(LONG);
    assert_eq!(outcome(&situation.decide()), waits(Some(Reason::Registering)));
    situation.facts.registering(situation.open(Duration::ZERO));
    assert_eq!(outcome(&situation.decide()), polls(Lane::New), "the last word of the status stays");

    situation.facts.fail(failed(), 0, NOW.mono);

    assert_eq!(situation.facts.open, None);
    let Decision { step, verdict, .. } = situation.decide();
    assert_eq!((step, verdict.unwrap().reason), (Step::Nothing, Reason::AllocationFailed));
    assert_eq!(situation.facts.failure.unwrap().attempts, 2);
    // That a Secret could not be written says nothing of it.
    let mut situation = Situation::settled_device().registering(LONG);
    situation.facts.fail(failure(FailedWork::Secret, Reason::SecretConflict), 0, NOW.mono);
    assert!(situation.facts.open.is_some());
}

#[test]
fn it_belongs_to_one_device_at_one_instance_with_one_credential() {
    let situation = Situation::new_device();
    let open = Arc::new(situation.open(LONG));
    let (device, target) = (&situation.device, &situation.target);
    assert!(open.is_of(device, target));
    let mut same = target.clone();
    same.revision = 2;
    same.terms.suspended = true;
    same.terms.token = Some("1".to_owned());
    same.terms.credentials = keys(1, Some(2));
    assert!(open.is_of(device, &same), "what else is changed does not concern it");
    let mut elsewhere = target.clone();
    elsewhere.terms.instance.scope = IdScope::parse("0ne2").unwrap();
    assert!(!open.is_of(device, &elsewhere));
    let mut elsewhere = target.clone();
    elsewhere.terms.instance.endpoint =
        AllowedHosts::parse(["y.example"]).unwrap().check("y.example").unwrap();
    assert!(!open.is_of(device, &elsewhere));
    let mut other_key = target.clone();
    other_key.terms.credentials = keys(2, Some(1));
    assert!(!open.is_of(device, &other_key));
    let mut other = device.clone();
    other.spec.registration_id = Some("truck-2".to_owned());
    assert!(!open.is_of(&other, target));
}
