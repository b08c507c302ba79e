//! Devices that change from one CA to another.

use super::*;

const DEVICES: usize = 12;

fn name(number: usize) -> String {
    format!("truck-{number}")
}

fn names() -> impl Iterator<Item = String> {
    (1..=DEVICES).map(name)
}

impl World {
    /// With devices that have certificates of this CA.
    async fn with_fleet(mut self, root: &Identity) -> Self {
        for name in names() {
            self.give_certificate(&name, &root.device(&name).unwrap(), &[]);
            self.declare(&name, json!({}));
        }
        self.until_true("all are ready", |world| world.integration()["devices"]["ready"] == DEVICES).await;
        self
    }

    /// Lets time pass, a second at a time, until the condition holds: the rate lets few through at a time, and counters
    /// are written every ten seconds.
    async fn until_true(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..60 {
            self.until_idle(0).await;
            if holds(self) {
                return;
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("not within a minute: {what}\n{}", self.api.dump());
    }

    /// Every device has a new certificate of this CA in its source.
    fn renew_all(&mut self, root: &Identity) {
        for name in names() {
            self.give_certificate(&name, &root.device(&name).unwrap(), &[]);
        }
    }

    /// Registrations that DPS has refused.
    fn refused(&self) -> usize {
        names().flat_map(|name| self.registers_of(&name)).filter(|entry| entry.status == Some(401)).count()
    }

    fn all_hubs_take_them(&self) -> bool {
        names().all(|name| self.hub_takes(&name))
    }
}

#[tokio::test]
async fn a_new_ca_that_dps_does_not_know_stops_after_three_devices_and_goes_on_by_itself() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    let issuers = &world.integration()["certificates"]["issuers"];
    assert_eq!(issuers.as_array().unwrap().len(), 1, "{issuers}");
    assert_eq!((&issuers[0]["devices"], &issuers[0]["accepted"]), (&json!(DEVICES), &json!(true)));
    assert_eq!(issuers[0]["fingerprint"], world.status("truck-1")["credential"]["issuer"]);
    let before = Vec::from_iter(names().map(|name| world.device_secret(&name)["data"].clone()));

    world.renew_all(&next);
    world.until_true("it is held", |world| world.integration()["keyRotation"]["blocked"] == true).await;

    assert!((3..=6).contains(&world.refused()), "{} refusals", world.refused());
    assert_eq!(before, Vec::from_iter(names().map(|name| world.device_secret(&name)["data"].clone())));
    assert!(names().all(|name| world.ready_reason(&name).0 == "True") && world.all_hubs_take_them());
    let status = world.integration();
    assert_eq!(world.integration_reason(), "Unauthorized");
    let message = condition(&status, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("CN=next-root"), "{message}");
    let (rotation, certificates) =
        (&world.integration()["keyRotation"], &world.integration()["certificates"]);
    assert_eq!((&rotation["total"], &rotation["pending"]), (&json!(DEVICES), &json!(DEVICES)), "{rotation}");
    let refused = &certificates["issuers"][0];
    assert_eq!((&refused["subject"], &refused["accepted"]), (&json!("CN=next-root"), &json!(false)));

    let refusals = world.refused();
    world.until_true("it is tried again", |world| world.refused() > refusals).await;
    assert!(world.refused() <= refusals + 2, "{} after {refusals} refusals", world.refused());
    for _ in 0..30 {
        world.pass(Duration::from_secs(1));
        world.until_idle(0).await;
    }
    let status = world.integration();
    let counted = (&status["certificates"]["unregistered"], &status["keyRotation"]["pending"]);
    assert_eq!(counted, (&json!(DEVICES), &json!(DEVICES)), "also those that say that they were refused");

    let control = world.dps.control();
    control.upload_certificate_authority(SCOPE, "next", certificate(&next), true).unwrap();
    let both = Certificates { primary: certificate(&root), secondary: Some(certificate(&next)) };
    control.set_group_certificates(SCOPE, "fleet", both).unwrap();
    world.pass(MINUTE * 2);
    let has_moved = |world: &World, name: &str| world.status(name)["credential"]["issuer"] == next_ca(world);
    world
        .until_true("all have moved", |world| {
            names().all(|name| has_moved(world, &name)) && world.integration()["keyRotation"].is_null()
        })
        .await;
    assert!(world.all_hubs_take_them());
    assert_eq!(world.integration_reason(), "Available");
    assert_eq!(world.integration()["certificates"]["unregistered"], 0);
}

/// The CA that all are to have in the end, as the status names it.
fn next_ca(world: &World) -> Value {
    let certificates = &world.integration()["certificates"]["issuers"];
    let issuers = certificates.as_array().cloned().unwrap_or_default();
    let next = issuers.into_iter().find(|issuer| issuer["subject"] == "CN=next-root");
    next.map(|next| next["fingerprint"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_user_who_asks_the_integration_has_a_refused_ca_tried_at_once() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    world.renew_all(&next);
    world.until_true("it is held", |world| world.integration_reason() == "Unauthorized").await;
    // The waits grow: the next try is minutes away.
    for _ in 0..5 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    let control = world.dps.control();
    control.upload_certificate_authority(SCOPE, "next", certificate(&next), true).unwrap();
    let both = Certificates { primary: certificate(&root), secondary: Some(certificate(&next)) };
    control.set_group_certificates(SCOPE, "fleet", both).unwrap();
    let asked = world.now.mono;
    let annotation = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "1"}}});
    world.api.apply("dpsintegrations", "factory", annotation);
    world.deliver();
    world
        .until_true("all have moved", |world| {
            let moved = |name: &String| world.status(name)["credential"]["issuer"] == next_ca(world);
            names().all(|name| moved(&name))
        })
        .await;
    assert!(world.now.mono - asked < Duration::from_secs(30), "{:?}", world.now.mono - asked);
    assert!(world.all_hubs_take_them());
}

