//! Results of effects are taken in as facts; then the device is reconciled once more.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use tracing::{info, warn};

use super::outcome::{Done, Outcome, SecretWritten, StatusWritten};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::api::retry::{self, RetryClass};
use crate::api::version;
use crate::clock::Now;
use crate::controller::device::act::{SecretDone, SecretTrouble};
use crate::controller::device::facts::{FailedWork, NewFailure, ServedRequests, Trigger, Unresolved};
use crate::controller::device::own_credential::OwnRead;
use crate::controller::device::secret::read_back;
use crate::controller::events::{EventNote, EventReason};
use crate::engine::Engine;
use crate::engine::devices::{Freshness, OwnCredentials, ReadFor};
use crate::engine::integrations::is_of_namespace;
use crate::engine::publish::EventWindow;
use crate::fleet::record::Record;
use crate::fleet::registration::Registration;
use crate::fleet::uid::Uid;
use crate::fleet::{DeviceChange, DeviceId};
use crate::kube_io::error::ApiError;
use crate::kube_io::events::reference;
use crate::schedule::Share;

/// A watch that does not bring the object we conflicted with is not waited for any longer.
const STALE_WAIT: Duration = Duration::from_secs(10);

impl Engine {
    pub(in crate::engine) fn effect_done(&mut self, done: Done, now: Now) {
        let Done { id, uid, effect } = done;
        if matches!(effect, Outcome::DeviceRead(_)) {
            self.active.read_ended(id);
        }
        if self.fleet.get(id).is_none_or(|record| record.uid != uid) {
            // The device is gone; permits were returned when its work was dropped. The device that has
            // its place now may have waited for this read to end.
            self.ready.go_on(id);
            return;
        }
        self.take_in(id, effect, now);
        self.return_unused(id);
        self.active.tidy(id);
    }

    fn take_in(&mut self, id: DeviceId, effect: Outcome, now: Now) {
        if effect.ends_task() {
            self.active.ended(id);
        }
        match effect {
            Outcome::DeviceRead(read) => self.device_read(id, read, now),
            Outcome::CredentialAccepted(question) => self.credential_accepted(id, question, now),
            Outcome::Called(called) => self.called(id, *called, now),
            Outcome::Checked(checked) => self.drift_checked(id, *checked, now),
            Outcome::CredentialRead { read_for, doubted, read } => {
                self.credential_read(id, (read_for, doubted), read, now);
            }
            Outcome::SecretRead { revision, read } => self.secret_read(id, revision, read, now),
            Outcome::SecretWritten(written) => self.secret_written(id, *written, now),
            Outcome::StatusWritten(written) => self.status_written(id, *written, now),
        }
    }

    fn device_read(
        &mut self,
        id: DeviceId,
        read: Result<Option<Box<ProvisionedDevice>>, ApiError>,
        now: Now,
    ) {
        let device = match read {
            Ok(Some(device)) => *device,
            // The watch shows its end.
            Ok(None) => return,
            Err(error) => return self.unanswered(id, &error, now),
        };
        if self.fleet.get(id).map(|record| record.uid) != Some(Uid::of(&device)) {
            // Another object of the same name: the watch brings it, with everything around it.
            return;
        }
        let known = self.fleet.get(id).map_or(0, |record| record.resource_version);
        if known < version::of(&device.metadata) {
            // All follows from it that follows from a change: the watch will show it as one that is known.
            self.device_changed(device.clone(), None, now);
        }
        let outdated =
            self.fleet.upsert(&device, None).1 == DeviceChange::Known && self.active.work(id).is_some();
        let share = self.fleet.get(id).map_or(Share::Device, share_of);
        self.active.read(id, device, outdated, share, now);
        self.active.absorb_due(id);
        self.reconcile(id, now);
    }

