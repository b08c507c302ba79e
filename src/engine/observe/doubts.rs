//! What may not be as it looks: a status that another writer has written, a namespace of which something
//! is gone.

use crate::engine::Engine;
use crate::engine::devices::DueWork;
use crate::fleet::DeviceId;
use crate::fleet::hash::Hash;
use crate::fleet::record::Record;

impl Engine {
    /// The status of a settled device says something else of where it is than when it settled (`before`),
    /// and we are not writing it. Of the rest another operator may have another opinion.
    pub(super) fn doubt_edited_status(&mut self, id: DeviceId, before: Hash) {
        let is_edited = self.fleet.get(id).is_some_and(|record| record.looked_up != before);
        if is_edited && self.active.work(id).is_none() {
            self.active.due(id, DueWork::Edited);
        }
    }

    /// A Secret that was there when its device settled went while nothing was there to see it.
    pub(super) fn doubt_namespaces_without_secrets(&mut self) {
        let lost = |record: &&Record| record.settled.is_some() && record.secret_seen == 0;
        for (_, record) in self.fleet.iter().filter(|(_, record)| lost(record)) {
            self.endings.doubt(record.namespace);
        }
    }

    /// Something of these devices is gone.
    pub(super) fn doubt_namespaces_of(&mut self, ids: &[DeviceId]) {
        let namespaces = ids.iter().filter_map(|id| self.fleet.get(*id)).map(|record| record.namespace);
        namespaces.for_each(|namespace| self.endings.doubt(namespace));
    }
}
