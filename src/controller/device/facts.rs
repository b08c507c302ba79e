//! What is known of a device at this moment: from its status, from its Secret, or from what was
//! just done and is not written down yet.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

pub use super::failed::{FailedWork, Failure, NewFailure};
use super::open_registration::OpenRegistration;
pub use super::recorded::{Doubt, RecordedInSecret, WrittenSecret};
pub use super::registered::{Located, Registered, ReturnedPayload};
pub use super::served::ServedRequests;
pub use super::unresolved::Unresolved;
use crate::api::device::ProvisionedDeviceStatus;
use crate::api::version;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::key_source::KeySource;
use crate::dps::attestation::CredentialId;
use crate::dps::ids::HubHostname;
use crate::fleet::hash::Hash;

/// Why DPS should be called for a registered device although neither it nor its integration has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its period is over.
    Periodic,
    /// A lookup found no assignment.
    NotFound,
    /// It should only be looked up: a drift check is due.
    DriftCheck,
}

/// Everything known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub registered: Option<Registered>,
    pub previous_hub: Option<String>,
    /// Where the device's own credential was looked at last.
    pub source: Option<KeySource>,
    pub secret: Option<WrittenSecret>,
    pub failure: Option<Failure>,
    /// A registration that DPS has accepted and not ended: it comes to its end before anything else is
    /// asked of DPS.
    pub open: Option<Arc<OpenRegistration>>,
    pub unresolved: Unresolved,
    pub trigger: Option<Trigger>,
    pub served: ServedRequests,
    /// DPS itself has said where the device is since the operator knows of it: no Secret knows better.
    pub fresh: bool,
    pub doubt: Option<Doubt>,
    pub trust: Trust,
}

/// What bears out what the status says, which others can write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    #[default]
    Nothing,
    /// Nothing, and others have written it, or may have: the Secret is to be compared with it.
    ToCompare,
    /// A Secret that was read and has its seal.
    Sealed,
}

impl Facts {
    /// What the status says. `seed` spreads waits as `retry::wait` does; `now` on the wall clock, by which
    /// the status tells of times, and on the monotonic one, by which is waited.
    pub fn from_status(
        status: &ProvisionedDeviceStatus,
        generation: i64,
        seed: u64,
        now: (Timestamp, Instant),
    ) -> Self {
        // Every field: one that is left out here is forgotten by the next write.
        let ProvisionedDeviceStatus {
            observed_generation: _,
            state: _,
            conditions: _,
            registration_id: _,
            id_scope: _,
            enrollment_group_id: _,
            assigned_hub: _,
            previous_hub,
            device_id: _,
            assignment: _,
            credential,
            issued_certificate: _,
            registered_hash: _,
            secret,
            binding,
            returned_payload_hash: _,
            last_registration_time: _,
            attempts: _,
            last_error: _,
            last_handled_reprovision_token,
            last_handled_integration_token,
            last_handled_reconcile_at,
        } = status;
        let registered = Registered::stated(status);
        let served = ServedRequests {
            token: last_handled_reprovision_token.clone(),
            integration_token: last_handled_integration_token.clone(),
            reconcile_at: last_handled_reconcile_at.clone(),
        };
        // The Secret is written before the status, so it holds no less than this.
        let record = recorded(registered.as_ref(), &served);
        Self {
            previous_hub: previous_hub.clone(),
            source: credential.as_ref().and_then(KeySource::stated),
            secret: secret.as_ref().map(|secret| WrittenSecret {
                name: secret.name.clone(),
                version: version::parse(secret.resource_version.as_deref()),
                rendered: secret.rendered_hash.as_deref().and_then(Hash::parse),
                record,
                binding: binding.is_some(),
            }),
            failure: Failure::recorded(status, generation, seed, now),
            open: None,
            unresolved: Unresolved::Nothing,
            trigger: None,
            fresh: false,
            doubt: None,
            trust: Trust::Nothing,
            registered,
            served,
        }
    }

    /// The status can be edited by others: what it says of another registration id is not the
    /// device's, whose own cannot change.
    pub fn of_registration(mut self, id: &str) -> Self {
        self.registered = self.registered.filter(|registered| registered.registration_id == id);
        self
    }

    /// Status and Secret can be edited by others: a hub that this operator would not accept from DPS
    /// is not taken from them either.
    pub fn without_foreign_hub(mut self, hub_suffixes: &[String]) -> Self {
        self.registered =
            self.registered.filter(|registered| HubHostname::parse(&registered.hub, hub_suffixes).is_ok());
        self
    }

