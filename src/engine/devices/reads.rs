//! Reads of devices whose object is not kept, a few at a time.

use std::collections::{HashSet, VecDeque};

use crate::fleet::DeviceId;

/// Devices that are read at a time.
const READS: usize = 16;

/// Devices that are being read, and those that wait for that.
#[derive(Debug, Default)]
pub(in crate::engine) struct ReadQueue {
    reading: HashSet<DeviceId>,
    line: VecDeque<DeviceId>,
    waiting: HashSet<DeviceId>,
}

impl ReadQueue {
    /// True if the device may be read now; otherwise it is being read or waits in line.
    pub fn begin(&mut self, id: DeviceId) -> bool {
        if self.reading.contains(&id) {
            return false;
        }
        if self.reading.len() < READS {
            return self.reading.insert(id);
        }
        if self.waiting.insert(id) {
            self.line.push_back(id);
        }
        false
    }

    /// A read has ended.
    pub fn ended(&mut self, id: DeviceId) {
        self.reading.remove(&id);
    }

    /// The next device in line, if one may be read; whether it still has to be is not known here.
    pub fn next(&mut self) -> Option<DeviceId> {
        if self.reading.len() >= READS {
            return None;
        }
        let next = self.line.pop_front()?;
        self.waiting.remove(&next);
        Some(next)
    }

    #[cfg(test)]
    pub fn going_on(&self) -> usize {
        self.reading.len()
    }

    /// True if the device is being read, or will be.
    pub fn contains(&self, id: DeviceId) -> bool {
        self.reading.contains(&id) || self.waiting.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_read_at_a_time_and_each_once() {
        let mut reads = ReadQueue::default();
        let begun = (0..100).filter(|id| reads.begin(*id)).count();
        assert_eq!((begun, reads.next()), (READS, None));
        assert!(!reads.begin(0) && !reads.begin(99) && reads.contains(99));
        reads.ended(0);
        assert_eq!(reads.next(), Some(16));
        assert!(!reads.contains(0) && !reads.contains(16) && reads.begin(16));
        assert_eq!(reads.next(), None);
    }
}
