use std::collections::BTreeMap;

use super::*;
use crate::dps::attestation::certificate::CertificateFacts;
use crate::dps::attestation::{CredentialId, CredentialKind};
use crate::dps::clock_offset::TokenClock;
use crate::dps::error::{Detail, Refusal};
use crate::dps::tls::Presented;
use crate::fleet::intern::Interner;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What devices of two namespaces meet, at one moment.
struct Situation {
    issuers: Issuers,
    own: Whose,
    other: Whose,
    now: Instant,
}

fn ca(number: u64) -> CaId {
    CaId::parse(&format!("{number:016x}")).unwrap()
}

fn device(number: u32) -> Canary {
    Canary { device: number, uid: Uid::parse(&format!("00000000-0000-4000-8000-{number:012}")) }
}

impl Situation {
    fn new() -> Self {
        let mut names = Interner::default();
        let own = Whose { namespace: names.intern("fleet"), own: true };
        let other = Whose { namespace: names.intern("plant"), own: false };
        Self { issuers: Issuers::default(), own, other, now: Instant::now() }
    }

    /// The device comes, and may try or has to wait.
    fn comes(&mut self, whose: Whose, number: u32) -> Place<'_> {
        self.issuers.met(ca(1), "CN=fleet-ca", whose, device(number), self.now);
        self.issuers.place(ca(1), whose, device(number).uid, self.now)
    }

    fn tries(&mut self, whose: Whose, number: u32) {
        assert_eq!(self.comes(whose, number), Place::Open, "{number}");
        self.issuers.begun(ca(1), whose, device(number).uid, self.now);
    }

    fn meets(&mut self, whose: Whose, number: u32, shown: Shown) -> Follows {
        self.issuers.answered(ca(1), whose, device(number), shown, self.now)
    }

    /// Three of the namespace are refused, and a fourth waits.
    fn closed(whose: impl Fn(&Self) -> Whose) -> Self {
        let mut situation = Self::new();
        let whose = whose(&situation);
        (1..=3).for_each(|number| situation.tries(whose, number));
        let waits = Place::Waits { until: None, refused: None };
        assert_eq!([4, 5, 6, 7].map(|number| situation.comes(whose, number) == waits), [true; 4]);
        (1..=3).for_each(|number| drop(situation.meets(whose, number, Shown::Refused)));
        situation
    }
}

fn wakes(follows: &Follows) -> Vec<u32> {
    follows.wake.iter().map(|canary| canary.device).collect()
}

#[test]
fn three_devices_try_a_ca_and_all_may_go_on_when_one_is_accepted() {
    let mut situation = Situation::new();
    let own = situation.own;
    (1..=3).for_each(|number| situation.tries(own, number));
    assert_eq!(situation.comes(own, 4), Place::Waits { until: None, refused: None });
    let follows = situation.meets(own, 1, Shown::Accepted);
    assert_eq!((follows.all, follows.report), (true, true));
    assert_eq!([2, 4, 5].map(|number| situation.comes(own, number) == Place::Open), [true; 3]);
    // From then on what becomes of one device is no matter to others.
    (2..=9).for_each(|number| drop(situation.meets(own, number, Shown::Refused)));
    assert_eq!(situation.comes(own, 10), Place::Open);
    assert_eq!(situation.issuers.trouble(), None);
    assert!(!situation.meets(own, 1, Shown::Accepted).all, "that is no news");
}

#[test]
fn the_first_that_waits_tries_when_a_try_has_shown_nothing() {
    let mut situation = Situation::new();
    let own = situation.own;
    (1..=3).for_each(|number| situation.tries(own, number));
    (4..=8).for_each(|number| assert_ne!(situation.comes(own, number), Place::Open));
    assert_eq!(wakes(&situation.meets(own, 2, Shown::Nothing)), [4]);
    situation.tries(own, 4);
    assert_eq!(wakes(&situation.meets(own, 4, Shown::Refused)), [0; 0]);
    assert_eq!(wakes(&situation.meets(own, 1, Shown::Nothing)), [5]);
}

#[test]
fn a_try_that_never_ends_is_not_waited_for() {
    let mut situation = Situation::new();
    let own = situation.own;
    (1..=3).for_each(|number| situation.tries(own, number));
    situation.now += TRY - SECOND;
    assert_ne!(situation.comes(own, 4), Place::Open);
    situation.now += SECOND;
    assert_eq!(situation.comes(own, 4), Place::Open);
}

