//! Renewals and Certificates that wait for their time: what is looked at meanwhile, and what is not.

use super::issuance::SOON;
use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate's time, by the clock of the engine.
fn valid(world: &World, days: u32) -> impl Fn(&mut rcgen::CertificateParams) + use<> {
    let now = Duration::from_secs(world.now.wall.as_second().unsigned_abs());
    move |params| {
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + DAY * days;
    }
}

/// What has been asked of DPS, written, and read of the source.
fn done(world: &World) -> (usize, usize, usize) {
    (world.dps.control().ledger().len(), world.writes(), world.api.reads("secrets", "truck-1-tls"))
}

#[tokio::test]
async fn a_renewal_that_a_paused_rollout_holds_is_looked_at_hourly_on_the_last_day_and_goes_then() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_group(&root).await;
    let first = root.device_with("truck-1", valid(&world, 30)).unwrap();
    world.give_certificate("truck-1", &first, &[]);
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let begun = world.now.mono;
    let x509 = json!({"x509": {"secretName": "{name}-tls"}, "symmetricKey": null});
    world.declare_integration(json!({"rollout": {"paused": true}, "attestation": x509}));
    let renewed = root.device_with("truck-1", valid(&world, 30)).unwrap();
    world.give_certificate("truck-1", &renewed, &[]);
    world.until_idle(0).await;
    // The integration counts it.
    for _ in 0..12 {
        world.pass(Duration::from_secs(10));
        world.until_idle(0).await;
    }
    let before = done(&world);
    for _ in 0..28 * 8 {
        world.pass(HOUR * 3);
        world.until_idle(0).await;
    }
    // That it is overdue has been counted.
    assert_eq!((done(&world).0, done(&world).2), (before.0, before.2));
    let before = done(&world);
    while world.now.mono - begun < DAY * 29 - MINUTE {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!(done(&world), before);

    while world.registers_of("truck-1").len() == 1 {
        assert!(world.now.mono - begun < DAY * 29 + HOUR + MINUTE, "it is not urgent");
        assert_eq!(done(&world), before);
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    world
        .until("it has the new one", |world| {
            text(&world.device_secret("truck-1"), "tls.key") == renewed.key_pem()
        })
        .await;
}

#[tokio::test]
async fn a_secret_in_the_way_is_looked_at_later_and_later_up_to_an_hour_and_the_certificate_asked_for_once_it_fits()
 {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.issue("truck-1", &root);
    let issued_for =
        |name: &str| json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": name}}});
    world.api.apply("secrets", "truck-1-tls", issued_for("mine"));
    world.deliver();
    world.declare("truck-1", json!({}));
    world.until_ready("truck-1").await;
    world.until_idle(0).await;

    // When it is looked at, in minutes.
    let (mut looks, mut before, begun) = (Vec::new(), done(&world), world.now.mono);
    for _ in 0..8 * 60 {
        world.pass(MINUTE);
        world.until_idle(0).await;
        let now = done(&world);
        assert!(now.0 == before.0 && now.2 <= before.2 + 1, "{now:?} after {before:?}");
        if now.2 > before.2 {
            looks.push((world.now.mono - begun).as_secs() / 60);
        }
        before = now;
    }
    let waits = Vec::from_iter(looks.windows(2).map(|pair| pair[1] - pair[0]));
    let longest = waits.iter().max().copied().unwrap_or_default();
    assert!((60..=76).contains(&longest) && (9..=12).contains(&looks.len()), "{looks:?}");
    assert_eq!(world.requested("truck-1"), Value::Null);

    // No watch tells of what is done about it.
    world.api.apply("secrets", "truck-1-tls", issued_for("truck-1-tls"));
    drop(world.api.changes());
    for _ in 0..76 {
        world.pass(MINUTE);
        world.until_idle(0).await;
    }
    assert_eq!(world.requested("truck-1")["spec"]["commonName"], "truck-1");
}

#[tokio::test]
async fn trouble_that_ends_while_the_status_is_written_is_not_said_afterwards() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({}));
    let asked = world.until_requested("truck-1").await;
    world.until_idle(0).await;
    world.pass(MINUTE);
    world.until_message("truck-1", "cert-manager was asked for it").await;
    let owners = |owners: &Value| json!({"metadata": {"ownerReferences": owners}});
    world.until_idle(0).await;
    // Each answer takes long enough for the trouble to end before.
    world.api.set_latency(Duration::from_millis(300));
    let written = world.api.begun("/truck-1/status");
    world.api.apply("certificates", "truck-1-tls", owners(&Value::Null));
    world.deliver();
    world.pass(SOON);
    world.until("the status is being written", |world| world.api.begun("/truck-1/status") > written).await;
    assert!(!world.message("truck-1").contains("is not the device's"));
    world.api.apply("certificates", "truck-1-tls", owners(&asked["metadata"]["ownerReferences"]));
    world.deliver();
    world.until_message("truck-1", "is not the device's").await;
    world.api.set_latency(Duration::ZERO);
    world.until_message("truck-1", "cert-manager was asked for it").await;
    world.until_idle(0).await;
}

#[tokio::test]
async fn what_was_known_of_a_certificate_that_its_device_left_is_forgotten() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({}));
    world.until_requested("truck-1").await;
    world.issue("truck-1", &root);
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    world.give_certificate("own", &root.device("truck-1").unwrap(), &[]);
    world.declare("truck-1", json!({"attestation": {"x509": {"secretRef": {"name": "own-tls"}}}}));
    world.until("it is registered", |world| world.registers_of("truck-1").len() == 2).await;
    world.until_idle(0).await;

    // What others make of it meanwhile is no matter.
    let edited = json!({"spec": {"commonName": "truck-2"}});
    world.api.apply("certificates", "truck-1-tls", edited);
    world.deliver();
    world.pass(MINUTE);
    world.until_idle(0).await;
    assert_eq!(world.requested("truck-1")["spec"]["commonName"], "truck-2");
    world.declare("truck-1", json!({"attestation": null}));
    world.pass(MINUTE);
    world
        .until("it is put back", |world| world.requested("truck-1")["spec"]["commonName"] == "truck-1")
        .await;
}

#[tokio::test]
async fn a_device_whose_certificate_was_asked_for_and_is_not_renewed_says_by_itself_that_it_has_expired() {
    let root = Identity::root("fleet-root").unwrap();
    let mut world = World::with_issuer(&root).await;
    world.list_issued();
    world.list_certificates();
    world.declare("truck-1", json!({}));
    world.until_requested("truck-1").await;
    let short = root.device_with("truck-1", valid(&world, 30)).unwrap();
    world.give_certificate("truck-1", &short, &[]);
    world.until_ready("truck-1").await;
    world.until_idle(0).await;
    let asked = world.dps.control().ledger().len();
    world.pass(DAY * 30 - HOUR);
    world.until_idle(0).await;
    assert_eq!(world.ready_reason("truck-1"), ("True".to_owned(), "Provisioned".to_owned()));
    world.pass(HOUR + MINUTE);
    world.until_reason("truck-1", "CertificateExpired").await;
    assert_eq!(world.ready_reason("truck-1").0, "False");
    assert_eq!(world.dps.control().ledger().len(), asked);
}
