//! The loop: watches tell what changed, devices are looked at one after the other, side effects run
//! beside it and report back. One task owns all state, so nothing is locked and nothing races.

mod answers;
mod calls;
mod checks;
mod devices;
mod effects;
mod events;
mod fights;
mod gauges;
mod integrations;
mod namespaces;
mod objects;
mod parked;
mod progress;
mod reports;
mod standby;
mod watches;
mod work;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::core::PartialObjectMeta;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::calls::Held;
use self::checks::{Check, Ticks};
use self::devices::Tell;
use self::events::Teller;
use self::fights::Fight;
use self::integrations::{Clients, Integration};
use self::namespaces::Namespaces;
use self::parked::Parked;
use self::progress::Progress;
use self::work::{Effect, Work};
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::references::{Reference, Referred};
use crate::clock;
use crate::config::Config;
use crate::fleet::intern::Sym;
use crate::fleet::uid::Uid;
use crate::fleet::{DeviceId, Fleet};
use crate::kube_io::error::ApiError;
use crate::kube_io::events::Events;
use crate::kube_io::refs::Refs;
use crate::kube_io::watch::Seen;
use crate::kube_io::write::Writer;
use crate::schedule::pace::Pace;
use crate::schedule::permits::Permits;
use crate::schedule::ready::ReadyQueue;
use crate::telemetry::Telemetry;

/// Messages that may wait for the loop; a full channel slows the watches down, which is right.
const MESSAGES: usize = 1024;
/// Side effects in flight beyond which no call is begun.
const TASKS: usize = 1024;
/// Looks in a row before messages are served again.
const BATCH: usize = 256;

/// Everything that wakes the loop. `usize` names the watch: its place in `Config::namespaces`.
pub(crate) enum Message {
    Integration(usize, Seen<DpsIntegration>),
    Referred(Reference, Seen<Referred>),
    Device(usize, Seen<ProvisionedDevice>),
    Secret(usize, Seen<PartialObjectMeta<Secret>>),
    Namespace(Seen<PartialObjectMeta<Namespace>>),
    Effect(DeviceId, Uid, Effect),
    IntegrationWritten(Sym, Result<u64, ApiError>),
}

/// All state of the operator.
pub struct Engine {
    config: Arc<Config>,
    client: Client,
    writer: Writer,
    sender: Sender<Message>,
    fleet: Fleet,
    runner: ReadyQueue,
    queue: Permits,
    /// Boxed: the map stays as large as it once was, and most devices need no work most of the time.
    work: HashMap<DeviceId, Box<Work>>,
    /// Devices whose side effect is in flight.
    tasks: usize,
    /// Devices that wait for their first registration in a long line.
    parked: HashMap<DeviceId, Parked>,
    /// Devices that are being read again, and those that wait for that.
    reading: HashSet<DeviceId>,
    to_read: VecDeque<DeviceId>,
    waits_to_be_read: HashSet<DeviceId>,
    /// Reads in a row that failed.
    unread: HashMap<DeviceId, u32>,
    /// Devices whose Secret was restored lately.
    fights: HashMap<DeviceId, Fight>,
    permits: HashMap<DeviceId, Held>,
    /// Settled devices whose check is due, and what it has come to.
    checks: HashMap<DeviceId, Check>,
    ticks: Ticks,
    /// When a device may be told that its integration is missing or not ready.
    tell_at: HashMap<DeviceId, Tell>,
    tells: Pace,
    /// When new devices that wait for their turn say so.
    queued_at: HashMap<DeviceId, Instant>,
    queued_tells: Pace,
    /// When settled devices are looked at whose Secret has another version than the one we wrote.
    verify_at: HashMap<DeviceId, Instant>,
    verifications: Pace,
    integrations: HashMap<Sym, Integration>,
    /// Last number given to a state of an integration.
    epochs: u64,
    namespaces: Namespaces,
    referred: HashMap<Reference, Referred>,
    refs: Refs<Message>,
    clients: Clients,
    progress: Progress,
    counters: reports::Counters,
    teller: Teller,
    /// This process is the one that acts; others watch and are ready to.
    acting: bool,
    lease_over: bool,
    draining: bool,
    telemetry: Arc<Telemetry>,
}

/// What the loop is told from outside.
pub struct Orders {
    /// Until when this process may act; while it may not, it watches and is ready to.
    pub lead: watch::Receiver<Option<Instant>>,
    pub stop: watch::Receiver<bool>,
    /// What is in flight when it is to stop gets this long.
    pub grace: Duration,
}

