//! Who leads: decided on observed time. Pure.
//!
//! The clock of another node says nothing here: a lease counts as expired once this process has seen
//! it unchanged for as long as it is good, measured by its own clock (as client-go does).

use std::time::Duration;

use tokio::time::Instant;

/// How long a lease is good after its last renewal.
pub const LEASE: Duration = Duration::from_secs(30);
/// A leader that has not renewed for this long ends; nobody else may lead before `LEASE` is over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(20);
/// Between two renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Between two looks of a standby: a lease that is released is taken over this soon.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a lease says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Empty: released.
    pub holder: String,
    /// Good for so long after its renewal, as its holder says.
    pub duration: Duration,
    /// Moves with each write; never compared with a clock.
    pub version: String,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no lease: create it.
    Create,
    /// It is free: write our name into it, guarded by its version.
    Take,
    /// It is ours: renew it, guarded by its version.
    Renew,
    /// It is somebody else's: look again later.
    Wait,
    /// It was ours, and is or may soon be somebody else's: stop at once.
    Lost,
}

/// One candidate's view.
#[derive(Debug)]
pub struct Election {
    identity: String,
    seen: Option<Record>,
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
    pub fn observe(&mut self, record: Option<Record>, now: Instant) {
        if self.seen != record {
            self.since = now;
        }
        self.seen = record;
    }

    /// A write that was begun at `begun` made this record ours.
    pub fn written(&mut self, record: Record, begun: Instant) {
        self.renewed = (record.holder == self.identity).then_some(begun);
        self.observe(Some(record), begun);
    }

    pub fn decide(&self, now: Instant) -> Step {
        let ours = |record: &Record| record.holder == self.identity;
        match (&self.seen, self.deadline()) {
            (_, Some(deadline)) if now >= deadline => Step::Lost,
            (Some(record), Some(_)) => {
                if ours(record) {
                    Step::Renew
                } else {
                    Step::Lost
                }
            }
            (None, Some(_)) => Step::Lost,
            (None, None) => Step::Create,
            (Some(record), None) => {
                let free = record.holder.is_empty() || ours(record) || self.since + record.duration <= now;
                if free { Step::Take } else { Step::Wait }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(holder: &str, version: &str) -> Record {
        Record { holder: holder.to_owned(), duration: LEASE, version: version.to_owned() }
    }

    fn election(now: Instant) -> Election {
        Election::new("me".to_owned(), now)
    }

    #[test]
    fn a_lease_that_is_not_there_is_created_and_a_released_one_taken_at_once() {
        let now = Instant::now();
        let mut election = election(now);
        assert_eq!(election.decide(now), Step::Create);
        election.observe(Some(record("", "1")), now);
        assert_eq!(election.decide(now), Step::Take);
    }

    #[test]
    fn another_ones_lease_is_taken_when_it_was_seen_unchanged_for_as_long_as_it_is_good() {
        let start = Instant::now();
        let mut election = election(start);
        election.observe(Some(record("other", "1")), start);
        assert_eq!(election.decide(start + LEASE - SECOND), Step::Wait);
        // Whatever time the holder's clock shows: what counts is that it moved.
        election.observe(Some(record("other", "2")), start + LEASE - SECOND);
        assert_eq!(election.decide(start + LEASE), Step::Wait);
        election.observe(Some(record("other", "2")), start + LEASE + SECOND);
        assert_eq!(election.decide(start + 2 * LEASE - 2 * SECOND), Step::Wait);
        assert_eq!(election.decide(start + 2 * LEASE - SECOND), Step::Take);
    }

    #[test]
    fn a_holder_that_asks_for_longer_is_waited_for_longer() {
        let start = Instant::now();
        let mut election = election(start);
        election.observe(Some(Record { duration: 2 * LEASE, ..record("other", "1") }), start);
        assert_eq!(election.decide(start + LEASE), Step::Wait);
        assert_eq!(election.decide(start + 2 * LEASE), Step::Take);
    }

    #[test]
    fn a_leader_renews_until_its_deadline_and_then_is_none() {
        let start = Instant::now();
        let mut election = election(start);
        election.written(record("me", "1"), start);
        assert_eq!(election.decide(start + RENEW_EVERY), Step::Renew);
        assert_eq!(election.decide(start + RENEW_DEADLINE - SECOND), Step::Renew);
        assert_eq!(election.decide(start + RENEW_DEADLINE), Step::Lost);
        // The time counts from the beginning of the write: its answer may have taken long.
        election.written(record("me", "2"), start + RENEW_EVERY);
        assert_eq!(election.deadline(), Some(start + RENEW_EVERY + RENEW_DEADLINE));
    }

    #[test]
    fn a_leader_that_sees_another_holder_or_no_lease_has_lost() {
        let now = Instant::now();
        for seen in [Some(record("other", "2")), Some(record("", "2")), None] {
            let mut election = election(now);
            election.written(record("me", "1"), now);
            election.observe(seen, now);
            assert_eq!(election.decide(now), Step::Lost);
        }
    }

    #[test]
    fn whoever_takes_over_does_so_after_the_former_leader_has_stopped() {
        let start = Instant::now();
        let (mut old, mut new) = (election(start), Election::new("new".to_owned(), start));
        old.written(record("me", "1"), start);
        // The standby cannot have seen the renewal before it was begun.
        new.observe(Some(record("me", "1")), start);
        let tenth = Duration::from_millis(100);
        let taken = (0..).map(|n| start + n * tenth).find(|at| new.decide(*at) == Step::Take).unwrap();
        let stopped = (0..).map(|n| start + n * tenth).find(|at| old.decide(*at) == Step::Lost).unwrap();
        assert!(taken - stopped >= Duration::from_secs(10), "{:?}", taken - stopped);
    }
}
