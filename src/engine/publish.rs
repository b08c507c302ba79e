//! What the operator shows beside statuses: events, and gauges of the fleet and the permits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use crate::clock::Now;
use crate::config::EventsLevel;
use crate::controller::events::{EventNote, EventReason};
use crate::dps::observe::Observer;
use crate::fleet::intern::Sym;
use crate::kube_io::events::{Events, Note};
use crate::schedule::permits::Permits;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::{IntegrationGauges, QueueGauges, Unserved};

/// Events of one tenant are counted over this time,
const WINDOW: Duration = Duration::from_secs(60);
/// and this many are published; one more says that there are others.
const MOST: u32 = 30;
/// Of these, so many may tell of what went as it should, so that there is always room for trouble.
const MOST_SUCCESSES: u32 = 10;
/// The fleet's gauges, which show every integration, are set at most this often.
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);
const HELD_BACK: &str =
    "Further events about its devices are held back for a minute; status.failures counts devices by reason.";

/// Whose events are counted together: no tenant uses up another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EventWindow {
    /// Of an integration and of its devices in its own namespace.
    Own(Sym),
    /// Of an integration's devices in one other namespace.
    Foreign(Sym, Sym),
    /// Of one namespace's devices that no integration admits.
    Strays(Sym),
}

/// Events in the present minute.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    events: u32,
    successes: u32,
}

/// Whether one more event may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Admitted,
    /// It is the first that may not.
    FirstHeldBack,
    HeldBack,
}

/// Where events and gauges go.
pub(super) struct Publisher {
    events: Events,
    level: EventsLevel,
    windows: Windows,
    /// When the fleet's gauges are set next.
    gauges_due: Option<Instant>,
    gauges_set: Option<Instant>,
    telemetry: Arc<Telemetry>,
}

impl EventWindow {
    fn names(self) -> impl Iterator<Item = Sym> {
        let (first, second) = match self {
            Self::Own(integration) => (integration, None),
            Self::Foreign(integration, namespace) => (integration, Some(namespace)),
            Self::Strays(namespace) => (namespace, None),
        };
        std::iter::once(first).chain(second)
    }
}

#[derive(Default)]
struct Windows(HashMap<EventWindow, Window>);

impl Windows {
    /// `spare`: an event of success, which is left out without a word where there is no room.
    fn admit(&mut self, whose: EventWindow, spare: bool, now: Instant) -> Admission {
        self.0.retain(|_, window| window.since + WINDOW > now);
        let window = self.0.entry(whose).or_insert(Window { since: now, events: 0, successes: 0 });
        if spare && (window.successes >= MOST_SUCCESSES || window.events >= MOST) {
            return Admission::HeldBack;
        }
        window.successes += u32::from(spare);
        window.events = window.events.saturating_add(1);
        match window.events {
            ..=MOST => Admission::Admitted,
            events if events == MOST + 1 => Admission::FirstHeldBack,
            _ => Admission::HeldBack,
        }
    }
}

impl Publisher {
    pub fn new(events: Events, level: EventsLevel, telemetry: Arc<Telemetry>) -> Self {
        Self { events, level, windows: Windows::default(), gauges_due: None, gauges_set: None, telemetry }
    }

    /// Names that events are counted by.
    pub fn names(&self) -> impl Iterator<Item = Sym> {
        self.windows.0.keys().copied().flat_map(EventWindow::names)
    }

    /// Publishes an event about an object, unless there are too many; `owner` is the integration that
    /// admits it, which gets one event about that.
    pub fn emit(
        &mut self,
        whose: EventWindow,
        regarding: &ObjectReference,
        owner: Option<&ObjectReference>,
        event: EventNote,
        now: Now,
    ) {
        if self.level == EventsLevel::None {
            return;
        }
        let spare = event.reason.is_success() && self.level != EventsLevel::All;
        if spare && !self.events.has_room() {
            return;
        }
        let note = match self.windows.admit(whose, spare, now.mono) {
            Admission::Admitted => Some(note(regarding, event, now)),
            Admission::FirstHeldBack => {
                owner.map(|owner| note(owner, EventNote::new(EventReason::EventsHeldBack, HELD_BACK), now))
            }
            Admission::HeldBack => None,
        };
        if note.is_some_and(|note| !self.events.publish(note)) {
            self.telemetry.metrics.count_dropped_event();
        }
    }

