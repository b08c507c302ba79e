//! One course: a world that is led through moves, and all that is known of what was wanted.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc::error::TryRecvError;

use super::moves::{Device, Effect, Effects, NAMES, Step};
use crate::controller::device::decide::Call;
use crate::engine::reconcile::outcome::Outcome;
use crate::engine::tests::api::{Api, Stored};
use crate::engine::tests::{OTHER_SCOPE, SCOPE, World};
use crate::engine::{Engine, Message};
use crate::fleet::DeviceId;

/// Real time that the operator may take to come to rest on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const FLAGS: &[&str] = &["--registrations-per-minute=1000000", "--events=none"];

/// What a user wants of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub declared: bool,
    /// The second of two payloads.
    pub other_payload: bool,
    pub suspended: bool,
    /// It refers to the second of two integrations.
    pub other_integration: bool,
    pub label: u32,
    /// It has the registration id of the first device.
    pub rival: bool,
}

impl Wanted {
    fn new(rival: bool) -> Self {
        Self {
            declared: false,
            other_payload: false,
            suspended: false,
            other_integration: false,
            label: 0,
            rival,
        }
    }

    pub(super) fn scope(&self) -> &'static str {
        if self.other_integration { OTHER_SCOPE } else { SCOPE }
    }
}

/// What is not what it should be.
#[derive(Clone, Debug)]
pub(super) struct Breach(pub String);

/// What one course leaves to the next one.
pub(super) struct Site {
    pub dps: dps_simulator::Running,
    pub before: Option<Engine>,
}

/// One world on its way.
pub(super) struct Course {
    pub world: World,
    pub wanted: [Wanted; 2],
    /// The slot that is wanted is the secondary one.
    pub secondary: bool,
    pub integration_suspended: bool,
    /// Different for each request of a user.
    pub number: u32,
    /// Kinds whose watches show nothing.
    pub held_kinds: Vec<&'static str>,
    /// Versions of objects that were held back once.
    pub late: HashSet<String>,
    pub holds_answers: bool,
    /// Answers of DPS that are on their way.
    pub held: Vec<Message>,
    pub dies_after: Option<Effect>,
    /// Registrations for which there was a reason.
    pub allowed: usize,
    pub effects: Effects,
    /// Devices of which nothing recorded what DPS held when the operator died, and the registrations that
    /// there had been.
    pub unwritten_at_death: [Option<usize>; 2],
    /// What statuses said last: their generation, and whether the device was Ready.
    pub said: HashMap<String, (i64, bool)>,
    pub breach: Option<Breach>,
}

impl Course {
    /// With the connections of the operator of a course before.
    pub(super) fn new(site: Site, rival: bool) -> Self {
        let Site { dps, before } = site;
        let (mut engine, messages, api) = World::engine(&dps, Api::default(), FLAGS);
        if let Some(mut before) = before {
            engine.registry.inherit_connections(&mut before.registry);
        }
        let (now, labelled) = (crate::clock::now(), std::collections::HashSet::new());
        let mut world = World { engine, messages, api, dps, now, labelled };
        world.engine.take_over(world.now);
        Self {
            world,
            wanted: [Wanted::new(false), Wanted::new(rival)],
            secondary: false,
            integration_suspended: false,
            number: 0,
            held_kinds: Vec::new(),
            late: HashSet::new(),
            holds_answers: false,
            held: Vec::new(),
            dies_after: None,
            allowed: 0,
            effects: Effects::default(),
            unwritten_at_death: [None; 2],
            said: HashMap::new(),
            breach: None,
        }
    }

    pub(super) fn leave(self) -> Site {
        let World { engine, dps, .. } = self.world;
        engine.active.abort_all();
        Site { dps, before: Some(engine) }
    }