    fn credential_read(
        &mut self,
        id: DeviceId,
        (read_for, doubted): (ReadFor, u32),
        read: Result<OwnRead, ApiError>,
        now: Now,
    ) {
        let OwnRead { credentials, version, labelled } = match read {
            Ok(read) => read,
            Err(_) if self.active.work(id).is_none() => return,
            Err(error) => return self.unanswered(id, &error, now),
        };
        self.active.reset_unanswered(id);
        let credentials = credentials.map_err(|why| self.with_progress(id, why));
        let (declared, has_moved) = (self.declared_credential(id), self.fleet.is_source_outdated(id));
        let Some(work) = self.active.work_mut(id) else { return };
        if declared.is_none_or(|(now, _)| now != read_for) || doubted != work.doubted {
            // Something else is named by now, or the Secret was seen to change meanwhile: it is read again.
            return self.ready.go_on(id);
        }
        let registered = work.facts.registered.as_ref().and_then(|registered| registered.credential);
        let kept = work.facts.registered.as_ref().and_then(|registered| registered.certificate);
        let found = credentials.as_ref().ok().and_then(|own| own.certificate()?.ca);
        let next_ca = found.filter(|ca| kept.is_some_and(|kept| kept.ca != Some(*ca)));
        let news = match &credentials {
            Ok(own) => {
                let is_new = registered != Some(own.in_use());
                work.facts.credential_read(own);
                if !is_new && has_moved && own.certificate().is_some() {
                    // The CAs above it may be others.
                    work.facts.compare_secret();
                    work.unreported = true;
                }
                is_new
            }
            // The copy in the device's own Secret serves on. That it is missing matters once it is needed.
            Err(why) => {
                let missed = matches!(why.reason, Reason::KeySecretNotFound | Reason::CertificateNotFound);
                if missed && work.facts.trigger == Some(Trigger::DriftCheck) {
                    (work.facts.trigger, work.unreported) = (None, false);
                }
                !missed
            }
        };
        let follows = news && credentials.is_ok();
        work.unreported |= news;
        work.own = Some(Box::new(OwnCredentials::new(read_for, credentials)));
        let others = self.fleet.source_read(id, version, labelled);
        if !follows {
            self.fleet.source_judged(id, version);
        } else {
            self.fleet.source_is_unregistered(id, next_ca.map(|ca| ca.to_string()).as_deref());
            self.registry.recount(now.mono);
        }
        self.ready.go_on(id);
        self.sources_moved(others);
    }

    fn secret_read(
        &mut self,
        id: DeviceId,
        revision: u64,
        read: Result<Option<Box<Secret>>, ApiError>,
        now: Now,
    ) {
        let secret = match read {
            Ok(secret) => secret,
            Err(_) if self.active.work(id).is_none() => return,
            Err(error) => return self.unanswered(id, &error, now),
        };
        let target = self.usable_of(id).map(|usable| usable.target.clone());
        let Some(work) = self.active.work_mut(id) else { return };
        let Some(target) = target.filter(|target| target.revision == revision) else {
            // It was read for another target.
            return self.ready.go_on(id);
        };
        work.secret_read = true;
        match secret {
            Some(secret) => {
                self.fleet.secret_met(id, version::of(&secret.metadata));
                let recorded = read_back(&secret, &work.device, &target);
                let displaced = recorded.as_ref().is_some_and(|recorded| {
                    self.former.displaces(&work.device, &secret, &recorded.registered)
                });
                let sealed = recorded.as_ref().is_some_and(|recorded| recorded.sealed);
                let asked = ServedRequests::now(&work.device, None, &work.facts.served);
                work.facts.recall(recorded, asked.reconcile_at);
                if target.credentials.source().is_some() {
                    work.facts.credential_read(&target.credentials);
                }
                if displaced {
                    work.facts.unresolved = work.facts.unresolved.max(Unresolved::Displaced);
                }
                let known = work.facts.registered.as_ref().filter(|known| known.scope == target.scope());
                let used = known.and_then(|known| known.credential);
                if !sealed && used.is_some_and(|used| target.credentials.has(used)) {
                    work.facts.secret_is_altered();
                }
                let facts = std::mem::take(&mut work.facts);
                work.facts = facts.without_foreign_hub(&self.context.config.allowed_hub_suffixes);
                work.found = Some(*secret);
                let told = match &work.facts.registered {
                    None => Some(Registration::None),
                    // Everybody who has the device's own key could have sealed it.
                    Some(_) if sealed && target.credentials.source().is_some() => None,
                    Some(_) if sealed => Some(Registration::Known),
                    Some(_) => Some(Registration::Said),
                };
                if let Some(told) = told {
                    self.secret_has_told(id, told);
                }
            }
            None => self.fleet.secret_forgotten(id),
        }
        self.ready.go_on(id);
    }

