//! Events, at most thirty a minute for each integration with all its devices; one more says that
//! there are others.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::Engine;
use crate::clock;
use crate::config::EventsLevel;
use crate::controller::events::Told;
use crate::fleet::intern::Sym;
use crate::kube_io::events::{Events, Note, reference};

const WINDOW: Duration = Duration::from_secs(60);
const MOST: u32 = 30;
const HELD_BACK: &str =
    "Further events about its devices are held back for a minute; status.failures counts devices by reason.";

/// What was told of an integration in its present minute.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    told: u32,
}

/// Where events go, and how many there were lately.
pub(super) struct Teller {
    events: Events,
    level: EventsLevel,
    windows: HashMap<Sym, Window>,
}

impl Teller {
    pub(super) fn new(events: Events, level: EventsLevel) -> Self {
        Self { events, level, windows: HashMap::new() }
    }

    pub(super) fn tells_all(&self) -> bool {
        self.level == EventsLevel::All
    }

    /// True if one more may be told of the integration, and whether it is the first that may not.
    fn admit(&mut self, integration: Sym, now: Instant) -> (bool, bool) {
        self.windows.retain(|_, window| window.since + WINDOW > now);
        let window = self.windows.entry(integration).or_insert(Window { since: now, told: 0 });
        window.told = window.told.saturating_add(1);
        (window.told <= MOST, window.told == MOST + 1)
    }
}

impl Engine {
    /// Tells it unless the integration has been spoken of too often.
    pub(super) fn tell(&mut self, integration: Sym, regarding: &ObjectReference, told: Told) {
        if self.teller.level == EventsLevel::None || !self.acting {
            return;
        }
        let now = clock::now();
        let note = match self.teller.admit(integration, now.mono) {
            (true, _) => Some(note(regarding.clone(), told, now.wall)),
            (false, true) => {
                let object = self.integrations.get(&integration).and_then(|i| i.object.as_ref());
                let told = Told::normal("EventsHeldBack", HELD_BACK);
                object.map(|object| note(reference(&**object), told, now.wall))
            }
            (false, false) => None,
        };
        if note.is_some_and(|note| !self.teller.events.publish(note)) {
            self.telemetry.metrics.event_dropped();
        }
    }
}

fn note(regarding: ObjectReference, told: Told, time: Timestamp) -> Note {
    let Told { warning, reason, note } = told;
    Note { regarding, warning, reason, note, time }
}
