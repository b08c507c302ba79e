//! Objects that nothing tells of when they change: some are watched each by itself, the others are looked at in
//! turn. Namespaces take turns, so that many objects of one keep no other's waiting. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Until the first turn of an object: by then something else may tell of it.
const FIRST: Duration = Duration::from_secs(5);
/// Between two looks at one object,
const EVERY: Duration = Duration::from_secs(60);
/// and between two looks at any: ten a second.
const PACE: Duration = Duration::from_millis(100);

/// An object's place in the line of its namespace. It counts as long as its ticket does.
#[derive(Debug)]
struct Place<K> {
    due: Instant,
    ticket: u64,
    key: K,
}

/// What an object's turn is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<K> {
    /// To be watched from now on: there is room for it.
    Watch(K),
    /// To be looked at. It has another turn later.
    Look(K),
}

/// Such objects.
#[derive(Debug)]
pub struct Looks<K> {
    /// Those that are watched, of which there may be so many.
    watched: HashSet<K>,
    most: usize,
    /// The others, by namespace; the namespaces by turn.
    lines: HashMap<u32, VecDeque<Place<K>>>,
    order: VecDeque<u32>,
    tickets: HashMap<K, u64>,
    last_ticket: u64,
    next_look: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Looks<K> {
    /// `most`: objects that are watched.
    pub fn new(most: usize) -> Self {
        Self {
            watched: HashSet::new(),
            most,
            lines: HashMap::new(),
            order: VecDeque::new(),
            tickets: HashMap::new(),
            last_ticket: 0,
            next_look: None,
        }
    }

    /// An object is to be followed from now on. One that is followed already stays where it is.
    pub fn join(&mut self, namespace: u32, key: &K, now: Instant) {
        if self.watched.contains(key) || self.tickets.contains_key(key) {
            return;
        }
        self.line_up(namespace, key, now + FIRST);
    }

    fn line_up(&mut self, namespace: u32, key: &K, due: Instant) {
        self.last_ticket += 1;
        self.tickets.insert(key.clone(), self.last_ticket);
        let line = self.lines.entry(namespace).or_insert_with(|| {
            self.order.push_back(namespace);
            VecDeque::new()
        });
        line.push_back(Place { due, ticket: self.last_ticket, key: key.clone() });
    }

    /// It is no longer to be followed, or something else tells of it. True if it was watched.
    pub fn leave(&mut self, key: &K) -> bool {
        self.tickets.remove(key);
        self.watched.remove(key)
    }

    #[cfg(test)]
    pub fn has(&self, key: &K) -> bool {
        self.watched.contains(key) || self.tickets.contains_key(key)
    }

    /// The object whose turn has come. The pace counts from here.
    pub fn turn(&mut self, now: Instant) -> Option<Turn<K>> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        let (namespace, key) = self.take(|due| due <= now)?;
        self.next_look = Some(now + PACE);
        if self.watched.len() < self.most {
            self.watched.insert(key.clone());
            return Some(Turn::Watch(key));
        }
        self.line_up(namespace, &key, now + EVERY);
        Some(Turn::Look(key))
    }

    /// When the next look is due.
    pub fn next(&self) -> Option<Instant> {
        let due = self.lines.values().filter_map(|line| line.front()).map(|place| place.due).min()?;
        Some(self.next_look.map_or(due, |next| next.max(due)))
    }

