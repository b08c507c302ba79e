//! Everything that a decision depends on, from memory.

use std::sync::Arc;

use crate::clock::Now;
use crate::controller::device::decide::{Delay, IdStanding, IntegrationState, SecretState, Snapshot};
use crate::controller::device::facts::Unresolved;
use crate::controller::device::open_registration::OpenRegistration;
use crate::engine::Engine;
use crate::engine::devices::DueWork;
use crate::fleet::DeviceId;
use crate::fleet::record::{Need, Record};

impl Engine {
    /// `None` if there is no work.
    pub(super) fn gather(&self, id: DeviceId, now: Now) -> Option<Snapshot<'_>> {
        let (work, record) = (self.active.work(id)?, self.fleet.get(id)?);
        let namespace = self.fleet.names.text(record.namespace);
        Some(Snapshot {
            device: &work.device,
            facts: &work.facts,
            integration: self.integration_of(id),
            secret: SecretState {
                seen: self.fleet.secret(id),
                read: work.secret_read,
                watch_is_complete: self.fleet.is_secret_watch_complete(),
                holds_key: self.registry.is_group_key(namespace, record.secret_name())
                    || self.fleet.writes_to_source(id),
            },
            standing: self.standing(id),
            status_is_ours: record.written.is_some() && record.written == record.status,
            contested: self.active.contested(id, now.mono),
            delay: self.delay(id),
            retry_at: self.registry.retry_at(record.integration, record.uid, now.mono),
            ca: self.place_with_ca(id, now),
            metadata_prefixes: &self.context.config.secret_metadata_prefixes,
            has_permit: self.active.permit(id).is_some(),
            now: now.mono,
            wall: now.wall,
        })
    }

    /// A registration that goes on is forgotten if it was accepted elsewhere or with another credential than
    /// those that the device has now. What it has come to is not known then.
    pub(super) fn drop_outdated_registration(&mut self, id: DeviceId) {
        let Some(target) = self.usable_of(id).map(|usable| usable.target.clone()) else { return };
        let Some(work) = self.active.work_mut(id) else { return };
        let is_another = |open: &Arc<OpenRegistration>| !open.is_of(&work.device, &target);
        if work.facts.open.as_ref().is_some_and(is_another) {
            work.facts.open = None;
            work.facts.unresolved = Unresolved::Begun;
        }
    }

    fn delay(&self, id: DeviceId) -> Delay {
        if self.is_held_up(id) && self.active.grace(id).is_over() {
            Delay::HeldUp
        } else if self.active.is_queued_long(id, self.permits.waiting_since(id)) {
            Delay::Queued
        } else {
            Delay::None
        }
    }

    /// The integration could be used, but is suspended or in trouble.
    pub(super) fn is_held_up(&self, id: DeviceId) -> bool {
        self.fleet.get(id).is_some_and(|record| match record.has_own_credential() {
            true => self.registry.holds_up_alone(record.integration),
            false => self.registry.holds_up(record.integration),
        })
    }

    /// What the index alone shows of a device's needs.
    pub(super) fn need(&self, id: DeviceId, record: &Record) -> Need {
        if record.deleting {
            return Need::Nothing;
        }
        let Some(settled) = record.settled else { return Need::Fetch };
        let busy = self.active.work(id).is_some_and(|work| work.task.is_some() || work.unreported);
        // What a check has come to needs the object.
        let has_news = self.active.due_work(id).is_some_and(|drift| !matches!(drift, DueWork::Check));
        if busy || has_news || self.active.has_begun_to_register(id) || self.is_superseded(record) {
            return Need::Fetch;
        }
        match self.integration_of(id) {
            IntegrationState::Missing(grace) | IntegrationState::NotAllowed(grace) => {
                if grace.is_over() {
                    Need::Fetch
                } else {
                    Need::Nothing
                }
            }
            IntegrationState::NotReady(_) => {
                if record.secret_seen > 0 {
                    Need::Nothing
                } else {
                    Need::Fetch
                }
            }
            IntegrationState::Unread(target)
            | IntegrationState::Keyless(target, ..)
            | IntegrationState::Usable(target) => {
                let namespace = self.fleet.names.text(record.namespace);
                if !target.allows_id(record.registration_id(), namespace)
                    || self.standing(id) != IdStanding::Free
                {
                    return Need::Fetch;
                }
                match record.need(&settled, target.wanted()) {
                    Need::Nothing | Need::Rewrite if self.fleet.is_source_outdated(id) => Need::Verify,
                    need => need,
                }
            }
        }
    }
}
