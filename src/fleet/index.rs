//! Devices by something that most of them have for themselves: found by its hash at the cost of a place
//! in a table. Those that share it stand in order, so that however many they are, one of them is taken
//! in, taken out or found first without a look at the others.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::RandomState;

use hashbrown::HashTable;

use super::DeviceId;
use super::record::Record;

/// What devices are found by, and how those that share it are ordered.
pub(super) trait Property {
    type Rank: Copy + Debug + Ord;

    /// `None` for a device that is not found by it.
    fn hash(record: &Record, hasher: &RandomState) -> Option<u64>;

    fn is_shared_by(a: &Record, b: &Record) -> bool;

    fn rank(record: &Record) -> Self::Rank;
}

/// A device among those that share the property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<R> {
    pub rank: R,
    pub id: DeviceId,
}

pub(super) type Sharing<P> = BTreeSet<Place<<P as Property>::Rank>>;

/// A device's record has to stand in `records`, unchanged, from before it is inserted until after it is
/// removed.
#[derive(Debug)]
pub(super) struct Index<P: Property> {
    alone: HashTable<DeviceId>,
    /// Two devices or more each.
    shared: HashTable<Sharing<P>>,
}

impl<P: Property> Default for Index<P> {
    fn default() -> Self {
        Self { alone: HashTable::new(), shared: HashTable::new() }
    }
}

impl<P: Property> Index<P> {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.shared.is_empty()
    }

    pub fn insert(&mut self, id: DeviceId, records: &[Option<Record>], hasher: &RandomState) {
        let Some(record) = at(records, id) else { return };
        let Some(hash) = P::hash(record, hasher) else { return };
        let own = Place { rank: P::rank(record), id };
        let is_same = |other| at(records, other).is_some_and(|other| P::is_shared_by(other, record));
        if let Some(sharing) = self.shared.find_mut(hash, |sharing| first(sharing).is_some_and(is_same)) {
            sharing.insert(own);
            return;
        }
        let hash_of = |id| at(records, id).and_then(|record| P::hash(record, hasher)).unwrap_or(0);
        match self.alone.find_entry(hash, |other| is_same(*other)) {
            Ok(alone) => {
                let (other, _) = alone.remove();
                let others = at(records, other).map(|record| Place { rank: P::rank(record), id: other });
                let sharing = others.into_iter().chain([own]).collect();
                self.shared.insert_unique(hash, sharing, |sharing| first(sharing).map_or(0, hash_of));
            }
            Err(_) => {
                self.alone.insert_unique(hash, id, |id| hash_of(*id));
            }
        }
    }

    pub fn remove(&mut self, id: DeviceId, records: &[Option<Record>], hasher: &RandomState) {
        let Some(record) = at(records, id) else { return };
        let Some(hash) = P::hash(record, hasher) else { return };
        let is_same = |other| at(records, other).is_some_and(|other| P::is_shared_by(other, record));
        let hash_of = |id| at(records, id).and_then(|record| P::hash(record, hasher)).unwrap_or(0);
        match self.shared.find_entry(hash, |sharing| first(sharing).is_some_and(is_same)) {
            Ok(mut sharing) => {
                sharing.get_mut().remove(&Place { rank: P::rank(record), id });
                if sharing.get().len() > 1 {
                    return;
                }
                let (left, _) = sharing.remove();
                if let Some(left) = first(&left) {
                    self.alone.insert_unique(hash, left, |id| hash_of(*id));
                }
            }
            Err(_) => {
                if let Ok(alone) = self.alone.find_entry(hash, |other| *other == id) {
                    alone.remove();
                }
            }
        }
    }

    /// The devices that share it with this one, if there are any.
    pub fn sharing(
        &self,
        record: &Record,
        records: &[Option<Record>],
        hasher: &RandomState,
    ) -> Option<&Sharing<P>> {
        if self.shared.is_empty() {
            return None;
        }
        let hash = P::hash(record, hasher)?;
        let is_same = |other| at(records, other).is_some_and(|other| P::is_shared_by(other, record));
        self.shared.find(hash, |sharing| first(sharing).is_some_and(is_same))
    }

    /// Devices with this hash for which `is_wanted` holds, in order.
    pub fn find(&self, hash: u64, is_wanted: impl Fn(DeviceId) -> bool) -> impl Iterator<Item = DeviceId> {
        let alone = self.alone.find(hash, |id| is_wanted(*id));
        let shared = self.shared.find(hash, |sharing| first(sharing).is_some_and(&is_wanted));
        alone.copied().into_iter().chain(shared.into_iter().flatten().map(|place| place.id))
    }
}

fn at(records: &[Option<Record>], id: DeviceId) -> Option<&Record> {
    records.get(id as usize).and_then(Option::as_ref)
}

fn first<R>(sharing: &BTreeSet<Place<R>>) -> Option<DeviceId>
where
    R: Ord,
{
    sharing.first().map(|place| place.id)
}
