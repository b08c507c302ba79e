//! A flow is run undisturbed, which shows its side effects; then once for each of them and each thing that
//! can happen there, and must always end in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::blows::{Case, Point};
use super::is_thorough;
use super::snapshot::{differences, snapshot, twin_of};
use crate::world::proxy::{Armed, Call, Record, Rule};
use crate::world::waiting::until;
use crate::world::{INTEGRATION, POLL, Setup, World};

/// For so long watches show nothing in a stale case.
const STALE: Duration = Duration::from_secs(2);

/// Something that happens to a device.
pub struct Flow<P, A, D> {
    pub name: &'static str,
    pub setup: Setup,
    /// What there is before; ends when everything has come to rest.
    pub prepare: P,
    pub act: A,
    /// Waits until what was asked for is done.
    pub done: D,
}

impl<P, A, D> Flow<P, A, D>
where
    P: AsyncFn(&World, &str),
    A: AsyncFn(&World, &str),
    D: AsyncFn(&World, &str),
{
    /// Runs it once for each of its side effects and each thing that can happen there.
    pub async fn enumerate(self) {
        self.enumerate_and(async |_, _| {}).await;
    }

    /// The same, where ends can be compared only after this, which is not part of the flow.
    pub async fn enumerate_and(self, settle: impl AsyncFn(&World, &str)) {
        let mut world = World::with(Setup { proxied: true, ..self.setup.clone() }).await;
        world.integration(INTEGRATION).await;
        world.device("first").await;
        world.wait_ready("first").await;
        let (points, usual) = self.learn(&world).await;
        settle(&world, REFERENCE).await;
        let end = snapshot(&world, REFERENCE).await;
        let cases: Vec<(usize, Case<'_>)> = Case::all(&points).into_iter().enumerate().collect();
        let (mut repeated, mut longest) = (0, Duration::ZERO);
        for (number, case) in &cases {
            let device = name_of(*number);
            let (before, hit) = self.strike(&mut world, &device, case).await;
            settle(&world, &device).await;
            let differs = until(world.patience, POLL, async || {
                let found = differences(&snapshot(&world, &device).await, &end);
                if found.is_empty() { Ok(()) } else { Err(found) }
            });
            let case = format!("{}: {case:?} ({device})", self.name);
            differs.await.unwrap_or_else(|found| panic!("{case}\n{found:#?}\n{}", world.operator_log_tail()));
            longest = longest.max(hit.elapsed());
            for (one, usually) in PAIR.into_iter().zip(usual) {
                let Registrations { made, accounted_for } =
                    registrations(&world, before, &device, one, usual);
                assert!(made <= usually, "{case}: {made} registrations of {one:?}, usually {usually}");
                repeated += accounted_for;
            }
        }
        world.assert_only_device_calls();
        if is_thorough() {
            world.come_to_rest().await;
        }
        assert!(world.operator_runs());
        let kinds: BTreeSet<&str> = points.iter().map(|point| point.call.as_str()).collect();
        println!("{}: {} points ({kinds:?})", self.name, points.len());
        println!(
            "{}: {repeated} registrations made once more, {longest:.1?} from a blow to the end",
            self.name
        );
        // dev/faults adds them up.
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        println!("cases of {test}: {}", cases.len());
    }

    /// Runs it undisturbed; returns its side effects and how many registrations it takes.
    async fn learn(&self, world: &World) -> (Vec<Point>, Usual) {
        let device = REFERENCE;
        (self.prepare)(world, device).await;
        rest(world, device).await;
        let before = world.proxies().records.len();
        (self.act)(world, device).await;
        (self.done)(world, device).await;
        let usual = PAIR.map(|one| registrations(world, before, device, one, [0; 2]).made);
        (points(world, before, device), usual)
    }

    /// Runs it with a blow at a point of it, and perhaps another one later. Returns how many requests had
    /// been made before it, and when the last blow fell.
    async fn strike(&self, world: &mut World, device: &str, case: &Case<'_>) -> (usize, Instant) {
        (self.prepare)(world, device).await;
        rest(world, device).await;
        let (point, blow) = case.first;
        let rule = Rule::next(&point.call, blow.action()).of(device).skip(point.nth);
        let armed = world.proxies().arm(point.side, rule);
        let before = world.proxies().records.len();
        (self.act)(world, device).await;
        let struck = self.hits(world, device, armed, point.is_certain()).await;
        let mut hit = Instant::now();
        assert!(
            struck || !point.is_certain(),
            "{}: {case:?} never came to {device}:\n{:#?}",
            self.name,
            requests(world, before, device)
        );
        if case.is_stale {
            world.proxies().api_server.watches.hold();
        }
        if struck && blow.ends() {
            world.operator_ended().await;
            world.start_operator().await;
        }
        if case.is_stale {
            tokio::time::sleep(STALE).await;
            world.proxies().api_server.watches.release();
        }
        if let Some((point, blow)) = case.then {
            // After the first blow the flow may be done without another request of this kind.
            let armed = world.proxies().arm(point.side, Rule::next(&point.call, blow.action()).of(device));
            if self.hits(world, device, armed, false).await {
                hit = Instant::now();
                if blow.ends() {
                    world.operator_ended().await;
                    world.start_operator().await;
                }
            }
        }
        (self.done)(world, device).await;
        (before, hit)
    }

    /// Waits until it comes to this; where that is not certain, until the flow is done.
    async fn hits(&self, world: &World, device: &str, mut armed: Armed, is_certain: bool) -> bool {
        if is_certain {
            let _ = tokio::time::timeout(world.patience, armed.hit(1)).await;
        } else {
            tokio::select! {
                () = armed.hit(1) => {}
                () = (self.done)(world, device) => {}
            }
        }
        armed.disarm() > 0
    }
}

/// Waits until nothing is asked any longer that concerns the device: events come after everything else.
async fn rest(world: &World, device: &str) {
    const REST: Duration = Duration::from_millis(500);
    let of_device = || requests(world, 0, device).len();
    let resting = until(world.patience, Duration::ZERO, async || {
        let before = of_device();
        tokio::time::sleep(REST).await;
        if of_device() == before { Ok(()) } else { Err(()) }
    });
    resting.await.unwrap_or_else(|()| panic!("{device} never comes to rest"));
}

const REFERENCE: &str = "reference";

fn name_of(case: usize) -> String {
    format!("case-{case:03}")
}

/// What was asked that concerns the device, after the first so many requests.
fn requests(world: &World, before: usize, device: &str) -> Vec<String> {
    let records = world.proxies().records.since(before).into_iter();
    let of_device = records.filter(|record| record.call.is_of(device));
    of_device
        .map(|record| format!("{} {} {}", record.call, record.call.name, record.body["reason"]))
        .collect()
}

/// Side effects that concern the device, after the first so many requests. Events are told as far as there
/// is room and time, so no run can count on one.
fn points(world: &World, before: usize, device: &str) -> Vec<Point> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let records = world.proxies().records.since(before).into_iter();
    records
        .filter(|record| {
            record.call.is_effect() && record.call.is_of(device) && record.call.resource != "events"
        })
        .map(|Record { call, .. }| {
            let nth = seen.entry(call.to_string()).or_default();
            *nth += 1;
            Point { side: call.side, call: call.to_string(), nth: *nth - 1 }
        })
        .collect()
}