#[tokio::test]
async fn after_a_restart_a_refused_ca_holds_up_no_device_of_another_one() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    world.renew_all(&next);
    world.until_true("it is held", |world| world.integration_reason() == "Unauthorized").await;
    world.restart();
    world.list_certificates();
    world.give_certificate("late", &root.device("late").unwrap(), &[]);
    world.declare("late", json!({}));
    world.until_ready("late").await;
    assert!(world.hub_takes("late"));
    // What was known of the CAs is known again: no device tries the one that works for the others.
    let accepted = &world.integration()["certificates"]["issuers"];
    assert!(accepted.as_array().unwrap().iter().any(|issuer| issuer["accepted"] == true), "{accepted}");
    world.until_true("it is held again", |world| world.integration_reason() == "Unauthorized").await;
    assert!(names().all(|name| world.ready_reason(&name).0 == "True") && world.all_hubs_take_them());
}

#[tokio::test]
async fn after_a_restart_three_devices_try_a_refused_ca_once_more_and_the_waits_grow_from_a_minute_to_an_hour()
 {
    const STEP: Duration = Duration::from_secs(15);
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    world.renew_all(&next);
    world.until_true("it is held", |world| world.integration_reason() == "Unauthorized").await;
    let before = Vec::from_iter(names().map(|name| world.registers_of(&name).len()));
    world.restart();
    world.list_certificates();

    // When it is tried, and by how many: what comes within a minute is one try.
    let (mut tries, mut refused): (Vec<(Duration, usize)>, usize) = (Vec::new(), world.refused());
    let begun = world.now.mono;
    while world.now.mono - begun < MINUTE * 60 * 6 {
        world.until_idle(0).await;
        let (at, more) = (world.now.mono - begun, world.refused() - refused);
        refused += more;
        match tries.last_mut() {
            Some((last, refused)) if at - *last < MINUTE => *refused += more,
            _ if more > 0 => tries.push((at, more)),
            _ => {}
        }
        if tries.len() == 1 {
            let calls = names().zip(&before).map(|(name, before)| world.registers_of(&name).len() - before);
            let tried = calls.filter(|calls| *calls > 0).count();
            assert!(tried <= 3, "{tried} devices");
        }
        world.pass(STEP);
    }
    let waits = Vec::from_iter(tries.windows(2).map(|pair| pair[1].0 - pair[0].0));
    assert!(waits.len() >= 8, "{tries:?}");
    assert!(tries[1..].iter().all(|(_, refused)| (1..=2).contains(refused)), "{tries:?}");
    for (wait, minutes) in waits.iter().zip([1, 2, 4, 8, 16, 32].into_iter().chain(std::iter::repeat(60))) {
        let longest = MINUTE * minutes + MINUTE;
        assert!((MINUTE * minutes..=longest).contains(wait), "{minutes} minutes: {waits:?}");
    }
    assert!(names().all(|name| world.ready_reason(&name).0 == "True") && world.all_hubs_take_them());
}