    pub fn set_permit_gauges(&self, permits: &Permits, now: Instant) {
        self.telemetry.metrics.set_queues(&QueueGauges {
            waiting: permits.waiting().map(|(lane, waiting)| (lane.as_str(), waiting)).to_vec(),
            in_flight: permits.in_flight(),
            throttled_scopes: permits.throttled_scopes(now),
            rate_factor: permits.slowest(now),
        });
    }

    /// What the fleet's gauges show has changed.
    pub fn gauges_changed(&mut self, now: Instant) {
        let soonest = self.gauges_set.map_or(now, |at| (at + GAUGES_INTERVAL).max(now));
        self.gauges_due.get_or_insert(soonest);
    }

    /// When they are to be set.
    pub fn next_gauges(&self) -> Option<Instant> {
        self.gauges_due
    }

    /// True if they are to be set now.
    pub fn may_set_gauges(&mut self, now: Instant) -> bool {
        let due = self.gauges_due.is_some_and(|at| at <= now);
        if due {
            (self.gauges_due, self.gauges_set) = (None, Some(now));
        }
        due
    }

    pub fn set_fleet_gauges(&self, integrations: Vec<IntegrationGauges>, unserved: &[Unserved]) {
        self.telemetry.metrics.set_fleet(integrations, unserved.to_vec());
    }
}

fn note(regarding: &ObjectReference, event: EventNote, now: Now) -> Note {
    let EventNote { reason, note } = event;
    let (warning, reason) = (reason.is_warning(), reason.as_str());
    Note { regarding: regarding.clone(), warning, reason, note, time: now.wall }
}

/// Counts requests to DPS.
#[derive(Debug)]
pub(super) struct CountCalls(pub Arc<Telemetry>);

impl Observer for CountCalls {
    fn request_ended(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.0.metrics.count_dps_request(operation, outcome, took);
    }

    fn handshake_made(&self, credential: &'static str) {
        self.0.metrics.count_dps_handshake(credential);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::intern::Interner;

    #[test]
    fn thirty_events_a_minute_are_published_for_a_tenant_and_one_more_says_that_there_are_others() {
        let (mut windows, mut names, now) = (Windows::default(), Interner::default(), Instant::now());
        let (integration, tenant) = (names.intern("fleet/a"), names.intern("tenant"));
        let one = EventWindow::Foreign(integration, tenant);
        let row: Vec<_> = (0..33).map(|_| windows.admit(one, false, now)).collect();
        assert!(row[..30].iter().all(|admission| *admission == Admission::Admitted));
        assert_eq!(row[30..], [Admission::FirstHeldBack, Admission::HeldBack, Admission::HeldBack]);
        let elsewhere = names.intern("elsewhere");
        for other in [
            EventWindow::Own(integration),
            EventWindow::Foreign(integration, elsewhere),
            EventWindow::Foreign(names.intern("fleet/b"), tenant),
            EventWindow::Strays(tenant),
        ] {
            assert_eq!(windows.admit(other, false, now), Admission::Admitted, "{other:?}");
        }
        assert_eq!(windows.admit(one, false, now + WINDOW), Admission::Admitted);
    }

    #[test]
    fn what_went_as_it_should_is_told_ten_times_a_minute_and_leaves_room_for_trouble() {
        let (mut windows, mut names, now) = (Windows::default(), Interner::default(), Instant::now());
        let one = EventWindow::Own(names.intern("fleet/a"));
        let count = |row: Vec<Admission>| row.iter().filter(|it| **it == Admission::Admitted).count();
        assert_eq!(count((0..40).map(|_| windows.admit(one, true, now)).collect()), 10);
        assert_eq!(count((0..40).map(|_| windows.admit(one, false, now)).collect()), 20);
        let later = now + WINDOW;
        let row: Vec<_> = (0..31).map(|_| windows.admit(one, false, later)).collect();
        assert_eq!(row[30], Admission::FirstHeldBack);
        assert_eq!(windows.admit(one, true, later), Admission::HeldBack);
    }
}
