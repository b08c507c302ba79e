//! What may not be as it looks: a status that another writer has written, a namespace of which something
//! is gone.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::api::names::RENDERED_HASH;
use crate::engine::Engine;
use crate::engine::devices::DueWork;
use crate::fleet::DeviceId;
use crate::fleet::hash::Hash;
use crate::fleet::record::{Record, Settled, Stated};

impl Engine {
    /// The status of a device says something else of the same generation than before, and we had nothing to
    /// write. Where it says that the device is elsewhere, DPS is asked; all else the Secret tells.
    pub(super) fn doubt_edited_status(&mut self, id: DeviceId, generation: i64, before: Stated) {
        let Some(record) = self.fleet.get(id).filter(|record| record.generation == generation) else {
            return;
        };
        let stated = record.stated();
        if stated != before {
            let is_elsewhere = stated.looked_up != before.looked_up;
            self.active.due(id, if is_elsewhere { DueWork::Edited } else { DueWork::Compare });
        }
    }

    /// Devices whose status and Secret, unchanged since that status was written, do not say that the same
    /// was rendered: one of the two was edited, and a Secret that is edited changes its version.
    pub(super) fn doubt_status_beside(&mut self, secret: &PartialObjectMeta<Secret>, version: u64) {
        let rendered = secret.annotations().get(RENDERED_HASH).and_then(|hash| Hash::parse(hash));
        let Some(rendered) = rendered else { return };
        let contradicts = |settled: &Settled| {
            settled.secret_version == version && settled.rendered.is_some_and(|hash| hash != rendered)
        };
        let namespace = secret.namespace().unwrap_or_default();
        for id in self.fleet.devices_of_secret(&namespace, &secret.name_any()) {
            let settled = self.fleet.get(id).and_then(|record| record.settled);
            if settled.as_ref().is_some_and(contradicts) && self.active.work(id).is_none() {
                self.active.due(id, DueWork::Edited);
            }
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
