//! Calls in flight: how many there may be, and who may begin one more.

use std::collections::HashMap;

use super::Group;

/// A call in flight, as it counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of an integration that DPS has accepted.
    Accepted,
    /// Of one that it has not, in this group.
    Newcomer(Group),
}

#[derive(Debug)]
pub(super) struct Slots {
    most: u32,
    in_flight: u32,
    /// Of these, calls of integrations that DPS has not accepted.
    newcomers: u32,
    groups: HashMap<Group, u32>,
}

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self { most, in_flight: 0, newcomers: 0, groups: HashMap::new() }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn free(&self) -> u32 {
        self.most.saturating_sub(self.in_flight)
    }

    /// True if a scope with so many calls in flight may begin another: it may hold as many as it leaves
    /// free, and one that holds none may have one beyond that, up to a quarter more in all. So however long
    /// the operations of some take, there is room for many others.
    pub(super) fn admit_scope(&self, in_flight: u32) -> bool {
        let first = in_flight == 0 && self.in_flight < self.most + self.most / 4;
        in_flight < self.free() || first
    }

    /// True if this group may begin another call of a newcomer. Newcomers have a quarter of all between
    /// them, and a group as many as it leaves free of that.
    pub(super) fn admit_newcomer(&self, group: Group) -> bool {
        let most = (self.most / 4).max(2).min(self.most);
        let of_group = self.groups.get(&group).copied().unwrap_or(0);
        of_group < most.saturating_sub(self.newcomers)
    }

    pub(super) fn take(&mut self, kind: Kind) {
        self.in_flight += 1;
        if let Kind::Newcomer(group) = kind {
            self.newcomers += 1;
            *self.groups.entry(group).or_default() += 1;
        }
    }

    pub(super) fn give_back(&mut self, kind: Kind) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Kind::Newcomer(group) = kind {
            self.newcomers = self.newcomers.saturating_sub(1);
            if let Some(of_group) = self.groups.get_mut(&group) {
                *of_group = of_group.saturating_sub(1);
            }
            self.groups.retain(|_, calls| *calls > 0);
        }
    }
}