    /// The first of the namespace whose turn it is, of those whose first is due.
    fn take(&mut self, is_due: impl Fn(Instant) -> bool) -> Option<(u32, K)> {
        for _ in 0..self.order.len() {
            let namespace = self.order.pop_front()?;
            let line = self.lines.get_mut(&namespace)?;
            while line.front().is_some_and(|place| self.tickets.get(&place.key) != Some(&place.ticket)) {
                line.pop_front();
            }
            let taken =
                if line.front().is_some_and(|place| is_due(place.due)) { line.pop_front() } else { None };
            if line.is_empty() {
                self.lines.remove(&namespace);
            } else {
                self.order.push_back(namespace);
            }
            if let Some(Place { key, .. }) = taken {
                self.tickets.remove(&key);
                return Some((namespace, key));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Turns taken within this time, each as soon as it is due.
    fn turns(looks: &mut Looks<u32>, from: Instant, time: Duration) -> Vec<(Duration, Turn<u32>)> {
        let mut taken = Vec::new();
        while let Some(at) = looks.next().filter(|at| *at <= from + time) {
            match looks.turn(at) {
                Some(turn) => taken.push((at - from, turn)),
                None => assert_ne!(looks.next(), Some(at), "it is never due"),
            }
        }
        taken
    }

    fn looks_at(key: u32, turns: &[(Duration, Turn<u32>)]) -> Vec<u64> {
        turns.iter().filter(|(_, turn)| *turn == Turn::Look(key)).map(|(at, _)| at.as_secs()).collect()
    }

    #[test]
    fn each_is_looked_at_once_a_minute_and_no_more_than_ten_in_a_second() {
        let (mut few, now) = (Looks::new(0), Instant::now());
        (0..3).for_each(|key| few.join(1, &key, now));
        few.join(1, &0, now);
        let made = turns(&mut few, now, SECOND * 127);
        assert!((0..3).all(|key| looks_at(key, &made) == [5, 65, 125]), "{made:?}");
        assert_eq!(made.len(), 9);

        let mut many = Looks::new(0);
        (0..1200).for_each(|key| many.join(1, &key, now));
        let made = turns(&mut many, now, SECOND * 245);
        assert_eq!(made.len(), 2401, "ten in a second");
        assert!((0..1200).all(|key| looks_at(key, &made[..1200]).len() == 1), "all before one has another");
    }

    #[test]
    fn many_of_one_namespace_keep_no_other_waiting() {
        let (mut all, now) = (Looks::new(0), Instant::now());
        (0..10_000).for_each(|key| all.join(1, &key, now));
        all.join(2, &20_000, now);
        let mine = looks_at(20_000, &turns(&mut all, now, SECOND * 600));
        assert_eq!(mine.len(), 10, "{mine:?}");
        assert!(mine.windows(2).all(|pair| pair[1] - pair[0] <= 61), "{mine:?}");
    }

    #[test]
    fn one_that_is_left_out_and_joins_again_has_one_turn() {
        let (mut all, now) = (Looks::new(0), Instant::now());
        for _ in 0..50 {
            all.join(1, &7, now);
            assert!(!all.leave(&7));
        }
        all.join(1, &7, now);
        assert_eq!(looks_at(7, &turns(&mut all, now, SECOND * 70)), [5, 65]);
        all.leave(&7);
        assert_eq!(turns(&mut all, now + SECOND * 70, SECOND * 200), []);
        assert!(all.lines.is_empty() && all.order.is_empty() && all.next().is_none());
    }

    #[test]
    fn as_many_are_watched_as_there_is_room_for_and_a_place_that_is_free_goes_to_the_next() {
        let (mut all, now) = (Looks::new(2), Instant::now());
        (0..4).for_each(|key| all.join(1, &key, now));
        let kinds =
            |taken: Vec<(Duration, Turn<u32>)>| taken.into_iter().map(|(_, turn)| turn).collect::<Vec<_>>();
        let first = kinds(turns(&mut all, now, SECOND * 6));
        assert_eq!(first, [Turn::Watch(0), Turn::Watch(1), Turn::Look(2), Turn::Look(3)]);
        all.join(1, &0, now);
        assert!(all.leave(&1) && !all.leave(&1));
        let then = kinds(turns(&mut all, now + SECOND * 6, SECOND * 60));
        assert_eq!(then, [Turn::Watch(2), Turn::Look(3)]);
    }
}