#[test]
fn once_three_are_refused_two_try_again_after_waits_that_grow() {
    let mut situation = Situation::closed(|situation| situation.own);
    let own = situation.own;
    let refused = Some("CN=fleet-ca");
    for minutes in [1, 2, 4, 8] {
        let until = situation.now + MINUTE * minutes;
        // A canary, one that takes its turn with it, and one of all the others.
        for number in [3, 4, 5, 6] {
            assert_eq!(
                situation.comes(own, number),
                Place::Waits { until: Some(until), refused },
                "{number}"
            );
        }
        assert_eq!(situation.comes(own, 8), Place::Waits { until: None, refused });
        assert_eq!(situation.issuers.retry_at(device(3).uid, situation.now), Some(until));
        situation.now = until;
        situation.tries(own, 3);
        situation.tries(own, 4);
        assert_eq!(situation.comes(own, 5), Place::Waits { until: None, refused });
        // Both are refused: that is one refusal.
        situation.meets(own, 3, Shown::Refused);
        situation.meets(own, 4, Shown::Refused);
        // The next one has taken the place of the one that has tried.
        [5, 6, 7].into_iter().for_each(|number| assert_ne!(situation.comes(own, number), Place::Open));
    }
    assert_eq!(situation.issuers.retry_at(device(9).uid, situation.now), None);
}

#[test]
fn those_that_were_refused_try_once_more_when_the_ca_is_accepted() {
    let mut situation = Situation::closed(|situation| situation.own);
    let (own, retry) = (situation.own, |situation: &Situation, number| {
        situation.issuers.retry_at(device(number).uid, situation.now)
    });
    for number in 4..=9 {
        situation.now += MINUTE * 60;
        situation.tries(own, number);
        situation.meets(own, number, Shown::Refused);
    }
    situation.now += MINUTE * 60;
    situation.tries(own, 9);
    assert_eq!(retry(&situation, 1), None, "it waits by itself: others have taken its place");
    assert!(situation.meets(own, 9, Shown::Accepted).all);
    let now = Some(situation.now);
    assert_eq!([1, 2, 3, 4, 8].map(|number| retry(&situation, number)), [now; 5]);
    assert_eq!([9, 10].map(|number| retry(&situation, number)), [None; 2]);
    // What becomes of them then is their own matter.
    situation.meets(own, 1, Shown::Refused);
    situation.meets(own, 2, Shown::Nothing);
    assert_eq!([1, 2, 3].map(|number| retry(&situation, number)), [None, None, now]);
}

#[test]
fn what_is_refused_in_another_namespace_holds_nobody_up() {
    let mut situation = Situation::closed(|situation| situation.other);
    let own = situation.own;
    assert_eq!(situation.comes(own, 9), Place::Open);
    assert_eq!(situation.issuers.trouble(), None, "and the integration says nothing of it");
    situation.issuers.begun(ca(1), own, device(9).uid, situation.now);
    assert!(situation.meets(own, 9, Shown::Accepted).all);
    assert_eq!(situation.comes(situation.other, 4), Place::Open, "it is known to work");
}

#[test]
fn a_change_opens_it_at_once_and_a_request_for_a_device_its_namespace() {
    let mut situation = Situation::closed(|situation| situation.own);
    let (own, other) = (situation.own, situation.other);
    let trouble = situation.issuers.trouble().unwrap();
    assert_eq!(trouble.reason, Reason::Unauthorized);
    assert!(trouble.message.contains("CN=fleet-ca") && trouble.message.contains("Upload"), "{trouble:?}");
    situation.issuers.try_now(other.namespace, situation.now);
    assert_ne!(situation.comes(own, 1), Place::Open);
    situation.issuers.try_now(own.namespace, situation.now);
    situation.tries(own, 1);
    situation.meets(own, 1, Shown::Refused);
    situation.issuers.reopen();
    assert_eq!(situation.issuers.trouble(), None);
    assert_eq!(situation.comes(own, 7), Place::Open);
}

