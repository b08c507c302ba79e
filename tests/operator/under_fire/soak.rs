//! Everything at once, for as long as one likes: `make soak MINUTES=30 SEED=7`.

use std::time::{Duration, Instant};

use dps_dev::Signal;
use dps_simulator::{Fault, FaultAction, OperationKind, Outage};
use serde_json::{Value, json};

use crate::world::objects::{is_ready, text};
use crate::world::proxy::{Action, Rule, Side, status};
use crate::world::waiting::until;
use crate::world::{HUBS, Kind, PRIMARY_KEY, SCOPE, SECONDARY_KEY, Setup, World, manifests};

const INTEGRATIONS: [&str; 3] = ["factory", "mill", "port"];
/// Between two things that happen.
const PACE: Duration = Duration::from_millis(100);

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

async fn set_up(devices: usize) -> World {
    let world = World::with(Setup { proxied: true, log_level: "info", ..Setup::default() }).await;
    for name in INTEGRATIONS {
        let secret = format!("{name}-key");
        let both = [("primaryKey", PRIMARY_KEY), ("secondaryKey", SECONDARY_KEY)];
        world.create(Kind::Secret, manifests::secret(&secret, &both)).await;
        let attestation = json!({"symmetricKey": {"secondaryKeyRef": {"name": secret}}});
        world.integration_without_key(name, json!({"attestation": attestation})).await;
    }
    for number in 0..devices {
        let name = INTEGRATIONS[number % INTEGRATIONS.len()];
        world.device_with(&device(number), json!({"integrationRef": {"name": name}})).await;
    }
    world.wait_all_ready(devices).await;
    world
}

fn device(number: usize) -> String {
    format!("device-{number:04}")
}

/// What a user does to a device. What is not there just now is no error.
async fn edit(world: &World, dice: &mut Dice, devices: usize, step: usize) {
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
            let name = json!({"integrationRef": {"name": dice.of(&INTEGRATIONS)}});
            let manifest = manifests::device(&device(dice.roll(devices)), name);
            let _ = world.try_create(Kind::Device, manifest).await;
            return;
        }
    };
    let _ = world.try_patch(Kind::Device, &name, change).await;
}

/// Something goes wrong for a while.
async fn trouble(world: &mut World, dice: &mut Dice) {
    let calls = ["create secrets", "patch secrets", "update provisioneddevices/status", "get secrets"];
    let time = Duration::from_millis(200 + 100 * dice.roll(30) as u64);
    let once =
        |action| Fault { times: 3.try_into().ok(), operations: Vec::new(), ..Fault::device("", action) };
    match dice.roll(10) {
        0 => {
            world.kill_operator().await;
            world.start_operator().await;
        }
        1 => world.restart_operator().await,
        2 => {
            world.signal_operator(Signal::Stop).await;
            tokio::time::sleep(time).await;
            world.signal_operator(Signal::Continue).await;
        }
        3 => world.proxies().api_server.watches.cut(),
        4 => {
            world.dps.set_outage(dice.of(&[Outage::Reset, Outage::Silent]));
            tokio::time::sleep(time).await;
            world.dps.set_outage(Outage::None);
        }
        5 => {
            let failing = FaultAction::Status {
                status: dice.of(&[500, 503, 429]),
                retry_after: None,
                error_code: None,
            };
            let fault = Fault { registration_id: None, ..once(failing) };
            world
                .dps
                .inject(fault.on(dice.of(&[OperationKind::Register, OperationKind::Poll])))
                .expect("a fault");
        }
        6 => {
            let slot = json!({"spec": {"attestation": {"symmetricKey": {"active": dice.of(&["Primary", "Secondary"])}}}});
            world.patch(Kind::Integration, dice.of(&INTEGRATIONS), slot).await;
        }
        7 => {
            world.proxies().api_server.watches.hold();
            tokio::time::sleep(time).await;
            world.proxies().api_server.watches.release();
        }
        _ => {
            let answers = [
                Action::Lose,
                Action::Refuse,
                Action::Late(time),
                Action::Stall { after: 0 },
                status(500, "InternalError", "etcd is not there"),
                status(409, "Conflict", "the object has been modified"),
            ];
            let rule = Rule::all(dice.of(&calls), dice.of(&answers)).times(5);
            let armed = world.proxies().arm(Side::ApiServer, rule);
            tokio::time::sleep(time).await;
            drop(armed);
        }
    }
}

/// After the last fault all that there is becomes Ready.
async fn recover(world: &mut World) {
    world.dps.clear_faults();
    world.dps.set_outage(Outage::None);
    world.patience = Duration::from_secs(400);
    for object in world.list(Kind::Device).await {
        let resume = json!({"spec": {"suspend": false}});
        world.patch(Kind::Device, text(&object["metadata"]["name"]), resume).await;
    }
    let all_ready = until(world.patience, Duration::from_millis(500), async || {
        let devices = world.list(Kind::Device).await;
        let late: Vec<Value> = devices.into_iter().filter(|device| !is_ready(device)).collect();
        if late.is_empty() { Ok(()) } else { Err(late) }
    });
    all_ready
        .await
        .unwrap_or_else(|late| world.give_up(&format!("{} never became Ready", late.len()), &late[0]));
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
    let (mut world, mut dice, begun) = (set_up(devices).await, Dice(seed), Instant::now());

    let mut steps = 0;
    while begun.elapsed() < time {
        steps += 1;
        edit(&world, &mut dice, devices, steps).await;
        if dice.roll(10) == 0 {
            trouble(&mut world, &mut dice).await;
        }
        tokio::time::sleep(PACE).await;
    }
    println!("{steps} steps; now everything should come to rest");

    recover(&mut world).await;
}
