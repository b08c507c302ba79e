//! The loop that owns all state, in one task: nothing is locked and nothing races.
//!
//! What watches show is taken in (`observe`) by the owners of that knowledge (the index, `devices`,
//! `integrations`, the permits). A device that has changed is reconciled (`reconcile`): gathered from
//! memory, decided upon, and at most one effect is started. What an effect brings comes back as a
//! message, is taken in as facts, and the device is reconciled once more. Owners never call each
//! other: they return what should follow (`apply`).

mod apply;
mod claims;
mod devices;
mod endings;
mod former;
mod integrations;
mod issuance;
mod names;
mod observe;
mod publish;
mod reconcile;
mod reports;
mod sources;
mod standby;
mod superseded;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::devices::Active;
use self::endings::Endings;
use self::former::Former;
use self::integrations::Registry;
use self::issuance::{Book, Issued};
use self::observe::Watches;
use self::observe::sync::{SourceWatch, Sync, WatchId, WatchedKind};
use self::publish::{CountCalls, Publisher};
use self::reconcile::outcome::Done;
use self::sources::Sources;
use self::superseded::Superseded;
use crate::api::cert_manager::Certificate;
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::references::{Reference, Referred};
use crate::clock::{self, Now};
use crate::config::Config;
use crate::dps::observe as requests;
use crate::fleet::intern::Sym;
use crate::fleet::{DeviceId, Fleet, SourceKey};
use crate::kube_io::client::ApiServer;
use crate::kube_io::error::ApiError;
use crate::kube_io::events::Events;
use crate::kube_io::refs::WatchNumber;
use crate::kube_io::watch::Observed;
use crate::kube_io::write::{Stored, Writer};
use crate::schedule::permits::{Lane, Permits};
use crate::schedule::ready::ReadyQueue;
use crate::schedule::turns::Party;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Labels;

/// Messages that may wait for the loop; a full channel slows the watches down, which is right.
const MESSAGES: usize = 1024;
/// Devices reconciled in a row before messages are served again.
const BATCH: usize = 256;

/// Everything that wakes the loop.
enum Message {
    Integration(WatchId, Observed<DpsIntegration>),
    Referred(Reference, WatchNumber, Observed<Referred>),
    Device(WatchId, Observed<ProvisionedDevice>),
    Secret(WatchId, Observed<PartialObjectMeta<Secret>>),
    Namespace(Observed<PartialObjectMeta<Namespace>>),
    /// A Secret that a device's own key is read from.
    Source(SourceWatch, Observed<PartialObjectMeta<Secret>>),
    /// The version of such a Secret; 0 if there is none.
    SourceRead(SourceKey, Result<u64, ApiError>),
    /// A Certificate that the operator has cert-manager issue.
    Certificate(WatchId, Observed<Certificate>),
    Issued(Issued),
    Outcome(Done),
    IntegrationWritten(Sym, Result<Stored, ApiError>),
    /// Whether the namespace is being deleted.
    NamespaceRead(Sym, Result<bool, ApiError>),
}

/// What every part needs and none changes.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    server: ApiServer,
    writer: Writer,
    sender: Sender<Message>,
    telemetry: Arc<Telemetry>,
}

impl Context {
    fn connection(&self) -> (ApiServer, Sender<Message>) {
        (self.server.clone(), self.sender.clone())
    }
}

/// Whether this process acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It watches and is ready to.
    StandingBy,
    Leading,
    /// It finishes what is in flight and starts nothing new.
    Draining,
}

impl Role {
    fn leads(self) -> bool {
        self != Self::StandingBy
    }
}

/// All state of the operator.
struct Engine {
    context: Context,
    fleet: Fleet,
    active: Active,
    registry: Registry,
    endings: Endings,
    superseded: Superseded,
    former: Former,
    ready: ReadyQueue,
    permits: Permits,
    sync: Sync,
    sources: Sources,
    issuance: Book,
    watches: Watches,
    publisher: Publisher,
    role: Role,
}

/// What controls the loop from outside.
pub struct Orders {
    /// Until when this process may act; while it may not, it watches and is ready to.
    pub lead: watch::Receiver<Option<Instant>>,
    pub stop: watch::Receiver<bool>,
    /// What is in flight when it is to stop gets this long.
    pub grace: Duration,
}

