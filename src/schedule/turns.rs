//! Namespaces and parties that take turns: how long one's line is makes no other wait longer.

use std::collections::{HashMap, VecDeque};

use super::Waiter;
use super::rota::Rota;

/// Who bears the cost of work: devices of one namespace with one integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    pub namespace: u32,
    pub integration: u32,
}

/// A line for each party that has devices waiting. Namespaces take turns, and in each of them its parties:
/// devices may name any number of integrations, also such as do not exist.
#[derive(Debug, Default)]
pub struct Turns {
    lines: HashMap<Party, VecDeque<Waiter>>,
    /// The integrations with a line, by namespace.
    rota: Rota<u32, u32>,
}

impl Turns {
    /// Adds a device to the end of its party's line.
    pub fn push(&mut self, party: Party, id: Waiter) {
        let line = self.lines.entry(party).or_default();
        if line.is_empty() {
            self.rota.join(party.namespace, party.integration);
        }
        line.push_back(id);
    }

    /// The first of the party whose turn it is, in a namespace that may have one.
    pub fn pop(&mut self, may: impl Fn(u32) -> bool) -> Option<Waiter> {
        self.rota.turn(may, |namespace, integration| {
            let party = Party { namespace, integration };
            let Some(line) = self.lines.get_mut(&party) else { return (None, false) };
            let next = line.pop_front();
            let stays = !line.is_empty();
            if !stays {
                self.lines.remove(&party);
            }
            (next, stays)
        })
    }

    pub fn is_empty(&self) -> bool {
        self.rota.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_makes_no_other_party_wait_longer() {
        let party = |integration| Party { namespace: 1, integration };
        let mut turns = Turns::default();
        (0..1000).for_each(|id| turns.push(party(1), id));
        turns.push(party(2), 2000);
        turns.push(party(3), 3000);
        turns.push(party(2), 2001);

        let first: Vec<_> = (0..7).filter_map(|_| turns.pop(|_| true)).collect();

        assert_eq!(first, [0, 2000, 3000, 1, 2001, 2, 3]);
        assert_eq!(std::iter::from_fn(|| turns.pop(|_| true)).count(), 996);
        assert!(turns.is_empty() && turns.lines.is_empty(), "nothing is kept of a line that is over");
    }

    #[test]
    fn any_number_of_integrations_gives_a_namespace_no_more_turns() {
        let mut turns = Turns::default();
        (0..1000).for_each(|id| turns.push(Party { namespace: 1, integration: id }, id));
        turns.push(Party { namespace: 2, integration: 1 }, 2000);
        turns.push(Party { namespace: 2, integration: 1 }, 2001);

        let first: Vec<_> = (0..5).filter_map(|_| turns.pop(|_| true)).collect();

        assert_eq!(first, [0, 2000, 1, 2001, 2]);
    }
}
