//! How often one object may be written: some times at once, then once a second; and with growing waits
//! when somebody else has changed what we wrote.

use std::time::Duration;

use tokio::time::Instant;

use super::contest::Contest;

/// Writes that may be made at once,
const BURST: u32 = 10;
/// and then one in this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// A person who edits a status does it once. From the second time in a row it is another writer.
const SAID_AT: u32 = 2;

/// What is in the place of what we wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// What we wrote, or we never wrote.
    AsWritten,
    /// What somebody else has made of it.
    Changed,
}

impl Found {
    /// `written`: what we wrote last, if we did; `there`: what is there now.
    pub fn of<T: PartialEq>(written: Option<&T>, there: Option<&T>) -> Self {
        if written.is_some() && written != there { Self::Changed } else { Self::AsWritten }
    }
}

/// Writes of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteBudget {
    /// When all that was spent is regained.
    regained: Option<Instant>,
    contest: Option<Contest>,
    /// Since when we want to write over what somebody else has made.
    wanted: Option<Instant>,
    /// A person asks for something: the next write does not wait for the other writer.
    asked: bool,
}

impl WriteBudget {
    /// When the object may be written.
    pub fn next(&mut self, found: Found, now: Instant) -> Instant {
        let spent = self.regained.and_then(|at| at.checked_sub(INTERVAL * (BURST - 1)));
        let calm = match found {
            Found::AsWritten => {
                self.wanted = None;
                None
            }
            Found::Changed if self.asked => None,
            Found::Changed => {
                let wanted = *self.wanted.get_or_insert(now);
                Some(wanted + Contest::wait(self.contest, 0, wanted))
            }
        };
        [spent, calm].into_iter().flatten().max().unwrap_or(now).max(now)
    }

    /// The object is written. True if it is from now on known to have another writer.
    pub fn spend(&mut self, found: Found, now: Instant) -> bool {
        self.regained = Some(self.regained.map_or(now, |at| at.max(now)) + INTERVAL);
        self.asked = false;
        self.wanted = None;
        if found == Found::AsWritten {
            return false;
        }
        let contest = Contest::after(self.contest, now);
        self.contest = Some(contest);
        contest.times() == SAID_AT
    }

    /// What is there is what we would write: there is nothing to contend for.
    pub fn agreed(&mut self) {
        self.wanted = None;
    }

    /// A person has changed the object or asks for something.
    pub fn asked(&mut self) {
        self.asked = true;
    }

    /// The object has another writer.
    pub fn is_contested(&self, now: Instant) -> bool {
        self.contest.is_some_and(|contest| !contest.is_over(now) && contest.times() >= SAID_AT)
    }

    /// Nothing of it matters any more.
    pub fn is_over(&self, now: Instant) -> bool {
        let Self { regained, contest, wanted, asked: _ } = self;
        regained.is_none_or(|at| at <= now)
            && contest.is_none_or(|contest| contest.is_over(now))
            && wanted.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Found::{AsWritten, Changed};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Writes as soon as it may, again and again; returns when, in milliseconds from the start.
    fn write_for(budget: &mut WriteBudget, found: Found, start: Instant, time: Duration) -> Vec<u128> {
        let (mut now, mut written) = (start, Vec::new());
        loop {
            now = budget.next(found, now);
            if now >= start + time {
                return written;
            }
            budget.spend(found, now);
            written.push((now - start).as_millis());
        }
    }

    #[test]
    fn ten_writes_are_made_at_once_and_then_one_a_second() {
        let written = write_for(&mut WriteBudget::default(), AsWritten, Instant::now(), SECOND * 4);
        assert_eq!(written[..10], [0; 10]);
        assert_eq!(written[10..], [1000, 2000, 3000]);
    }

    #[test]
    fn in_every_minute_at_most_seventy_writes_are_made_whenever_they_come() {
        let (mut budget, start) = (WriteBudget::default(), Instant::now());
        let mut written = write_for(&mut budget, AsWritten, start, SECOND * 30);
        let later = write_for(&mut budget, AsWritten, start + SECOND * 35, SECOND * 60);
        written.extend(later.into_iter().map(|at| at + 35_000));
        for begin in &written {
            let minute = written.iter().filter(|at| (*begin..begin + 60_000).contains(at)).count();
            assert!(minute <= 70, "{minute} writes");
        }
    }

    #[test]
    fn what_somebody_else_changes_again_and_again_is_written_after_growing_waits() {
        let written = write_for(&mut WriteBudget::default(), Changed, Instant::now(), SECOND * 1200);
        let seconds: Vec<u128> = written.iter().map(|at| at / 1000).collect();
        assert_eq!(seconds, [1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111]);
    }

    #[test]
    fn the_wait_begins_when_there_is_something_to_write_and_ends_with_agreement() {
        let (mut budget, start) = (WriteBudget::default(), Instant::now());
        assert_eq!(budget.next(Changed, start + SECOND * 60), start + SECOND * 61);
        assert_eq!(budget.next(Changed, start + SECOND * 61), start + SECOND * 61);
        budget.agreed();
        assert_eq!(budget.next(Changed, start + SECOND * 70), start + SECOND * 71);
        assert_eq!(budget.next(AsWritten, start + SECOND * 70), start + SECOND * 70);
    }

    #[test]
    fn another_writer_is_said_the_second_time_in_a_row_and_once() {
        let (mut budget, now) = (WriteBudget::default(), Instant::now());
        let said = [AsWritten, Changed, Changed, Changed].map(|found| budget.spend(found, now));
        assert_eq!(said, [false, false, true, false]);
        assert!(budget.is_contested(now) && !budget.is_contested(now + SECOND * 1200));
    }

    #[test]
    fn what_a_person_asks_for_waits_for_no_other_writer_and_the_next_write_waits_as_long_as_before() {
        let (mut budget, start) = (WriteBudget::default(), Instant::now());
        let last = write_for(&mut budget, Changed, start, SECOND * 20).len();
        assert_eq!(last, 4);
        let now = start + SECOND * 20;
        assert!(budget.next(Changed, now) > now);

        budget.asked();

        assert_eq!(budget.next(Changed, now), now);
        budget.spend(Changed, now);
        assert_eq!(budget.next(Changed, now), now + SECOND * 32);
    }

    #[test]
    fn one_that_was_not_used_for_long_is_as_good_as_new() {
        let (mut budget, now) = (WriteBudget::default(), Instant::now());
        assert!(budget.is_over(now));
        budget.spend(AsWritten, now);
        assert!(!budget.is_over(now) && budget.is_over(now + SECOND));
        budget.spend(Changed, now);
        assert!(!budget.is_over(now + SECOND * 1199) && budget.is_over(now + SECOND * 1200));
    }

    #[test]
    fn what_was_never_written_was_changed_by_no_other() {
        assert_eq!(Found::of(None, Some(&1)), AsWritten);
        assert_eq!(Found::of(Some(&1), Some(&1)), AsWritten);
        assert_eq!([Found::of(Some(&1), Some(&2)), Found::of(Some(&1), None)], [Changed; 2]);
    }
}
