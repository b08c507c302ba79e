//! How much goes on at a time. A device that is reconciled may start one request to the API server, and
//! what it needs for that is kept until it has ended: a fleet that is rewritten, restored or deleted may
//! neither fill the memory nor stand before all others.

use crate::schedule::Share;
use crate::schedule::ready::Room;

/// Requests to the API server that may have been started; it works on fewer at a time.
const REQUESTS: usize = 32;
/// As many may be for work that concerns a whole fleet.
const FLEET_REQUESTS: usize = REQUESTS / 2;

/// What an effect takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Load {
    /// A call to DPS: it has a permit.
    Call,
    Request(Share),
}

/// Effects that have not ended.
#[derive(Debug, Default)]
pub(super) struct Loads {
    calls: usize,
    requests: usize,
    fleet_requests: usize,
}

impl Loads {
    fn counters(&mut self, load: Load) -> impl Iterator<Item = &mut usize> {
        let Self { calls, requests, fleet_requests } = self;
        let (first, second) = match load {
            Load::Call => (calls, None),
            Load::Request(Share::Device) => (requests, None),
            Load::Request(Share::Fleet) => (requests, Some(fleet_requests)),
        };
        std::iter::once(first).chain(second)
    }

    pub fn add(&mut self, load: Load) {
        self.counters(load).for_each(|counter| *counter += 1);
    }

    pub fn remove(&mut self, load: Load) {
        self.counters(load).for_each(|counter| *counter = counter.saturating_sub(1));
    }

    pub fn total(&self) -> usize {
        self.calls + self.requests
    }

    pub fn room(&self) -> Room {
        match (self.requests < REQUESTS, self.fleet_requests < FLEET_REQUESTS) {
            (false, _) => Room::None,
            (true, false) => Room::ForUrgent,
            (true, true) => Room::ForAll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_leaves_half_of_the_room_to_single_devices_and_calls_take_none() {
        let mut loads = Loads::default();
        (0..1000).for_each(|_| loads.add(Load::Call));
        assert_eq!(loads.room(), Room::ForAll);
        (0..FLEET_REQUESTS).for_each(|_| loads.add(Load::Request(Share::Fleet)));
        assert_eq!(loads.room(), Room::ForUrgent);
        (FLEET_REQUESTS..REQUESTS).for_each(|_| loads.add(Load::Request(Share::Device)));
        assert_eq!(loads.room(), Room::None);
        loads.remove(Load::Request(Share::Fleet));
        assert_eq!((loads.room(), loads.total()), (Room::ForAll, 1000 + REQUESTS - 1));
    }
}