/// One of the two devices that a flow may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum One {
    Device,
    Twin,
}

const PAIR: [One; 2] = [One::Device, One::Twin];

/// How many registrations of each are made without a blow.
type Usual = [usize; 2];

impl One {
    /// Whose call it is, by its name, if it is of one of them.
    fn of(call: &Call, device: &str) -> Option<Self> {
        let one = if call.is_of(&twin_of(device)) { Self::Twin } else { Self::Device };
        call.is_of(device).then_some(one)
    }
}

/// Registrations that DPS answered: those that no blow accounts for, and the others.
struct Registrations {
    made: usize,
    accounted_for: usize,
}

/// One that was struck before its result was written to the Secret may be made once more; it may have been begun
/// while the blow was on its way. Where one of the two only registers, the other's Secret may be its own: their names
/// pass on. `usual`: so many are made without a blow.
fn registrations(world: &World, before: usize, device: &str, one: One, usual: Usual) -> Registrations {
    let is_alone = usual.contains(&0);
    let (mut made, mut is_open, mut blows, mut accounted_for) = (0, usual[one as usize] > 0, 0, 0);
    for Record { call, status, is_struck, .. } in world.proxies().records.since(before) {
        let Some(of) = One::of(&call, device).filter(|_| call.is_effect()) else { continue };
        let is_its = of == one;
        let is_done = status.is_some_and(|status| status < 300);
        match call.to_string().as_str() {
            "register" if is_its && status.is_some() && made > 0 && blows > 0 => {
                (is_open, blows, accounted_for) = (true, blows - 1, accounted_for + 1);
            }
            "register" if is_its && status.is_some() => (is_open, made) = (true, made + 1),
            call if call.ends_with(" secrets") && is_done && (is_its || is_alone) => is_open = false,
            _ => {}
        }
        // The process is struck at the call of one, and may have begun with the other.
        blows += usize::from(is_struck && is_open);
    }
    Registrations { made, accounted_for }
}