/// A watch that has ended: what is known would grow old.
#[derive(Debug, thiserror::Error)]
#[error("the watch of {0} has ended; the operator has to be started again")]
pub struct WatchEnded(String);

/// Runs until it is stopped, then ends what is in flight.
///
/// # Errors
/// When a watch ends, which none should.
pub async fn run(
    config: Arc<Config>,
    server: ApiServer,
    orders: Orders,
    telemetry: Arc<Telemetry>,
) -> Result<(), WatchEnded> {
    let (sender, mut messages) = channel(MESSAGES);
    let Orders { mut lead, mut stop, grace } = orders;
    let mut engine = Engine::new(Context {
        writer: Writer::new(server.client.clone()),
        config,
        server,
        sender,
        telemetry,
    });
    engine.watches.start_integrations(&engine.context);
    if lead.borrow().is_some() {
        engine.take_over(clock::now());
    }
    let mut recovery = engine.context.server.answers.recovery();
    let mut deadline = None;
    loop {
        let now = clock::now();
        // A process that was frozen wakes up with its lease over, and another one may be
        // doing what it would do before it ends.
        let lease_over = lead.borrow().is_some_and(|until| until <= now.mono);
        let acts = engine.role.leads() && !lease_over;
        engine.turn(acts, now);
        if engine.role == Role::Draining && engine.is_drained() {
            break;
        }
        let wake = engine.next_wake(acts, now.mono).into_iter().chain(deadline).min();
        let wake = wake.unwrap_or(now.mono + Duration::from_secs(60));
        tokio::select! {
            message = messages.recv() => engine.take_all(message, &mut messages, clock::now()),
            () = sleep_until(wake) => {
                if deadline.is_some_and(|deadline| deadline <= clock::now().mono) {
                    break;
                }
            }
            leads = async { lead.wait_for(Option::is_some).await.is_ok() }, if !engine.role.leads() => {
                // The election is over: this process never leads.
                if !leads {
                    break;
                }
                engine.take_over(clock::now());
            }
            changed = stop.changed(), if engine.role != Role::Draining => {
                if changed.is_err() || *stop.borrow() {
                    info!("stopping: what is in flight is finished, nothing new is started");
                    if !engine.role.leads() {
                        break;
                    }
                    engine.role = Role::Draining;
                    deadline = Some(clock::now().mono + grace);
                }
            }
            () = recovery.wait() => engine.outage_ended(clock::now()),
            ended = engine.watches.ended() => return Err(WatchEnded(ended)),
        }
    }
    // The next leader must not meet a write of ours.
    engine.active.abort_all();
    engine.issuance.abort_all();
    Ok(())
}

impl Engine {
    fn new(context: Context) -> Self {
        let Context { config, server, writer: _, sender, telemetry } = &context;
        telemetry.metrics.begin_series_at_zero(&Labels {
            lanes: &Lane::ALL.map(Lane::as_str),
            kinds: &WatchedKind::ALL.map(WatchedKind::as_str),
            credentials: &requests::CREDENTIALS,
            operations: &requests::OPERATIONS,
            outcomes: &requests::OUTCOMES,
        });
        let observer = Arc::new(CountCalls(telemetry.clone()));
        Self {
            fleet: Fleet::default(),
            active: Active::new(config.allowed_hub_suffixes.clone()),
            registry: Registry::new(config.clone(), observer),
            endings: Endings::default(),
            superseded: Superseded::default(),
            former: Former::default(),
            ready: ReadyQueue::default(),
            permits: Permits::new(config.registrations_per_minute, config.max_in_flight),
            sync: Sync::new(config.namespaces().len()),
            sources: Sources::default(),
            issuance: Book::default(),
            watches: Watches::new(server.clone(), sender.clone()),
            publisher: Publisher::new(Events::new(server.client.clone()), config.events, telemetry.clone()),
            role: Role::StandingBy,
            context,
        }
    }