    fn secret_written(&mut self, id: DeviceId, written: SecretWritten, now: Now) {
        let SecretWritten { began, restored, result } = written;
        if restored && let Ok(done) = &result {
            // Also where nothing of ours was changed: others may touch it again and again.
            self.active.restored(id, now.mono);
            if done.changed {
                let note = "Its Secret had been deleted or edited and was written again.";
                self.emit(id, vec![EventNote::new(EventReason::SecretRestored, note)], now);
            }
        }
        let (reason, message) = match result {
            Ok(SecretDone { secret: written, changed: _ }) => {
                self.active.reset_unanswered(id);
                let Some(work) = self.active.work_mut(id) else { return };
                // Its end may have been seen before our own answer came.
                if work.secret_gone_at < written.version {
                    self.fleet.secret_met(id, written.version);
                }
                work.facts.secret = Some(written);
                work.facts.failure =
                    work.facts.failure.take().filter(|failure| failure.work != FailedWork::Secret);
                return self.ready.go_on(id);
            }
            // Nothing is restored in a namespace that is going away; its end comes by the watch.
            Err(SecretTrouble::Terminating) => return self.namespace_ends(id),
            Err(_) if self.active.work(id).is_none() => return,
            Err(SecretTrouble::Unavailable) => return self.unanswered(id, &ApiError::Unavailable, now),
            Err(SecretTrouble::Foreign(why)) => (Reason::SecretConflict, why),
            Err(SecretTrouble::Refused(why)) => (Reason::SecretWriteFailed, why),
        };
        let (Some(record), Some(work)) = (self.fleet.get(id), self.active.work_mut(id)) else { return };
        let failure = NewFailure {
            work: FailedWork::Secret,
            reason,
            message,
            error: None,
            at_least: None,
            generation: began.generation,
            revision: began.revision,
            token: began.token,
            reconcile_at: began.reconcile_at,
        };
        work.facts.fail(failure, record.uid.seed(), now.mono);
        self.ready.go_on(id);
    }

    fn status_written(&mut self, id: DeviceId, written: StatusWritten, now: Now) {
        let StatusWritten { status, is_news, notes, result } = written;
        match result {
            Ok(written) => {
                self.emit(id, notes, now);
                self.active.reset_unanswered(id);
                let Some(work) = self.active.work_mut(id) else { return };
                work.unreported = false;
                let mut device = (*work.device).clone();
                device.metadata.resource_version = Some(written.version.to_string());
                if is_news {
                    log(&device, &status);
                }
                device.status = Some(status);
                let newer =
                    self.fleet.get(id).is_some_and(|record| record.resource_version > written.version);
                if !newer {
                    self.fleet.upsert(&device, None);
                    work.device = Arc::new(device);
                    self.registry.recount(now.mono);
                }
                // Otherwise the watch was faster and knows more.
                self.fleet.status_written(id, written.version, written.status);
                self.ready.go_on(id);
            }
            Err(ApiError::Conflict) if self.has_newer(id) => self.ready.go_on(id),
            // Changed by another writer, or gone: the watch shows it.
            Err(ApiError::Conflict | ApiError::NotFound) => {
                if let Some(work) = self.active.work_mut(id) {
                    work.freshness = Freshness::Stale;
                    self.ready.sleep_until(id, now.mono + STALE_WAIT);
                }
            }
            Err(error) => self.unanswered(id, &error, now),
        }
    }

