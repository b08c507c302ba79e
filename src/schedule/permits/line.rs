//! Devices of one integration that wait in one lane. Their namespaces take turns, in each of them by
//! ticket: how many devices of one namespace wait makes no other's wait longer.

use std::collections::{BTreeMap, HashMap};

use super::FIRST_TICKET;
use crate::schedule::Waiter;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// They go before all others.
    front: BTreeMap<u64, Waiter>,
    /// Each has one that waits.
    namespaces: HashMap<u32, Namespace>,
    /// The namespaces by turn; the first is next.
    turns: BTreeMap<u64, u32>,
    next_turn: u64,
}

#[derive(Debug)]
struct Namespace {
    turn: u64,
    waiting: BTreeMap<u64, Waiter>,
}

impl Line {
    pub fn push(&mut self, namespace: u32, ticket: u64, waiter: Waiter) {
        if ticket < FIRST_TICKET {
            self.front.insert(ticket, waiter);
            return;
        }
        let turn = self.next_turn;
        let line = self.namespaces.entry(namespace).or_insert_with(|| {
            self.turns.insert(turn, namespace);
            self.next_turn += 1;
            Namespace { turn, waiting: BTreeMap::new() }
        });
        line.waiting.insert(ticket, waiter);
    }

    pub fn remove(&mut self, namespace: u32, ticket: u64) {
        if self.front.remove(&ticket).is_some() {
            return;
        }
        let Some(line) = self.namespaces.get_mut(&namespace) else { return };
        line.waiting.remove(&ticket);
        if line.waiting.is_empty() {
            self.turns.remove(&line.turn);
            self.namespaces.remove(&namespace);
        }
    }

    /// The one whose turn it is.
    pub fn pop(&mut self) -> Option<Waiter> {
        if let Some((_, waiter)) = self.front.pop_first() {
            return Some(waiter);
        }
        let (_, namespace) = self.turns.pop_first()?;
        let line = self.namespaces.get_mut(&namespace)?;
        let (_, waiter) = line.waiting.pop_first()?;
        if line.waiting.is_empty() {
            self.namespaces.remove(&namespace);
        } else {
            line.turn = self.next_turn;
            self.turns.insert(self.next_turn, namespace);
            self.next_turn += 1;
        }
        Some(waiter)
    }

    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.turns.is_empty()
    }

    /// True if the next one goes before all others.
    pub fn has_front(&self) -> bool {
        !self.front.is_empty()
    }

    pub fn waiters(&self) -> impl Iterator<Item = Waiter> {
        let of_namespaces = self.namespaces.values().flat_map(|line| line.waiting.values());
        self.front.values().chain(of_namespaces).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns_and_those_at_the_front_go_before_them() {
        let mut line = Line::default();
        for (namespace, ticket) in [(1, 0), (1, 1), (1, 2), (2, 3), (3, 4), (2, 5)] {
            line.push(namespace, FIRST_TICKET + ticket, u32::try_from(ticket).unwrap());
        }
        line.push(3, FIRST_TICKET - 1, 90);
        line.push(3, FIRST_TICKET - 2, 91);
        assert!(line.has_front());
        assert_eq!(line.waiters().count(), 8);
        line.remove(1, FIRST_TICKET + 1);
        line.remove(3, FIRST_TICKET + 4);
        line.remove(3, FIRST_TICKET - 1);

        let order: Vec<_> = std::iter::from_fn(|| line.pop()).collect();

        assert_eq!(order, [91, 0, 3, 2, 5]);
        assert!(line.is_empty() && !line.has_front() && line.namespaces.is_empty());
    }
}
