//! Who leads: decided on observed time. Pure.
//!
//! The clock of another node says nothing here: a lease counts as expired once this process has seen
//! it unchanged for as long as it is good, measured by its own clock (as client-go does).

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease is good after its last renewal.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// A leader that has not renewed for this long ends; no other process may lead before `LEASE` is over.
const RENEW_DEADLINE: Duration = Duration::from_secs(20);
/// Time between two renewals.
pub(super) const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two readings by a standby: a lease that is released is taken over this soon.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What a lease says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    /// Identity of the process that holds the lease; empty once it is released.
    pub holder: String,
    /// How long the lease is good after a renewal, as its holder says.
    pub duration: Duration,
    /// resourceVersion: changes with each write, and is never compared with a clock.
    pub version: String,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseStep {
    /// There is no lease: create it.
    Create,
    /// It is free: write our name into it, guarded by its version.
    Take,
    /// It is ours: renew it, guarded by its version.
    Renew,
    /// Another process holds it: read it again later.
    Wait,
    /// It was ours, and another process holds it or soon may: stop at once.
    Lost,
}

/// One candidate's view.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    seen: Option<LeaseRecord>,
    /// When the present record was seen first.
    since: Instant,
    /// When the last write that made or kept us leader was begun.
    renewed: Option<Instant>,
}

impl Election {
    pub fn new(identity: String, now: Instant) -> Self {
        Self { identity, seen: None, since: now, renewed: None }
    }

    pub fn leads(&self) -> bool {
        self.renewed.is_some()
    }

    /// Until when this process may act as the leader.
    pub fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_DEADLINE)
    }

    /// The lease was read; `None` if there is none.
    pub fn observe(&mut self, record: Option<LeaseRecord>, now: Instant) {
        if self.seen != record {
            self.since = now;
        }
        self.seen = record;
    }

    /// A write that was begun at `begun` made this record ours.
    pub fn written(&mut self, record: LeaseRecord, begun: Instant) {
        self.renewed = (record.holder == self.identity).then_some(begun);
        self.observe(Some(record), begun);
    }

    pub fn decide(&self, now: Instant) -> LeaseStep {
        let ours = |record: &LeaseRecord| record.holder == self.identity;
        match (&self.seen, self.deadline()) {
            (_, Some(deadline)) if now >= deadline => LeaseStep::Lost,
            (Some(record), Some(_)) => {
                if ours(record) {
                    LeaseStep::Renew
                } else {
                    LeaseStep::Lost
                }
            }
            (None, Some(_)) => LeaseStep::Lost,
            (None, None) => LeaseStep::Create,
            (Some(record), None) => {
                let free = record.holder.is_empty() || ours(record) || self.since + record.duration <= now;
                if free { LeaseStep::Take } else { LeaseStep::Wait }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(holder: &str, version: &str) -> LeaseRecord {
        LeaseRecord { holder: holder.to_owned(), duration: LEASE, version: version.to_owned() }
    }

    fn election(now: Instant) -> Election {
        Election::new("me".to_owned(), now)
    }

    #[test]
    fn a_lease_that_is_not_there_is_created_and_a_released_one_taken_at_once() {
        let now = Instant::now();
        let mut election = election(now);
        assert_eq!(election.decide(now), LeaseStep::Create);
        election.observe(Some(record("", "1")), now);
        assert_eq!(election.decide(now), LeaseStep::Take);
    }

    #[test]
    fn another_ones_lease_is_taken_when_it_was_seen_unchanged_for_as_long_as_it_is_good() {
        let start = Instant::now();
        let mut election = election(start);
        election.observe(Some(record("other", "1")), start);
        assert_eq!(election.decide(start + LEASE - SECOND), LeaseStep::Wait);
        // The holder's clock does not count, only that the lease has changed.
        election.observe(Some(record("other", "2")), start + LEASE - SECOND);
        assert_eq!(election.decide(start + LEASE), LeaseStep::Wait);
        election.observe(Some(record("other", "2")), start + LEASE + SECOND);
        assert_eq!(election.decide(start + 2 * LEASE - 2 * SECOND), LeaseStep::Wait);
        assert_eq!(election.decide(start + 2 * LEASE - SECOND), LeaseStep::Take);
    }

    #[test]
    fn a_holder_that_asks_for_longer_is_waited_for_longer() {
        let start = Instant::now();
        let mut election = election(start);
        election.observe(Some(LeaseRecord { duration: 2 * LEASE, ..record("other", "1") }), start);
        assert_eq!(election.decide(start + LEASE), LeaseStep::Wait);
        assert_eq!(election.decide(start + 2 * LEASE), LeaseStep::Take);
    }

    #[test]
    fn a_leader_renews_until_its_deadline_and_then_is_none() {
        let start = Instant::now();
        let mut election = election(start);
        election.written(record("me", "1"), start);
        assert_eq!(election.decide(start + RENEW_INTERVAL), LeaseStep::Renew);
        assert_eq!(election.decide(start + RENEW_DEADLINE - SECOND), LeaseStep::Renew);
        assert_eq!(election.decide(start + RENEW_DEADLINE), LeaseStep::Lost);
        // The time counts from the beginning of the write: its answer may have taken long.
        election.written(record("me", "2"), start + RENEW_INTERVAL);
        assert_eq!(election.deadline(), Some(start + RENEW_INTERVAL + RENEW_DEADLINE));
    }

    #[test]
    fn a_leader_that_sees_another_holder_or_no_lease_has_lost() {
        let now = Instant::now();
        for seen in [Some(record("other", "2")), Some(record("", "2")), None] {
            let mut election = election(now);
            election.written(record("me", "1"), now);
            election.observe(seen, now);
            assert_eq!(election.decide(now), LeaseStep::Lost);
        }
    }

    #[test]
    fn a_new_leader_takes_over_after_the_former_one_has_stopped() {
        let start = Instant::now();
        let (mut old, mut new) = (election(start), Election::new("new".to_owned(), start));
        old.written(record("me", "1"), start);
        // The standby cannot have seen the renewal before it was begun.
        new.observe(Some(record("me", "1")), start);
        let tenth = Duration::from_millis(100);
        let taken = (0..).map(|n| start + n * tenth).find(|at| new.decide(*at) == LeaseStep::Take).unwrap();
        let stopped = (0..).map(|n| start + n * tenth).find(|at| old.decide(*at) == LeaseStep::Lost).unwrap();
        assert!(taken - stopped >= Duration::from_secs(10), "{:?}", taken - stopped);
    }
}