    /// The Secret could not be written, and that is not mended.
    pub fn secret_failed(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.work == FailedWork::Secret)
    }

    /// True once the device had a registration and a Secret: from then on most trouble leaves it Ready.
    pub fn provisioned(&self) -> bool {
        self.registered.is_some() && self.secret.is_some()
    }

    /// Takes in that another writer has written the status that this was read from, and `moved` the device
    /// in it.
    pub fn doubt_status(&mut self, moved: bool) {
        if self.registered.is_some() && !self.fresh {
            self.trust = Trust::ToCompare;
            if moved {
                self.doubt.get_or_insert(Doubt::Contradiction);
            }
        }
    }

    /// The Secret that was read is not as it was written, although it has the version that the status says.
    pub fn secret_is_altered(&mut self) {
        if let Some(written) = &mut self.secret {
            written.version = 0;
        }
    }

    /// The device's own credential was read.
    pub fn credential_read(&mut self, own: &Credentials) {
        self.source = own.source().cloned();
        if let Some(registered) = &mut self.registered {
            registered.read_from(own);
        }
    }

    /// Takes in what is recorded in the Secret, as far as it can be believed. `reconcile_at`: a
    /// request to look again that a device without status has not been told apart from older ones.
    pub fn recall(&mut self, recorded: Option<RecordedInSecret>, reconcile_at: Option<String>) {
        let sealed = recorded.as_ref().is_some_and(|recorded| recorded.sealed);
        self.trust = if sealed { Trust::Sealed } else { Trust::Nothing };
        let Some(recorded) = recorded else { return };
        let Some(known) = &mut self.registered else {
            if recorded.is_proof() {
                // A device whose status is rebuilt serves no request a second time.
                self.served = ServedRequests { reconcile_at, ..recorded.served };
                self.registered = Some(recorded.registered);
            } else {
                self.doubt = Some(Doubt::Unsealed(Box::new(recorded)));
            }
            return;
        };
        known.recover(&recorded.registered);
        if self.fresh {
            return;
        }
        let untouched = self.secret.as_ref().is_some_and(|written| written.version == recorded.version);
        if recorded.sealed && untouched {
            self.prefer(recorded);
        } else if recorded.sealed {
            self.compare(recorded);
        } else if untouched && known.assigned_hash() != recorded.registered.assigned_hash() {
            // Nobody has touched the Secret since the status was written, so one of them was forged.
            self.doubt = Some(Doubt::Contradiction);
        }
    }

    /// Takes in the sealed record with which the status was written: where the two differ, the status was
    /// edited. Of the same registration that one may say more: when it was made again or looked up.
    fn prefer(&mut self, recorded: RecordedInSecret) {
        let RecordedInSecret { registered, served, rendered, .. } = recorded;
        let Some(known) = self.registered.take() else { return };
        let is_there = registered.hub == known.hub && registered.device_id == known.device_id;
        if !is_there {
            self.doubt = Some(Doubt::Contradiction);
        }
        let same_credential = registered.credential == known.credential;
        self.registered = Some(Registered {
            assignment: if is_there { known.assignment } else { registered.assignment },
            enrollment_group: known.enrollment_group.filter(|_| is_there).or(registered.enrollment_group),
            slot: if same_credential { known.slot } else { registered.slot },
            time: known.time,
            ..registered
        });
        self.served = ServedRequests { reconcile_at: self.served.reconcile_at.take(), ..served };
        let record = self.record();
        if let Some(written) = &mut self.secret {
            let is_to_be_compared = written.record == outdated();
            (written.rendered, written.record) =
                (rendered, if is_to_be_compared { outdated() } else { record });
        }
    }

    /// Takes in a sealed record that goes further than the status: written, and then the operator
    /// ended before it could write the status. Where it says something else and does not go further, an
    /// old Secret was put back, or the status was edited.
    fn compare(&mut self, recorded: RecordedInSecret) {
        let RecordedInSecret { registered, served, .. } = recorded;
        let Some(known) = &mut self.registered else { return };
        let same = registered.assigned_hash() == known.assigned_hash();
        match registered.order(known) {
            // Only a registration tells where a device of another id scope is in this one.
            Ordering::Less | Ordering::Equal if known.scope != registered.scope => return,
            Ordering::Less | Ordering::Equal if !same => {
                self.doubt = Some(Doubt::Contradiction);
                return;
            }
            Ordering::Less => return,
            // All the same but for what was asked for and served.
            Ordering::Equal => known.hash = registered.hash,
            Ordering::Greater => {
                let hub = registered.hub.clone();
                self.moved_to(&hub);
                self.registered = Some(registered);
            }
        }
        self.served = ServedRequests { reconcile_at: self.served.reconcile_at.take(), ..served };
    }

    /// What the Secret should record (`Registered::record`).
    pub fn record(&self) -> Hash {
        recorded(self.registered.as_ref(), &self.served)
    }

    /// Takes in what DPS answered to a registration, or to the first lookup of a device.
    pub fn register(&mut self, registered: Registered, served: ServedRequests) {
        let registered = match self.doubt.take() {
            // It was looked up and not registered.
            Some(Doubt::Unsealed(recorded)) if registered.time.is_none() => {
                let Some(confirmed) = self.confirm(*recorded, registered) else { return self.not_found() };
                confirmed
            }
            _ => registered,
        };
        self.moved_to(&registered.hub);
        let before = self.registered.replace(registered);
        self.outdate_secret(before.as_ref());
        self.failure = None;
        self.open = None;
        self.unresolved = Unresolved::Nothing;
        self.trigger = None;
        self.served = served;
        self.fresh = true;
    }

    /// Takes in that DPS has accepted a registration and wants to be asked later how it has ended. How often
    /// it failed before counts until then.
    pub fn registering(&mut self, open: OpenRegistration) {
        self.served.reconcile_at.clone_from(&open.served.reconcile_at);
        self.open = Some(Arc::new(open));
    }

    /// What is known once DPS has found a device of which a Secret without a seal speaks; `None` if the
    /// Secret is not right and cannot be written either, since it was made from a key that is gone.
    fn confirm(&mut self, recorded: RecordedInSecret, found: Registered) -> Option<Registered> {
        let RecordedInSecret { registered: before, of_another_key, agrees, .. } = recorded;
        // A payload that has changed since is still to be handed over.
        let found = Registered { hash: before.hash.or(found.hash), ..found };
        let Some(written) = of_another_key else { return Some(found) };
        let is_right = agrees
            && before.hub == found.hub
            && before.device_id == found.device_id
            && before.returned_payload.is_none();
        is_right.then(|| {
            self.secret = Some(written);
            let Registered { credential, slot, key_secret, certificate, .. } = before;
            Registered { credential, slot, key_secret, certificate, ..found }
        })
    }

    /// Takes in what a lookup of a registered device found: where it is now. The key and the hash of
    /// what was registered stay. What was found of another registration changes nothing.
    pub fn look_up(&mut self, located: Located, reconcile_at: Option<String>) {
        let hub = located.assignment.hub.as_str().to_owned();
        let before = self.registered.as_ref().map(|before| before.hub.clone());
        if !self.registered.as_mut().is_some_and(|registered| registered.found(located)) {
            return;
        }
        // A hub that was doubted is none that it has left.
        let before = before.filter(|_| self.doubt.take().is_none());
        self.previous_hub = before.filter(|before| *before != hub).or(self.previous_hub.take());
        self.failure = self.failure.take().filter(|failure| failure.work != FailedWork::Registration);
        self.served.reconcile_at = reconcile_at;
        self.fresh = true;
        self.unresolved.looked_up();
        self.trigger = self.trigger.filter(|trigger| *trigger != Trigger::DriftCheck);
    }

    /// DPS has said something else than was known: the Secret is written, also where a status says that it is.
    fn outdate_secret(&mut self, before: Option<&Registered>) {
        let (before, now) = (before.map(Registered::assigned_hash), self.registered.as_ref());
        if before != now.map(Registered::assigned_hash) {
            self.compare_secret();
        }
    }

    /// What else than the credential stands in the Secret may be out of date: it is compared.
    pub fn compare_secret(&mut self) {
        if let Some(written) = &mut self.secret {
            written.record = outdated();
        }
    }

    /// DPS has accepted this credential, and the Secret does not hold it yet.
    pub fn is_unwritten(&self, credential: CredentialId) -> bool {
        let accepted = self.registered.as_ref().is_some_and(|it| it.credential == Some(credential));
        let written = self.secret.as_ref().is_some_and(|written| written.record == self.record());
        self.open.is_some() || (accepted && !written)
    }

    /// Takes in that a lookup found no assignment.
    pub fn not_found(&mut self) {
        self.trigger = Some(Trigger::NotFound);
        self.doubt = None;
        self.unresolved.looked_up();
    }

    /// The known registration, if DPS may hold another in its place of which no Secret speaks: the end of one
    /// that was begun is not known, or not written.
    pub fn superseded(&self) -> Option<&Registered> {
        let unwritten = || self.secret.as_ref().is_none_or(|written| written.record != self.record());
        self.registered
            .as_ref()
            .filter(|_| self.unresolved == Unresolved::Begun || self.open.is_some() || unwritten())
    }

    fn moved_to(&mut self, hub: &str) {
        let before = self.registered.as_ref().map(|before| before.hub.as_str());
        if let Some(before) = before.filter(|before| *before != hub) {
            self.previous_hub = Some(before.to_owned());
        }
    }

    /// Takes in a failure: counts it and says until when to wait.
    pub fn fail(&mut self, failure: NewFailure, seed: u64, now: Instant) {
        if failure.work == FailedWork::Registration {
            self.open = None;
        }
        self.failure = Some(Failure::after(self.failure.take(), failure, seed, now));
    }
}

/// What no Secret records.
fn outdated() -> Hash {
    Hash::of("outdated", [&b""[..]])
}

fn recorded(registered: Option<&Registered>, served: &ServedRequests) -> Hash {
    registered.map_or_else(|| Hash::of("record", []), |registered| registered.record(served))
}