/// Runs until it is told to stop, then ends what is in flight.
pub async fn run(config: Arc<Config>, client: Client, orders: Orders, telemetry: Arc<Telemetry>) {
    let (sender, mut messages) = channel(MESSAGES);
    let Orders { mut lead, mut stop, grace } = orders;
    let mut engine = Engine::new(config, client, sender, telemetry);
    if lead.borrow().is_some() {
        engine.take_over();
    }
    engine.start();
    let mut deadline = None;
    loop {
        // A process that was frozen wakes up with its lease over, and whatever it does before it ends
        // another one may be doing.
        engine.lease_over = lead.borrow().is_some_and(|until| until <= clock::now().mono);
        engine.look(clock::now().mono);
        if engine.draining && !engine.busy() && !(engine.acting && engine.runner.has_ready()) {
            break;
        }
        let now = clock::now().mono;
        let wake =
            engine.next_wake(now).into_iter().chain(deadline).min().unwrap_or(now + Duration::from_secs(60));
        tokio::select! {
            message = messages.recv() => engine.take_all(message, &mut messages),
            () = sleep_until(wake) => {
                if deadline.is_some_and(|deadline| deadline <= clock::now().mono) {
                    break;
                }
            }
            leads = async { lead.wait_for(Option::is_some).await.is_ok() }, if !engine.acting => {
                // Nobody is left who could say so.
                if !leads {
                    break;
                }
                engine.take_over();
            }
            changed = stop.changed(), if !engine.draining => {
                if changed.is_err() || *stop.borrow() {
                    info!("stopping: what is in flight is finished, nothing new is started");
                    engine.draining = true;
                    deadline = Some(clock::now().mono + grace);
                }
            }
        }
    }
    // Whoever leads next must not meet a write of ours.
    engine.work.values().filter_map(|work| work.task.as_ref()).for_each(AbortHandle::abort);
}

impl Engine {
    fn new(config: Arc<Config>, client: Client, sender: Sender<Message>, telemetry: Arc<Telemetry>) -> Self {
        let refs = Refs::new(client.clone(), sender.clone(), Message::Referred);
        Self {
            queue: Permits::new(config.registrations_per_minute, config.max_in_flight),
            writer: Writer::new(client.clone()),
            clients: Clients::new(config.clone(), telemetry.clone()),
            progress: Progress::new(config.namespaces().len()),
            counters: reports::Counters::default(),
            teller: Teller::new(Events::new(client.clone()), config.events),
            fleet: Fleet::default(),
            runner: ReadyQueue::default(),
            work: HashMap::new(),
            parked: HashMap::new(),
            tasks: 0,
            reading: HashSet::new(),
            to_read: VecDeque::new(),
            waits_to_be_read: HashSet::new(),
            unread: HashMap::new(),
            fights: HashMap::new(),
            permits: HashMap::new(),
            checks: HashMap::new(),
            ticks: Ticks::default(),
            tell_at: HashMap::new(),
            tells: Pace::new(devices::TELL_INTERVAL, 0),
            queued_at: HashMap::new(),
            queued_tells: Pace::new(devices::TELL_INTERVAL, 0),
            verify_at: HashMap::new(),
            verifications: Pace::new(devices::VERIFY_INTERVAL, devices::VERIFIED_AT_ONCE),
            integrations: HashMap::new(),
            epochs: 0,
            namespaces: Namespaces::default(),
            referred: HashMap::new(),
            refs,
            config,
            client,
            sender,
            acting: false,
            lease_over: false,
            draining: false,
            telemetry,
        }
    }

    fn take_all(&mut self, first: Option<Message>, messages: &mut Receiver<Message>) {
        let mut next = first;
        for _ in 0..MESSAGES {
            let Some(message) = next else { return };
            self.take(message);
            next = messages.try_recv().ok();
        }
        if let Some(message) = next {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Integration(watch, seen) => self.integration_seen(watch, seen),
            Message::Referred(reference, seen) => self.referred_seen(reference, seen),
            Message::Device(watch, seen) => self.device_seen(watch, seen),
            Message::Secret(watch, seen) => self.secret_seen(watch, seen),
            Message::Namespace(seen) => self.namespace_seen(seen),
            Message::Effect(id, uid, effect) => self.effect(id, uid, effect),
            Message::IntegrationWritten(integration, result) => self.integration_written(integration, result),
        }
    }

    /// Looks at what is ready, hands out permits, writes integrations' statuses.
    fn look(&mut self, now: Instant) {
        self.telemetry.health.beat();
        if !self.acting || self.lease_over {
            return;
        }
        if !self.progress.running() {
            self.flush_integrations(now);
            return;
        }
        self.tick();
        for _ in 0..BATCH {
            let Some(id) = self.runner.next(now) else { break };
            self.step(id);
        }
        while self.may_call()
            // A fresh time for each: a permit is of use for a moment only.
            && let Some(permit) = self.queue.poll(clock::now().mono)
        {
            self.granted(permit);
        }
        self.flush_integrations(now);
        self.publish_queue(now);
        self.telemetry.metrics.looked(now.elapsed());
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        if !self.acting || self.lease_over {
            return None;
        }
        let devices = self.runner.next_due().filter(|_| self.progress.running());
        let ready = self.runner.has_ready().then_some(now).filter(|_| self.progress.running());
        let permits = self.queue.next_at().filter(|_| self.may_call() && self.progress.running());
        let tick = self.next_tick().filter(|_| self.progress.running());
        [ready, devices, permits, tick, self.next_flush()].into_iter().flatten().min()
    }

    /// Calls may be begun. What DPS has answered is written first, or a slow API server would have
    /// the whole fleet wait here.
    fn may_call(&self) -> bool {
        !self.draining && self.tasks < TASKS.max(2 * self.config.max_in_flight as usize)
    }

    /// Something is in flight that a shutdown should wait for.
    fn busy(&self) -> bool {
        self.tasks > 0 || self.integrations.values().any(|i| i.writing)
    }
}
