//! Random runs of a queue beside a model of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::{HOME, most_in_a_minute, scope};

/// What happens to a queue in a random run.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Joins(Party, Lane),
    Leaves,
    CallEnds(Ended),
    PermitComesBack,
    Time(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let lane = prop_oneof![Just(Lane::New), Just(Lane::Changed), Just(Lane::Fleet), Just(Lane::Last)];
    let ended = prop_oneof![
        6 => Just(Ended::Admitted),
        1 => Just(Ended::Answered),
        1 => Just(Ended::Unanswered),
        1 => Just(Ended::Throttled { retry_after: Some(Duration::from_secs(3)) }),
    ];
    prop_oneof![
        6 => (1..4_u32, 1..4_u32, lane).prop_map(|(integration, namespace, lane)| {
            Happens::Joins(Party { namespace, integration }, lane)
        }),
        1 => Just(Happens::Leaves),
        5 => ended.prop_map(Happens::CallEnds),
        1 => Just(Happens::PermitComesBack),
        4 => (1..5000_u64).prop_map(Happens::Time),
    ]
}

/// A queue beside a plain list of who waits where.
struct Model {
    queue: Permits,
    now: Instant,
    waiting: BTreeMap<Waiter, Lane>,
    held: Vec<Permit>,
    grants: Vec<Instant>,
    served: u32,
    joined: u32,
}

impl Model {
    fn new(limit: u32) -> Self {
        let now = Instant::now();
        let mut queue = Permits::new(limit, 10_000);
        (1..4).for_each(|tenant| queue.admit(tenant, HOME, &scope(), Gate::OPEN, now));
        Self {
            queue,
            now,
            waiting: BTreeMap::new(),
            held: Vec::new(),
            grants: Vec::new(),
            served: 0,
            joined: 0,
        }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Joins(party, lane) => {
                self.joined += 1;
                self.queue.enqueue(party, self.joined, lane, self.now);
                self.waiting.insert(self.joined, lane);
            }
            Happens::Leaves => {
                if let Some((waiter, _)) = self.waiting.pop_last() {
                    self.queue.leave(waiter);
                    self.served += 1;
                }
            }
            Happens::CallEnds(ended) => {
                if let Some(permit) = self.held.pop() {
                    self.queue.finished(permit, ended, self.now);
                }
            }
            Happens::PermitComesBack => {
                // Used ones do not come back: this one was granted just now.
                if self.held.last().is_some_and(|permit| permit.granted == self.now)
                    && let Some(permit) = self.held.pop()
                {
                    self.grants.pop();
                    self.queue.unused(permit);
                }
            }
            Happens::Time(millis) => self.now += Duration::from_millis(millis),
        }
        self.grant();
    }

    fn grant(&mut self) {
        while let Some(permit) = self.queue.poll(self.now) {
            let lane = self.waiting.remove(&permit.waiter).unwrap();
            let best = self.waiting.values().min();
            assert!(best.is_none_or(|best| *best >= lane), "{best:?} waits behind {lane:?}");
            self.grants.push(self.now);
            self.held.push(permit);
            self.served += 1;
        }
    }

    /// Everything that was begun ends, and each device that waits gets its turn.
    fn run_out(&mut self) {
        for _ in 0..100_000 {
            while let Some(permit) = self.held.pop() {
                self.queue.finished(permit, Ended::Admitted, self.now);
            }
            self.grant();
            if self.waiting.is_empty() && self.held.is_empty() {
                return;
            }
            let Some(next) = self.queue.next_at() else { continue };
            self.now = next.max(self.now);
        }
    }
}

proptest! {
    #[test]
    fn in_every_run_the_limit_holds_lanes_are_strict_and_each_device_is_served(
        limit in 1_u32..100, what in prop::collection::vec(happens(), 1..300),
    ) {
        let mut model = Model::new(limit);
        what.into_iter().for_each(|what| model.happens(what));
        model.run_out();
        prop_assert!(most_in_a_minute(&model.grants) <= limit as usize);
        prop_assert_eq!(model.served, model.joined);
        prop_assert_eq!((model.queue.in_flight(), model.queue.places.len()), (0, 0));
    }
}