    pub(super) fn registration_id(&self, device: Device) -> &'static str {
        if self.wanted[device].rival { NAMES[0] } else { NAMES[device] }
    }

    /// One of its devices has the registration id of the other one.
    pub(super) fn has_rivals(&self) -> bool {
        self.wanted[1].rival
    }

    pub(super) fn breaks(&mut self, what: String) {
        self.breach.get_or_insert(Breach(what));
    }

    /// Makes a move, with what goes wrong, and lets the operator come to rest.
    pub(super) async fn step(&mut self, step: Step) {
        // Statuses tell times in seconds.
        self.world.pass(Duration::from_secs(1));
        self.effects = Effects::default();
        if let Some(fault) = step.fault {
            self.arm(fault);
        }
        self.play(step.what).await;
        self.settle().await;
        self.disarm();
        self.judge_quiet();
    }

    /// Lets the operator go on until nothing is left to do but what is held back.
    pub(super) async fn settle(&mut self) {
        let begun = Instant::now();
        loop {
            self.world.engine.turn(true, self.world.now);
            self.show();
            match self.world.messages.try_recv() {
                Ok(message) => {
                    self.receive(message);
                    continue;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) if self.is_idle() => return,
                Err(_) => {}
            }
            if begun.elapsed() > PATIENCE {
                return self.breaks("the operator does not come to rest".to_owned());
            }
            let soon = Duration::from_millis(5);
            if let Ok(Some(message)) = tokio::time::timeout(soon, self.world.messages.recv()).await {
                self.receive(message);
            }
        }
    }

    fn is_idle(&self) -> bool {
        let (engine, now) = (&self.world.engine, self.world.now.mono);
        engine.active.going_on() == self.held.iter().filter(|message| self.is_awaited(message)).count()
            && !engine.registry.is_writing()
            && !engine.ready.has_ready()
            && !engine.endings.is_asking()
            && engine.active.next_turn_at(now).is_none_or(|at| at > now)
            && engine.ready.next_due().is_none_or(|at| at > now)
    }

    /// A device waits for what is held back.
    fn is_awaited(&self, message: &Message) -> bool {
        let (Message::Outcome(done), engine) = (message, &self.world.engine) else { return false };
        let is_its = engine.fleet.get(done.id).is_some_and(|record| record.uid == done.uid);
        is_its && engine.active.work(done.id).is_some_and(|work| work.task.is_some())
    }

    fn receive(&mut self, message: Message) {
        let ended = ended(&message);
        match ended {
            Some(Effect::Call) => self.effects.calls += 1,
            Some(Effect::Secret) => self.effects.secrets += 1,
            Some(Effect::Status) => self.effects.statuses += 1,
            None => {}
        }
        if ended.is_some() && self.dies_after == ended {
            self.dies_after = None;
            let own = own_device(&message).filter(|_| ended != Some(Effect::Call));
            return self.die_but_for(own);
        }
        if self.holds_answers && ended == Some(Effect::Call) {
            return self.held.push(message);
        }
        self.world.take(message);
    }

    /// What was held back arrives.
    pub(super) fn arrive(&mut self) {
        self.held_kinds.clear();
        self.holds_answers = false;
        for message in std::mem::take(&mut self.held) {
            self.world.take(message);
        }
    }

    /// Another operator begins, which has read what there is.
    pub(super) fn die(&mut self) {
        self.die_but_for(None);
    }

    /// `own`: the device of which DPS has nothing that is not written.
    fn die_but_for(&mut self, own: Option<DeviceId>) {
        // What was asked and not written may be registered once more.
        self.allowed += self.unwritten(own);
        self.held.clear();
        self.holds_answers = false;
        self.held_kinds.clear();
        for device in [0, 1] {
            self.note_unwritten(device);
        }
        // What the old one has not seen is judged all the same.
        for stored in self.world.api.changes() {
            self.judge_change(&stored);
        }
        self.world.labelled.clear();
        self.world.restart();
        self.show_roots();
    }

    /// Devices that DPS may have registered without that being in their Secret.
    fn unwritten(&self, own: Option<DeviceId>) -> usize {
        let engine = &self.world.engine;
        let known = NAMES.into_iter().filter_map(|name| engine.fleet.find("fleet", name));
        let works = known.filter(|id| Some(*id) != own).filter_map(|id| engine.active.work(id));
        works.filter(|work| work.task.is_some() || work.facts.superseded().is_some()).count()
    }

    /// Shows the engine what has changed, but for what is held back.
    pub(super) fn show(&mut self) {
        let (later, now): (Vec<Stored>, Vec<Stored>) =
            self.world.api.changes().into_iter().partition(|stored| self.held_kinds.contains(&stored.kind));
        self.late.extend(later.iter().map(|stored| stored.object["metadata"]["resourceVersion"].to_string()));
        self.world.api.put_back(later);
        for stored in now {
            self.judge_change(&stored);
            match stored.kind {
                "provisioneddevices" => self.effects.devices_shown += 1,
                "secrets" => self.effects.secrets_shown += 1,
                _ => {}
            }
            self.world.show(vec![stored]);
        }
    }

    /// The status of a device, null without one.
    pub(super) fn status(&self, device: Device) -> Value {
        self.world.status(NAMES[device])
    }

    pub(super) fn secret(&self, device: Device) -> Option<Value> {
        self.world.api.get("secrets", &format!("{}-hub", NAMES[device]))
    }
}

/// The device whose effect has ended.
fn own_device(message: &Message) -> Option<DeviceId> {
    if let Message::Outcome(done) = message { Some(done.id) } else { None }
}

/// Which effect of a device has ended.
fn ended(message: &Message) -> Option<Effect> {
    let Message::Outcome(done) = message else { return None };
    match &done.effect {
        Outcome::Called(called) => match called.call {
            Call::Register | Call::Poll => Some(Effect::Call),
            Call::Adopt | Call::Lookup => None,
        },
        Outcome::SecretWritten(_) => Some(Effect::Secret),
        Outcome::StatusWritten(_) => Some(Effect::Status),
        Outcome::DeviceRead(_)
        | Outcome::CredentialAccepted(_)
        | Outcome::Checked(_)
        | Outcome::CredentialRead { .. }
        | Outcome::SecretRead { .. } => None,
    }
}
