//! A flow is run undisturbed, which shows its side effects; then once for each of them and each thing that
//! can happen there, and must always end in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dps_dev::Signal;
use serde_json::Value;

use super::is_thorough;
use super::snapshot::{differences, snapshot};
use crate::world::proxy::{Action, Moment, Record, Rule, Side};
use crate::world::waiting::until;
use crate::world::{INTEGRATION, POLL, Setup, World};

/// How long a frozen process stands still.
const FREEZE: Duration = Duration::from_secs(1);

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

/// The n-th request of a kind that concerns the device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    side: Side,
    call: String,
    nth: usize,
    /// It did what it was to do.
    succeeded: bool,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill(Moment),
    /// It is asked to end, which it does in good order.
    End(Moment),
    Freeze(Moment),
    /// It is carried out, and its answer lost.
    Lose,
}

impl Blow {
    const ALL: [Self; 10] = [
        Self::Kill(Moment::Before),
        Self::Kill(Moment::Forwarded),
        Self::Kill(Moment::Answered),
        Self::End(Moment::Before),
        Self::End(Moment::Forwarded),
        Self::End(Moment::Answered),
        Self::Freeze(Moment::Before),
        Self::Freeze(Moment::Forwarded),
        Self::Freeze(Moment::Answered),
        Self::Lose,
    ];
    /// Those that leave most room for mistakes.
    const SMOKE: [Self; 2] = [Self::Kill(Moment::Forwarded), Self::Lose];

    fn action(self) -> Action {
        match self {
            Self::Kill(moment) => Action::Kill(moment),
            Self::End(moment) => Action::Signal(moment, Signal::Terminate),
            Self::Freeze(moment) => Action::Freeze(moment, FREEZE),
            Self::Lose => Action::Lose,
        }
    }
}

impl<P, A, D> Flow<P, A, D>
where
    P: AsyncFn(&World, &str),
    A: AsyncFn(&World, &str),
    D: AsyncFn(&World, &str),
{
    /// Runs it once for each of its side effects and each thing that can happen there.
    pub async fn enumerate(self) {
        let mut world = World::with(Setup { proxied: true, ..self.setup.clone() }).await;
        world.integration(INTEGRATION).await;
        world.device("first").await;
        world.wait_ready("first").await;
        let (points, end) = self.learn(&world).await;
        let blows: &[Blow] = if is_thorough() { &Blow::ALL } else { &Blow::SMOKE };
        let cases = points.iter().flat_map(|point| blows.iter().map(move |blow| (point, *blow)));
        let cases: Vec<(usize, (&Point, Blow))> = cases.enumerate().collect();
        for (number, (point, blow)) in &cases {
            let device = name_of(*number);
            self.strike(&mut world, &device, point, *blow).await;
            (self.done)(&world, &device).await;
            let differs = until(world.patience, POLL, async || {
                let found = differences(&snapshot(&world, &device).await, &end);
                if found.is_empty() { Ok(()) } else { Err(found) }
            });
            let case = format!("{}: {blow:?} at {point:?} ({device})", self.name);
            differs.await.unwrap_or_else(|found| panic!("{case}\n{found:#?}\n{}", world.operator_log_tail()));
        }
        self.assert_calls(&world, &points, &cases);
        world.assert_only_device_calls();
        assert!(world.operator_runs());
        let kinds: BTreeSet<&str> = points.iter().map(|point| point.call.as_str()).collect();
        println!("{}: {} points ({kinds:?})", self.name, points.len());
        // dev/faults adds them up.
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        println!("cases of {test}: {}", cases.len());
    }

    /// Runs it undisturbed: its side effects, and its end.
    async fn learn(&self, world: &World) -> (Vec<Point>, Value) {
        let device = REFERENCE;
        (self.prepare)(world, device).await;
        rest(world, device).await;
        let before = world.proxies().records.len();
        (self.act)(world, device).await;
        (self.done)(world, device).await;
        let end = snapshot(world, device).await;
        (points(world, before, device), end)
    }

    /// Runs it with a blow at a point of it.
    async fn strike(&self, world: &mut World, device: &str, point: &Point, blow: Blow) {
        (self.prepare)(world, device).await;
        rest(world, device).await;
        let rule = Rule::next(&point.call, blow.action()).of(device).skip(point.nth);
        let mut armed = world.proxies().arm(point.side, rule);
        let before = world.proxies().records.len();
        (self.act)(world, device).await;
        let struck = tokio::time::timeout(world.patience, armed.hit(1)).await;
        if struck.is_err() {
            let came = requests(world, before, device);
            panic!("{}: {blow:?} at {point:?} never came to {device}:\n{came:#?}", self.name);
        }
        if let Blow::Kill(_) | Blow::End(_) = blow {
            world.operator_ended().await;
            world.start_operator().await;
        }
    }

    /// A registration whose result was not written down yet was made once more at most, no other.
    fn assert_calls(&self, world: &World, points: &[Point], cases: &[(usize, (&Point, Blow))]) {
        let usual = world.registers_of(REFERENCE);
        for (number, (point, blow)) in cases {
            let device = name_of(*number);
            let most = usual + usize::from(may_register_again(points, point, *blow));
            let made = world.registers_of(&device);
            assert!(made <= most, "{}: {blow:?} at {point:?} ({device}): {made} of {most}", self.name);
        }
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
        .map(|Record { call, status, .. }| {
            let nth = seen.entry(call.to_string()).or_default();
            *nth += 1;
            let succeeded = status.is_some_and(|status| status < 300);
            Point { side: call.side, call: call.to_string(), nth: *nth - 1, succeeded }
        })
        .collect()
}

fn may_register_again(points: &[Point], point: &Point, blow: Blow) -> bool {
    let is_secret = |point: &Point| point.call.ends_with(" secrets") && point.succeeded;
    let registers = points.iter().any(|point| point.call == "register");
    let at = points.iter().position(|other| other == point);
    let written = points.iter().position(is_secret).unwrap_or(points.len());
    registers
        && at.is_some_and(|at| {
            at < written
                || (at == written && matches!(blow, Blow::Kill(Moment::Before) | Blow::End(Moment::Before)))
        })
}