#[test]
fn a_status_names_the_largest_and_those_that_are_refused_first() {
    let mut situation = Situation::closed(|situation| situation.own);
    for number in 2..=12 {
        let whose = situation.other;
        situation.issuers.met(ca(number), &format!("CN={number}"), whose, device(20), situation.now);
        situation.issuers.answered(ca(number), whose, device(20), Shown::Accepted, situation.now);
    }
    // One that is made up in another namespace is not shown.
    situation.issuers.met(ca(13), "CN=13", situation.other, device(30), situation.now);
    let devices =
        (3..=12).map(|number: i32| (format!("{number:016x}"), number)).chain([("ff".to_owned(), 5)]);
    let counts = CertificateCounts { issuers: BTreeMap::from_iter(devices), ..CertificateCounts::default() };
    let (shown, others) = situation.issuers.shown(&counts);
    let subjects: Vec<_> = shown.iter().map(|issuer| issuer.subject.as_str()).collect();
    assert_eq!(subjects, ["CN=fleet-ca", "CN=12", "CN=11", "CN=10", "CN=9", "CN=8", "CN=7", "CN=6"]);
    assert_eq!(shown.iter().filter(|issuer| !issuer.accepted).count(), 1);
    assert_eq!(others, 3 + 4 + 5 + 5);
    let (shown_first, _) = situation.issuers.shown(&CertificateCounts::default());
    assert_eq!(Vec::from_iter(shown_first.iter().map(|issuer| &*issuer.subject)), ["CN=fleet-ca"]);

    let mut next = Issuers::default();
    next.recall(&shown);
    let knows = |number| next.find(ca(number)).is_some_and(|issuer| issuer.accepted);
    assert_eq!([12, 6, 1, 5].map(knows), [true, true, false, false]);
}

#[test]
fn those_that_are_made_up_push_out_none_that_dps_has_accepted() {
    let mut situation = Situation::new();
    let own = situation.own;
    situation.tries(own, 1);
    situation.meets(own, 1, Shown::Accepted);
    for number in 0..1000 {
        situation.issuers.met(ca(100 + number), "CN=x", situation.other, device(2), situation.now);
    }
    assert_eq!(situation.issuers.0.len(), REMEMBERED);
    assert!(situation.issuers.find(ca(1)).is_some_and(|issuer| issuer.accepted));
}

#[test]
fn only_a_registration_that_is_refused_with_the_certificate_in_hand_speaks_against_its_ca() {
    let facts = CertificateFacts {
        thumbprint: [0; 32],
        portal_thumbprint: [0; 20],
        issuer: "CN=fleet-ca".to_owned(),
        ca: Some(ca(1)),
        last: ("CN=truck-1".to_owned(), "CN=fleet-ca".to_owned()),
        not_before: 0,
        not_after: 0,
    };
    let issuer = CredentialId::parse(CredentialKind::Certificate, "00000000000000aa").unwrap();
    let refused = |handshake, call| {
        let certificate = Some(Box::new(Presented { facts: facts.clone(), handshake }));
        let clock = TokenClock::Right;
        DpsError::Unauthorized(Refusal { issuer, clock, certificate, call, detail: Detail::default() })
    };
    let register = Call::Register { payload: false, csr: false };
    assert_eq!(Shown::of(None), Shown::Accepted);
    assert_eq!(Shown::of(Some(&DpsError::Disabled(Detail::default()))), Shown::Accepted);
    assert_eq!(Shown::of(Some(&refused(Handshake::Sent, register))), Shown::Refused);
    for error in [
        refused(Handshake::Sent, Call::Lookup),
        refused(Handshake::NotAskedFor, register),
        refused(Handshake::KeyNotTaken, register),
        DpsError::NotFound(Detail::default()),
        DpsError::Deadline,
    ] {
        assert_eq!(Shown::of(Some(&error)), Shown::Nothing, "{error:?}");
    }
}

#[test]
fn a_ca_by_which_dps_issues_is_named_with_its_devices_and_known_again() {
    let mut issuers = Issuers::default();
    assert!(issuers.issues(ca(1), "CN=dps-issuing"));
    assert!(!issuers.issues(ca(1), "CN=dps-issuing"));
    assert_eq!(issuers.shown(&CertificateCounts::default()), (Vec::new(), 0), "no device has one");
    let devices = BTreeMap::from([(ca(1).to_string(), 5), (ca(2).to_string(), 2)]);
    let counts = CertificateCounts { issuers: devices, ..CertificateCounts::default() };
    let named = IssuerStatus {
        fingerprint: ca(1).to_string(),
        subject: "CN=dps-issuing".to_owned(),
        devices: 5,
        accepted: true,
    };
    assert_eq!(issuers.shown(&counts), (vec![named.clone()], 2));
    let mut after_a_restart = Issuers::default();
    after_a_restart.recall(std::slice::from_ref(&named));
    assert_eq!(after_a_restart.shown(&counts), (vec![named], 2));
}

#[test]
fn cas_that_are_made_up_push_out_none_by_which_dps_issues() {
    let mut situation = Situation::new();
    situation.issuers.issues(ca(1_000), "CN=dps-issuing");
    for number in 0..200 {
        let own = situation.own;
        situation.issuers.met(ca(number), "CN=made-up", own, device(1), situation.now);
    }
    assert!(!situation.issuers.issues(ca(1_000), "CN=dps-issuing"));
    assert_eq!(situation.issuers.0.len(), REMEMBERED);
}