#[tokio::test]
async fn once_those_that_were_refused_are_gone_another_one_tries_the_ca_within_the_hour_and_nothing_happens_before()
 {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    world.renew_all(&next);
    world.until_true("it is held", |world| world.integration_reason() == "Unauthorized").await;
    let has_tried = |name: &String| world.registers_of(name).iter().any(|entry| entry.status == Some(401));
    let tried = Vec::from_iter(names().filter(has_tried));
    assert_eq!(tried.len(), 3, "{tried:?}");
    tried.iter().for_each(|name| world.delete("provisioneddevices", name));
    // What they leave behind is counted.
    for _ in 0..12 {
        world.pass(Duration::from_secs(5));
        world.until_idle(0).await;
    }
    let of_sources = |world: &World| -> usize {
        names().map(|name| world.api.reads("secrets", &format!("{name}-tls"))).sum()
    };
    let (refused, before) = (world.refused(), (world.writes(), of_sources(&world)));
    let begun = world.now.mono;
    while world.refused() == refused {
        assert_eq!((world.writes(), of_sources(&world)), before);
        assert!(world.now.mono - begun < MINUTE * 61, "none has tried it");
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert!(world.now.mono - begun > MINUTE * 50, "{:?}", world.now.mono - begun);
    assert!(world.refused() <= refused + 2, "{} after {refused}", world.refused());
}

#[tokio::test]
async fn a_ca_that_dps_does_not_know_holds_up_new_devices_and_says_which_one_it_is() {
    let (root, next) = (Identity::root("fleet-root").unwrap(), Identity::root("next-root").unwrap());
    let mut world = World::with_group(&root).await;
    for name in names() {
        world.give_certificate(&name, &next.device(&name).unwrap(), &[]);
        world.declare(&name, json!({}));
    }
    world
        .until_true("all say so", |world| {
            world.integration()["failures"] == json!([{"reason": "Unauthorized", "devices": DEVICES}])
        })
        .await;
    assert!(world.refused() <= 8, "{} refusals", world.refused());
    let waiting = names().filter(|name| world.registers_of(name).is_empty());
    let message = condition(&world.status(&waiting.last().unwrap()), "Ready")["message"].to_string();
    assert!(message.contains("CN=next-root") && message.contains("Upload"), "{message}");
    assert_eq!(world.integration_reason(), "Unauthorized");

    let control = world.dps.control();
    control.upload_certificate_authority(SCOPE, "next", certificate(&next), true).unwrap();
    control.set_group_certificates(SCOPE, "fleet", certificates(&next)).unwrap();
    let asked = world.now.mono;
    world.annotate_with("truck-12", "reconcile.fluxcd.io/requestedAt", json!("1"));
    world
        .until_true("all are there", |world| names().all(|name| world.ready_reason(&name).0 == "True"))
        .await;
    assert!(world.now.mono - asked < Duration::from_secs(20), "it was tried at once");
    assert!(world.all_hubs_take_them());
    assert_eq!(world.integration_reason(), "Available");
}

#[tokio::test]
async fn a_renewal_by_the_same_ca_waits_for_nobody_and_is_no_rotation() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await.with_fleet(&root).await;
    world.restart();
    world.until_idle(0).await;
    world.list_certificates();
    let asked = world.registers();
    world.renew_all(&root);
    world
        .until_true("all are renewed", |world| {
            world.registers() == asked + DEVICES && world.all_hubs_take_them()
        })
        .await;
    world.until_idle(0).await;
    assert!(world.integration()["keyRotation"].is_null());
}
