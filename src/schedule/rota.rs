//! Groups that take turns, and the members of each that take turns in it: how many members a group has
//! gives it no more turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Members that have something to do, by group.
#[derive(Debug)]
pub struct Rota<G, M> {
    /// The members of each group, each once; the first is next.
    members: HashMap<G, VecDeque<M>>,
    /// Each group with members, once; the first is next.
    order: VecDeque<G>,
}

impl<G, M> Default for Rota<G, M> {
    fn default() -> Self {
        Self { members: HashMap::new(), order: VecDeque::new() }
    }
}

impl<G: Copy + Eq + Hash, M: Copy + PartialEq> Rota<G, M> {
    /// Adds a member that is not in it to the end of its group.
    pub fn join(&mut self, group: G, member: M) {
        let members = self.members.entry(group).or_default();
        if members.is_empty() {
            self.order.push_back(group);
        }
        members.push_back(member);
    }

    pub fn leave(&mut self, group: G, member: M) {
        let Some(members) = self.members.get_mut(&group) else { return };
        members.retain(|other| *other != member);
        if members.is_empty() {
            self.members.remove(&group);
            self.order.retain(|other| *other != group);
        }
    }

    /// Gives a turn to the first group that has a member to use it. `take` is asked for a member's work;
    /// it also says whether the member stays.
    pub fn turn<W>(
        &mut self,
        may: impl Fn(G) -> bool,
        mut take: impl FnMut(G, M) -> (Option<W>, bool),
    ) -> Option<W> {
        for _ in 0..self.order.len() {
            let group = self.order.pop_front()?;
            let Some(members) = self.members.get_mut(&group) else { continue };
            let asked = if may(group) { members.len() } else { 0 };
            let mut taken = None;
            for _ in 0..asked {
                let Some(member) = members.pop_front() else { break };
                let (work, stays) = take(group, member);
                if stays {
                    members.push_back(member);
                }
                taken = work;
                if taken.is_some() {
                    break;
                }
            }
            if members.is_empty() {
                self.members.remove(&group);
            } else {
                self.order.push_back(group);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = (G, M)> {
        self.members.iter().flat_map(|(group, members)| members.iter().map(|member| (*group, *member)))
    }

    pub fn groups(&self) -> impl Iterator<Item = G> {
        self.order.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next members, each of which has work for ever, except those of which there is none.
    fn turns(rota: &mut Rota<u32, u32>, but: &[u32], number: usize) -> Vec<u32> {
        let take = |_, member: u32| (Some(member).filter(|member| !but.contains(member)), true);
        (0..number).filter_map(|_| rota.turn(|_| true, take)).collect()
    }

    #[test]
    fn groups_take_turns_however_many_members_each_has() {
        let mut rota = Rota::default();
        (10..1000).for_each(|member| rota.join(1, member));
        rota.join(2, 2);

        assert_eq!(turns(&mut rota, &[], 6), [10, 2, 11, 2, 12, 2]);
        let idle: Vec<_> = (10..999).collect();
        assert_eq!(turns(&mut rota, &idle, 4), [999, 2, 999, 2], "one that has nothing costs no turn");
        assert_eq!(turns(&mut rota, &(2..1000).collect::<Vec<_>>(), 1), [0; 0]);
    }

    #[test]
    fn nothing_is_kept_of_what_has_left() {
        let mut rota = Rota::default();
        for member in [1, 2, 3] {
            rota.join(member % 2, member);
        }
        rota.leave(0, 2);
        rota.leave(0, 2);
        assert_eq!(rota.groups().collect::<Vec<_>>(), [1]);
        assert_eq!(rota.iter().collect::<Vec<_>>(), [(1, 1), (1, 3)]);
        let once = |_, member| (Some(member), false);
        assert_eq!((rota.turn(|_| true, once), rota.turn(|_| false, once)), (Some(1), None));
        assert_eq!((rota.turn(|_| true, once), rota.turn(|_| true, once)), (Some(3), None));
        assert!(rota.is_empty() && rota.members.is_empty());
    }
}
