//! Which devices an integration has.

use std::collections::HashMap;

use super::DeviceId;
use super::intern::Sym;
use super::record::Record;

/// Each device is in its integration's list, at the place that its record names.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<Sym, Vec<DeviceId>>);

impl Members {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, integration: Sym) -> &[DeviceId] {
        self.0.get(&integration).map_or(&[], Vec::as_slice)
    }

    pub fn insert(&mut self, id: DeviceId, records: &mut [Option<Record>]) {
        let Some(Some(record)) = records.get_mut(id as usize) else { return };
        let members = self.0.entry(record.integration).or_default();
        record.member = u32::try_from(members.len()).unwrap_or(u32::MAX);
        members.push(id);
    }

    pub fn remove(&mut self, id: DeviceId, records: &mut [Option<Record>]) {
        let Some(Some(record)) = records.get(id as usize) else { return };
        let (integration, place) = (record.integration, record.member);
        let Some(members) = self.0.get_mut(&integration) else { return };
        if members.get(place as usize) != Some(&id) {
            return;
        }
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).and_then(|moved| records.get_mut(*moved as usize));
        if let Some(Some(moved)) = moved {
            moved.member = place;
        }
        if members.is_empty() {
            self.0.remove(&integration);
        } else if members.len() < members.capacity() / 4 {
            members.shrink_to(2 * members.len());
        }
    }
}