    fn take_all(&mut self, first: Option<Message>, messages: &mut Receiver<Message>, now: Now) {
        let mut next = first;
        for _ in 0..MESSAGES {
            let Some(message) = next else { return };
            self.take(message, now);
            next = messages.try_recv().ok();
        }
        if let Some(message) = next {
            self.take(message, now);
        }
    }

    fn take(&mut self, message: Message, now: Now) {
        match message {
            Message::Integration(watch, observed) => self.integration_observed(watch, observed, now),
            Message::Referred(reference, number, observed) => {
                self.referred_observed(&reference, number, observed, now)
            }
            Message::Device(watch, observed) => self.device_observed(watch, observed, now),
            Message::Secret(watch, observed) => self.secret_observed(watch, observed, now),
            Message::Namespace(observed) => self.namespace_observed(observed, now),
            Message::Source(watch, observed) => self.source_observed(watch, observed),
            Message::SourceRead(key, version) => self.source_read(&key, version),
            Message::Certificate(watch, observed) => self.certificate_observed(watch, observed),
            Message::Issued(issued) => self.certificate_issued(issued, now),
            Message::Outcome(done) => self.effect_done(done, now),
            Message::IntegrationWritten(sym, result) => self.registry.written(sym, &result, now.mono),
            Message::NamespaceRead(namespace, ends) => self.namespace_read(namespace, ends, now),
        }
    }

    /// Reconciles the devices that are ready, hands out permits, reports on integrations.
    fn turn(&mut self, acts: bool, now: Now) {
        self.context.telemetry.health.beat();
        self.forget_names();
        if !acts {
            return;
        }
        if !self.sync.is_complete() {
            return self.report_integrations(now);
        }
        self.find_due(now);
        self.follow_sources(now);
        while let Some(id) = self.active.next_turn(now.mono) {
            self.ready.wake(id);
        }
        for _ in 0..BATCH {
            let (room, fleet) = (self.active.room(), &self.fleet);
            let Some(id) = self.ready.next(now.mono, room, |id| party(fleet, id)) else { break };
            self.reconcile(id, now);
        }
        if self.role != Role::Draining {
            self.issue_certificates(now);
        }
        while self.may_call()
            && let Some(permit) = self.permits.poll(now.mono)
        {
            self.granted(permit, now);
        }
        self.report_integrations(now);
        self.publisher.set_permit_gauges(&self.permits, now.mono);
        self.context.telemetry.metrics.observe_turn(now.mono.elapsed());
    }

    fn next_wake(&self, acts: bool, now: Instant) -> Option<Instant> {
        if !acts {
            return None;
        }
        let complete = self.sync.is_complete();
        let is_ready = self.ready.has_ready_for(self.active.room());
        let ready = if is_ready { Some(now) } else { self.ready.next_due() };
        let permits = self.permits.next_at().filter(|_| self.may_call());
        let (turn, tick) = (self.active.next_turn_at(now), self.active.ticks.next());
        let look = self.sources.looks.next();
        let issue = self.issuance.next_at(now).filter(|_| self.role != Role::Draining);
        let devices = [ready, permits, turn, tick, look, issue].into_iter().flatten().filter(|_| complete);
        devices
            .min()
            .into_iter()
            .chain(self.registry.next_report(complete))
            .chain(self.publisher.next_gauges().filter(|_| complete))
            .min()
    }

    /// Calls may be begun. Beyond twice as many devices as may be in flight, what DPS has answered is
    /// written first, or a slow API server would have the whole fleet wait here.
    fn may_call(&self) -> bool {
        let most = 2 * self.context.config.max_in_flight as usize;
        self.role != Role::Draining && self.active.answered() < most
    }

    /// Nothing is in flight that a shutdown should wait for, and nothing is left to be written.
    fn is_drained(&self) -> bool {
        self.active.in_flight() == 0
            && !self.registry.is_writing()
            && !self.issuance.is_writing()
            && !self.ready.has_ready()
    }
}

/// Who bears the cost of what is done for a device.
fn party(fleet: &Fleet, id: DeviceId) -> Party {
    fleet.get(id).map_or_else(Party::default, |record| Party {
        namespace: record.namespace.index(),
        integration: record.integration.index(),
    })
}
