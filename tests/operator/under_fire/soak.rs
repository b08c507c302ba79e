//! Everything at once, for as long as one likes: `make soak MINUTES=30 SEED=7`.

mod issued;

use std::time::{Duration, Instant};

use dps_dev::{Guarded, Signal};
use dps_simulator::{Fault, FaultAction, OperationKind, Outage};
use serde_json::{Value, json};

use super::flows::x509::{ROOT, with_certificates};
use crate::world::certificates;
use crate::world::keys::OWN_KEYS;
use crate::world::objects::text;
use crate::world::proxy::{Action, Proxies, Proxy, Rule, status};
use crate::world::waiting::until;
use crate::world::{
    HUBS, Kind, PRIMARY, PRIMARY_KEY, SCOPE, SECONDARY, SECONDARY_KEY, Setup, World, manifests,
};

/// The keys of individual enrollments at the beginning and at the end.
const OWN: [&str; 2] = [OWN_KEYS[0], OWN_KEYS[1]];
const INTEGRATIONS: [&str; 4] = ["factory", "mill", "port", issued::INTEGRATION];
/// Between two things that happen.
const PACE: Duration = Duration::from_millis(100);
/// How far clocks are set, in seconds.
const HOURS: i64 = 2 * 3600;

/// SplitMix64: the same seed makes the same choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("fewer than there are sides")
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())].clone()
    }
}

