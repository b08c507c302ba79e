//! How much goes on at a time. A device that is reconciled may start one request to the API server, and
//! what it needs for that is kept until it has ended: a fleet that is rewritten, restored or deleted may
//! neither fill the memory nor stand before all others. Requests can take long for reasons that lie in one
//! namespace (an admission webhook that does not answer): each namespace leaves room to the others.

use std::collections::HashMap;

use crate::schedule::Share;
use crate::schedule::room::Room;

/// Requests to the API server. One namespace has half of them at most, which is near the number at which
/// an API server is saturated.
const REQUESTS: usize = 32;
/// As many may be for work that concerns a whole fleet.
const FLEET_REQUESTS: usize = REQUESTS / 2;

/// What an effect takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Load {
    /// A call to DPS: it has a permit.
    Call,
    /// Whose work it is, and the device's namespace.
    Request(Share, u32),
}

/// Requests that have not ended.
#[derive(Debug, Default)]
struct Requests {
    all: usize,
    of_namespace: HashMap<u32, usize>,
}

impl Requests {
    fn add(&mut self, namespace: u32) {
        self.all += 1;
        *self.of_namespace.entry(namespace).or_default() += 1;
    }

    fn remove(&mut self, namespace: u32) {
        if let Some(own) = self.of_namespace.get_mut(&namespace) {
            *own -= 1;
            self.all -= 1;
            if *own == 0 {
                self.of_namespace.remove(&namespace);
            }
        }
    }

    /// True if a namespace may have one more: it may have as many as it leaves free, and one that has none
    /// may have one beyond that, up to a quarter more in all.
    fn admits(&self, namespace: u32, most: usize) -> bool {
        let own = self.of_namespace.get(&namespace).copied().unwrap_or(0);
        own < most.saturating_sub(self.all) || (own == 0 && self.all < most + most / 4)
    }
}

/// Effects that have not ended.
#[derive(Debug, Default)]
pub(super) struct Loads {
    calls: usize,
    requests: Requests,
    fleet_requests: Requests,
    ended: u64,
}

impl Loads {
    pub fn add(&mut self, load: Load) {
        match load {
            Load::Call => self.calls += 1,
            Load::Request(share, namespace) => {
                self.requests.add(namespace);
                if share == Share::Fleet {
                    self.fleet_requests.add(namespace);
                }
            }
        }
    }

    pub fn remove(&mut self, load: Load) {
        match load {
            Load::Call => self.calls = self.calls.saturating_sub(1),
            Load::Request(share, namespace) => {
                self.ended += 1;
                self.requests.remove(namespace);
                if share == Share::Fleet {
                    self.fleet_requests.remove(namespace);
                }
            }
        }
    }

    pub fn total(&self) -> usize {
        self.calls + self.requests.all
    }
}

impl Room for Loads {
    fn is_over(&self) -> bool {
        self.requests.all >= REQUESTS + REQUESTS / 4
    }

    fn admits(&self, share: Share, namespace: u32) -> bool {
        self.requests.admits(namespace, REQUESTS)
            && (share == Share::Device || self.fleet_requests.admits(namespace, FLEET_REQUESTS))
    }

    fn version(&self) -> u64 {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many requests are begun as are admitted, for one namespace.
    fn fill(loads: &mut Loads, share: Share, namespace: u32) -> usize {
        let mut begun = 0;
        while loads.admits(share, namespace) {
            loads.add(Load::Request(share, namespace));
            begun += 1;
        }
        begun
    }

    #[test]
    fn a_fleet_leaves_room_to_single_devices_and_calls_take_none() {
        let mut loads = Loads::default();
        (0..1000).for_each(|_| loads.add(Load::Call));
        assert_eq!(fill(&mut loads, Share::Fleet, 1), FLEET_REQUESTS / 2);
        assert_eq!(fill(&mut loads, Share::Device, 1), REQUESTS / 2 - FLEET_REQUESTS / 2);
        assert_eq!(loads.total(), 1000 + REQUESTS / 2);
        loads.remove(Load::Request(Share::Fleet, 1));
        assert!(loads.admits(Share::Fleet, 1) && loads.admits(Share::Device, 1));
    }

    #[test]
    fn a_namespace_whose_requests_never_end_leaves_room_to_every_other() {
        let mut loads = Loads::default();
        assert_eq!(fill(&mut loads, Share::Device, 1), REQUESTS / 2);
        assert_eq!(fill(&mut loads, Share::Device, 2), REQUESTS / 4);
        let others: usize = (3..100).map(|namespace| fill(&mut loads, Share::Device, namespace)).sum();
        assert_eq!((loads.total(), others), (REQUESTS + REQUESTS / 4, REQUESTS / 2));
        assert!(loads.is_over() && !loads.admits(Share::Device, 1000));
        (1..100).for_each(|namespace| {
            while loads.requests.of_namespace.contains_key(&namespace) {
                loads.remove(Load::Request(Share::Device, namespace));
            }
        });
        assert_eq!((loads.total(), loads.requests.of_namespace.len()), (0, 0));
    }
}
