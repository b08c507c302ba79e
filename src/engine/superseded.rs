//! Registrations that DPS may hold in place of those that Secrets record: their devices have gone while another
//! one was under way, or before what came of it was written. Whichever device takes over such a Secret registers
//! once more.

use std::collections::VecDeque;

use super::Engine;
use super::endings::Standing;
use crate::clock::Now;
use crate::controller::device::decide::IdStanding;
use crate::controller::device::facts::Unresolved;
use crate::fleet::DeviceId;
use crate::fleet::hash::{self, Hash};
use crate::fleet::record::Record;

/// So many are remembered, the latest ones.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Superseded(VecDeque<Hash>);

impl Superseded {
    fn note(&mut self, place: Hash) {
        if self.0.contains(&place) {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(place);
    }

    fn contains(&self, place: impl FnOnce() -> Option<Hash>) -> bool {
        !self.0.is_empty() && place().is_some_and(|place| self.0.contains(&place))
    }

    fn take(&mut self, place: Hash) {
        self.0.retain(|noted| *noted != place);
    }
}

impl Engine {
    /// Remembers what DPS may hold of a device that goes away or whose work is dropped.
    pub(super) fn note_superseded(&mut self, id: DeviceId, now: Now) {
        if let Some(place) = self.active.superseded(id, now) {
            self.superseded.note(place);
        }
    }

    /// The same of a device that is being deleted: its work ends before it is gone.
    pub(super) fn note_superseded_at_end(&mut self, id: DeviceId, now: Now) {
        let ends =
            |record: &Record| record.deleting || self.endings.standing(record.namespace) == Standing::Ends;
        if self.fleet.get(id).is_some_and(ends) {
            self.note_superseded(id, now);
        }
    }

    /// Of what this device may take over from one that is gone, DPS may hold something else.
    pub(super) fn is_superseded(&self, record: &Record) -> bool {
        self.superseded.contains(|| self.place_of(record))
    }

    /// Takes that in as a fact of the device.
    pub(super) fn take_superseded(&mut self, id: DeviceId) {
        // Only the one that may use the id will register.
        let superseded = self.fleet.get(id).filter(|record| self.is_superseded(record));
        let superseded = superseded.filter(|_| self.standing(id) == IdStanding::Free);
        let Some(place) = superseded.and_then(|record| self.place_of(record)) else { return };
        if let Some(work) = self.active.work_mut(id) {
            work.facts.unresolved = Unresolved::Begun;
            self.superseded.take(place);
        }
    }

    /// Where DPS keeps the device's registration.
    pub(super) fn place_of(&self, record: &Record) -> Option<Hash> {
        let integration = self.registry.object(record.integration)?;
        Some(hash::place(&integration.spec.id_scope, record.registration_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize) -> Hash {
        hash::place("0ne1", &number.to_string())
    }

    #[test]
    fn the_latest_ones_are_remembered_each_until_it_is_taken() {
        let mut superseded = Superseded::default();
        for number in (0..=MOST).chain([MOST]) {
            superseded.note(place(number));
        }
        let known = |superseded: &Superseded, number| superseded.contains(|| Some(place(number)));
        assert_eq!(superseded.0.len(), MOST);
        assert!(!known(&superseded, 0) && known(&superseded, 1) && known(&superseded, MOST));
        superseded.take(place(MOST));
        assert!(!known(&superseded, MOST) && known(&superseded, 1));
    }
}