fn number_of(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A fleet and two replicas, each behind proxies of its own.
struct Soak {
    world: World,
    second: Guarded,
    /// Of the second.
    proxies: Proxies,
    dice: Dice,
    devices: usize,
}

impl Soak {
    async fn set_up(devices: usize, seed: u64) -> Self {
        let mut setup = Setup { proxied: true, log_level: "info", ..with_certificates() };
        for group in &mut setup.simulator.id_scopes[0].enrollment_groups {
            group.issuance = issued::POLICY;
        }
        let mut world = World::without_operator(setup).await;
        world.leader_elect = true;
        world.set_up_clock();
        world.start_operator().await;
        let proxies = world.new_proxies().await;
        let second = world.second_operator_through(&proxies).await;
        for name in INTEGRATIONS {
            world.integration_with_both_keys(name, PRIMARY_KEY, SECONDARY_KEY).await;
        }
        issued::ask(&world, issued::by("ECDSA-P384")).await;
        for number in 0..devices {
            if has_own_key(number) {
                enroll(&world, number, OWN).await;
            } else if has_certificate(number) {
                renew(&world, number).await;
            }
            // Each has devices of several kinds.
            let integration = INTEGRATIONS[number / 2 % INTEGRATIONS.len()];
            world.create(Kind::Device, declared(number, integration)).await;
        }
        world.wait_all_ready(devices).await;
        Self { world, second, proxies, dice: Dice(seed), devices }
    }

    /// One of the two replicas dies, or is asked to end, and another one takes its place.
    async fn replace_a_replica(&mut self) {
        if self.dice.roll(2) == 0 {
            self.second = self.world.second_operator_through(&self.proxies).await;
        } else if self.dice.roll(2) == 0 {
            self.world.kill_operator().await;
            self.world.start_operator().await;
        } else {
            self.world.restart_operator().await;
        }
    }

    /// Between one of the replicas and the API server.
    fn api_server(&mut self) -> &Proxy {
        let of_first = self.dice.roll(2) == 0;
        if of_first { &self.world.proxies().api_server } else { &self.proxies.api_server }
    }
}

fn device(number: usize) -> String {
    format!("device-{number:04}")
}

/// Every fourth device has an individual enrollment.
fn has_own_key(number: usize) -> bool {
    number % 4 == 3
}

/// Every eighth has a certificate.
fn has_certificate(number: usize) -> bool {
    number % 8 == 5
}

/// What a device has of its own.
fn own(number: usize) -> Value {
    if has_own_key(number) {
        manifests::own_keys(&device(number))
    } else if has_certificate(number) {
        json!({"attestation": {"x509": {}}})
    } else {
        json!({})
    }
}

fn declared(number: usize, integration: &str) -> Value {
    let (name, own) = (device(number), own(number));
    let of = json!({"integrationRef": {"name": integration}});
    manifests::device(&name, manifests::merged(own, of))
}

/// Its enrollment and its Secret have these keys.
async fn enroll(world: &World, number: usize, keys: [&str; 2]) {
    let name = device(number);
    world.dps.set_device_keys(SCOPE, &name, keys[0], keys[1]).expect("the keys are valid");
    world.dps.set_device_issuance(SCOPE, &name, issued::POLICY).expect("it is enrolled");
    let secret = manifests::secret(&format!("{name}-dps"), &[(PRIMARY, keys[0]), (SECONDARY, keys[1])]);
    if let Err(kube::Error::Api(_)) = world.try_create(Kind::Secret, secret).await {
        world.change_own_keys(&name, keys).await;
    }
}

/// What becomes of a device's own key.
async fn edit_key(Soak { world, dice, devices, .. }: &mut Soak) {
    let number = dice.roll(*devices / 4) * 4 + 3;
    let (name, secret) = (device(number), format!("{}-dps", device(number)));
    let symmetric = |change: Value| json!({"spec": {"attestation": {"symmetricKey": change}}});
    match dice.roll(6) {
        0 | 1 => enroll(world, number, [dice.of(&OWN_KEYS), dice.of(&OWN_KEYS)]).await,
        2 => {
            let _ = world.api(Kind::Secret).delete(&secret, &Default::default()).await;
        }
        3 => {
            let label = json!({"dps-operator.io/watch": dice.of(&[json!("true"), Value::Null])});
            let _ = world.try_patch(Kind::Secret, &secret, json!({"metadata": {"labels": label}})).await;
        }
        4 => {
            let slot = symmetric(json!({"active": dice.of(&["Primary", "Secondary"])}));
            let _ = world.try_patch(Kind::Device, &name, slot).await;
        }
        // Its enrollment is still there, so that DPS refuses the derived key.
        _ => {
            let left = json!({"spec": {"attestation": null}});
            let _ = world.try_patch(Kind::Device, &name, left).await;
        }
    }
}

/// It has a newer certificate in its Secret.
async fn renew(world: &World, number: usize) {
    let name = device(number);
    let issued = certificates::device(&ROOT, &name);
    // The API server may not answer now.
    let _ = world.try_issue(&format!("{name}-tls"), &issued, &[]).await;
}

/// What becomes of a device's certificate.
async fn edit_certificate(Soak { world, dice, devices, .. }: &mut Soak) {
    let number = dice.roll(*devices / 8) * 8 + 5;
    let (name, secret) = (device(number), format!("{}-tls", device(number)));
    match dice.roll(6) {
        0..=2 => renew(world, number).await,
        3 => {
            let _ = world.api(Kind::Secret).delete(&secret, &Default::default()).await;
        }
        // Another device's, which is refused before DPS is asked.
        4 => drop(world.try_issue(&secret, &certificates::device(&ROOT, "another"), &[]).await),
        _ => {
            let attestation = dice.of(&[Value::Null, json!({"x509": {}})]);
            let change = json!({"spec": {"attestation": attestation}});
            let _ = world.try_patch(Kind::Device, &name, change).await;
        }
    }
}

/// What a user does to a device. What is not there just now is no error.
async fn edit(Soak { world, dice, devices, .. }: &mut Soak, step: usize) {
    let devices = *devices;
    let name = device(dice.roll(devices));
    let patch = |spec: Value| json!({"spec": spec});
    let change = match dice.roll(12) {
        0 => patch(json!({"payload": {"step": step}})),
        1 => patch(json!({"payload": null})),
        2 => patch(json!({"secret": {"labels": {"step": step.to_string()}}})),
        3 => patch(json!({"secret": {"formats": [{"type": dice.of(&["Env", "Mqtt", "Dotenv"])}]}})),
        4 => patch(json!({"suspend": dice.roll(2) == 0})),
        5 => patch(json!({"integrationRef": {"name": dice.of(&INTEGRATIONS)}})),
        6 => {
            json!({"metadata": {"annotations": {"dps-operator.io/reprovision-requested-at": step.to_string()}}})
        }
        7 => json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": step.to_string()}}}),
        8 => {
            let _ = world.api(Kind::Secret).delete(&format!("{name}-hub"), &Default::default()).await;
            return;
        }
        9 => {
            let mangled = json!({"data": {"sharedAccessKey": "bWFuZ2xlZA=="}});
            let _ = world.try_patch(Kind::Secret, &format!("{name}-hub"), mangled).await;
            return;
        }
        10 => {
            let _ = world.dps.move_device(SCOPE, &name, dice.of(&HUBS));
            return;
        }
        _ => {
            let _ = world.api(Kind::Device).delete(&name, &Default::default()).await;
            let manifest = declared(dice.roll(devices), dice.of(&INTEGRATIONS));
            let _ = world.try_create(Kind::Device, manifest).await;
            return;
        }
    };
    let _ = world.try_patch(Kind::Device, &name, change).await;
}

/// Something goes wrong for a while.
async fn trouble(soak: &mut Soak) {
    let time = Duration::from_millis(200 + 100 * soak.dice.roll(30) as u64);
    match soak.dice.roll(11) {
        0 | 1 => soak.replace_a_replica().await,
        2 => {
            soak.world.signal_operator(Signal::Stop).await;
            tokio::time::sleep(time).await;
            soak.world.signal_operator(Signal::Continue).await;
        }
        3 => soak.api_server().watches.cut(),
        4 => {
            soak.world.dps.set_outage(soak.dice.of(&[Outage::Reset, Outage::Silent]));
            tokio::time::sleep(time).await;
            soak.world.dps.set_outage(Outage::None);
        }
        5 => dps_fails(soak),
        6 => {
            let slot = soak.dice.of(&["Primary", "Secondary"]);
            let slot = json!({"spec": {"attestation": {"symmetricKey": {"active": slot}}}});
            soak.world.patch(Kind::Integration, soak.dice.of(&INTEGRATIONS), slot).await;
        }
        7 => {
            let watches = soak.api_server().watches.clone();
            watches.hold();
            tokio::time::sleep(time).await;
            watches.release();
        }
        8 => {
            let ahead = soak.dice.of(&[-HOURS, 0, HOURS]);
            if soak.dice.roll(2) == 0 {
                soak.world.dps.set_clock_ahead(ahead);
            } else {
                set_clock(&soak.world, ahead);
            }
        }
        9 => {
            let certificate =
                soak.dice.of(&[Value::Null, issued::by("ECDSA-P256"), issued::by("ECDSA-P384")]);
            issued::ask(&soak.world, certificate).await;
        }
        _ => {
            let rule = api_server_fails(&mut soak.dice, time);
            let armed = soak.api_server().arm(rule);
            tokio::time::sleep(time).await;
            drop(armed);
        }
    }
}

/// Of both replicas.
fn set_clock(world: &World, ahead: i64) {
    world.clock.as_ref().expect("it has a clock").set_ahead(ahead);
}

/// The next three calls of a kind fail.
fn dps_fails(Soak { world, dice, .. }: &mut Soak) {
    let failing =
        FaultAction::Status { status: dice.of(&[500, 503, 429]), retry_after: None, error_code: None };
    let fault = Fault::global(failing).times(3).on(dice.of(&[OperationKind::Register, OperationKind::Poll]));
    world.dps.inject(fault).expect("a fault");
}

/// Some requests of a kind fail.
fn api_server_fails(dice: &mut Dice, time: Duration) -> Rule {
    let calls = ["create secrets", "patch secrets", "update provisioneddevices/status", "get secrets"];
    let answers = [
        Action::Lose,
        Action::Refuse,
        Action::Late(time),
        Action::Stall { after: 0 },
        status(500, "InternalError", "etcd is not there"),
        status(409, "Conflict", "the object has been modified"),
    ];
    Rule::all(dice.of(&calls), dice.of(&answers)).times(5)
}

/// After the last fault all that there is becomes Ready.
async fn recover(world: &mut World) {
    world.dps.clear_faults();
    world.dps.set_outage(Outage::None);
    world.dps.set_clock_ahead(0);
    set_clock(world, 0);
    world.patience = Duration::from_secs(400);
    issued::ask(world, issued::by("ECDSA-P384")).await;
    for object in world.list(Kind::Device).await {
        let name = text(&object["metadata"]["name"]);
        let number = name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number");
        if has_own_key(number) {
            enroll(world, number, OWN).await;
        } else if has_certificate(number) {
            renew(world, number).await;
        }
        let whole = json!({"spec": manifests::merged(json!({"suspend": false}), own(number))});
        world.patch(Kind::Device, name, whole).await;
    }
    let all_ready = until(world.patience, Duration::from_millis(500), async || {
        let devices = world.list(Kind::Device).await;
        let late: Vec<Value> = devices.into_iter().filter(|device| !issued::is_as_asked(device)).collect();
        if late.is_empty() { Ok(()) } else { Err(late) }
    });
    all_ready
        .await
        .unwrap_or_else(|late| world.give_up(&format!("{} never became Ready", late.len()), &late[0]));
    issued::replace_early_ones(world).await;
    world.come_to_rest().await;
    let devices = world.list(Kind::Device).await.len();
    assert!(world.assert_secrets_accepted().await >= devices);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_in_which_everything_happens_at_once_comes_to_rest() {
    let seed = number_of("SEED", u64::from(std::process::id()));
    let (minutes, devices) = (number_of("MINUTES", 0), number_of("DEVICES", 60));
    let devices = usize::try_from(devices).expect("a number of devices");
    let time = if minutes == 0 { super::seconds(20, 300) } else { Duration::from_secs(60 * minutes) };
    println!("SEED={seed}: {devices} devices for {} s", time.as_secs());
    let (mut soak, begun) = (Soak::set_up(devices, seed).await, Instant::now());

    let mut steps = 0;
    while begun.elapsed() < time {
        steps += 1;
        match soak.dice.roll(10) {
            0 | 1 => edit_key(&mut soak).await,
            2 => edit_certificate(&mut soak).await,
            _ => edit(&mut soak, steps).await,
        }
        if soak.dice.roll(10) == 0 {
            trouble(&mut soak).await;
        }
        tokio::time::sleep(PACE).await;
    }
    println!("{steps} steps; now everything should come to rest");

    recover(&mut soak.world).await;
}