    fn namespace_ends(&mut self, id: DeviceId) {
        if let Some(record) = self.fleet.get(id) {
            self.endings.ends(record.namespace);
            self.ready.go_on(id);
        }
    }

    fn emit(&mut self, id: DeviceId, notes: Vec<EventNote>, now: Now) {
        if notes.is_empty() {
            return;
        }
        let (Some(record), Some(work)) = (self.fleet.get(id), self.active.work(id)) else { return };
        let regarding = reference(&*work.device);
        let (integration, namespace, names) = (record.integration, record.namespace, &self.fleet.names);
        let admitted = self.registry.admits(record, names);
        let window = if !admitted {
            EventWindow::Strays(namespace)
        } else if is_of_namespace(integration, namespace, names) {
            EventWindow::Own(integration)
        } else {
            EventWindow::Foreign(integration, namespace)
        };
        let owner = self.registry.object(integration).filter(|_| admitted).map(|object| reference(&**object));
        for event in notes {
            self.publisher.emit(window, &regarding, owner.as_ref(), event, now);
        }
    }

    /// The watch brought a newer object while a write was under way.
    fn has_newer(&self, id: DeviceId) -> bool {
        let work = self.active.work(id);
        work.map(|work| version::of(&work.device.metadata)) > work.and_then(|work| work.tried)
    }

    /// The API server did not do what it was asked; nothing is reported to the user, since the next
    /// answer may be minutes away and the status could not be written anyway.
    fn unanswered(&mut self, id: DeviceId, error: &ApiError, now: Now) {
        let Some(record) = self.fleet.get(id) else { return };
        let attempts = self.active.unanswered(id);
        // Not at each try: the waits between them grow, and so do those between the lines.
        if let Some(next_step) = error.next_step().filter(|_| attempts.is_power_of_two()) {
            let namespace = self.fleet.names.text(record.namespace);
            warn!(namespace, device = &*record.name, %error, next_step, "the API server refused a request for a device; it is tried again within ten minutes");
        }
        let seed = record.uid.seed();
        let wait = retry::wait(RetryClass::Transient, attempts, seed);
        let asked = self.context.server.answers.retry_after().filter(|_| *error == ApiError::Unavailable);
        // Not all at the end of that.
        let asked = asked.map(|asked| asked + retry::wait(RetryClass::Transient, 1, seed));
        self.ready.sleep_until(id, now.mono + asked.map_or(wait, |asked| asked.max(wait)));
    }

    /// The API server answers again: nothing need be waited for any longer, however long it was away.
    pub(in crate::engine) fn outage_ended(&mut self, now: Now) {
        self.active.all_unanswered().for_each(|id| self.ready.wake_later(id));
        self.registry.outage_ended(now.mono);
    }
}

/// What a device needs that was settled and that no user has changed, others need too.
pub(super) fn share_of(record: &Record) -> Share {
    let settled = record.settled.is_some() && !record.asks && record.secret_seen > 0;
    if settled { Share::Fleet } else { Share::Device }
}

/// Trouble with its message, which has no secrets and says what to do.
fn log(device: &ProvisionedDevice, status: &ProvisionedDeviceStatus) {
    let (namespace, name, hub) = (&device.metadata.namespace, &device.metadata.name, &status.assigned_hub);
    let Some(ready) = conditions::find(&status.conditions, ConditionType::Ready) else { return };
    let reason = ready.reason.as_str();
    if Reason::parse(reason).is_some_and(|reason| reason.is_stalled() || reason.is_reconciling()) {
        let error = status.last_error.as_ref().and_then(|error| error.tracking_id.as_deref());
        let why = &ready.message;
        warn!(namespace, device = name, reason, hub, why, tracking_id = error, "a device is in trouble");
    } else {
        info!(namespace, device = name, reason, hub, "the state of a device has changed");
    }
}
