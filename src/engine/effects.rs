//! What side effects brought is taken in as facts; then the device is looked at again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use tracing::{debug, info, warn};

use super::Engine;
use super::work::{Answered, Effect, Work};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::api::version;
use crate::clock;
use crate::controller::device::act::SecretTrouble;
use crate::controller::device::decide::Call;
use crate::controller::device::facts::{Asked, FailedWork, Handled, NewFailure, WrittenSecret};
use crate::controller::device::failure;
use crate::controller::device::secret::{read_back, settings_of_same_rendering};
use crate::controller::events::Told;
use crate::dps::error::DpsError;
use crate::fleet::record::Record;
use crate::fleet::uid::Uid;
use crate::fleet::{Change, DeviceId};
use crate::kube_io::error::ApiError;
use crate::kube_io::events::reference;
use crate::schedule::permits::Permit;
use crate::schedule::retry::{self, RetryClass};

impl Engine {
    pub(super) fn effect(&mut self, id: DeviceId, uid: Uid, effect: Effect) {
        if matches!(effect, Effect::DeviceRead(_)) {
            self.reading.remove(&id);
            self.read_next();
        }
        if self.fleet.get(id).is_none_or(|record| record.uid != uid) {
            // The device is gone; permits were returned when its work was dropped. Whoever has its
            // place now may have waited for this read to end.
            self.runner.wake(id);
            return;
        }
        self.take_in(id, effect);
        self.return_unused(id);
    }

    fn take_in(&mut self, id: DeviceId, effect: Effect) {
        if effect.ends_task()
            && let Some(work) = self.work.get_mut(&id)
        {
            self.tasks -= usize::from(work.task.take().is_some());
        }
        match effect {
            Effect::DeviceRead(read) => self.device_read(id, read),
            Effect::KeyAccepted { permit, epoch } => self.key_accepted(id, permit, epoch),
            Effect::Called { permit, epoch, generation, handled, call, result } => {
                self.called(id, (permit, call), (epoch, generation, handled), result);
            }
            Effect::Checked { permit, epoch, result } => self.checked(id, permit, epoch, result),
            Effect::SecretRead { epoch, read } => self.secret_was_read(id, epoch, read),
            Effect::SecretWritten { generation, epoch, restored, result } => {
                if restored && result.is_ok() {
                    self.fights.entry(id).or_default().restored(clock::now().mono);
                    let note = "Its Secret had been deleted or edited and was written again.";
                    self.tell_of(id, vec![Told::normal("SecretRestored", note)]);
                }
                self.secret_written(id, (epoch, generation), result);
            }
            Effect::StatusWritten { status, news, told, result } => {
                self.status_written(id, *status, (news, told), result);
            }
        }
    }

    fn device_read(&mut self, id: DeviceId, read: Result<Option<Box<ProvisionedDevice>>, ApiError>) {
        match read {
            Ok(Some(device)) => {
                let known = self.fleet.get(id).map(|record| record.uid);
                if known != Some(Uid::of(&device)) {
                    // Another object of the same name: the watch brings it, with everything around it.
                    return;
                }
                self.unread.remove(&id);
                let (_, change) = self.fleet.upsert(&device, None);
                match self.work.get_mut(&id) {
                    Some(work) if work.revived => work.wake_up(*device, &self.config.allowed_hub_suffixes),
                    Some(work) => {
                        // The watch may have brought a newer one meanwhile.
                        if change != Change::Known {
                            work.device = Arc::new(*device);
                        }
                        work.stale = false;
                    }
                    None => {
                        let mut work = Work::new(*device, &self.config.allowed_hub_suffixes);
                        // Nobody has changed a device that was settled: what it needs, others need too.
                        let settled = |record: &Record| {
                            record.settled.is_some() && !record.asks && record.secret_seen > 0
                        };
                        work.for_fleet = self.fleet.get(id).is_some_and(settled);
                        self.work.insert(id, Box::new(work));
                    }
                }
                self.take_in_check(id);
                self.step(id);
            }
            // The watch tells of its end.
            Ok(None) => {}
            Err(error) => self.unanswered(id, &error),
        }
    }

    fn called(
        &mut self,
        id: DeviceId,
        (permit, call): (Permit, Call),
        (epoch, generation, handled): (u64, i64, Handled),
        result: Result<Box<Answered>, DpsError>,
    ) {
        let now = clock::now();
        if self.take_permit(id, permit) {
            self.dps_answered(id, permit, epoch, result.as_ref().err());
        }
        let ready = self.ready_of(id).filter(|ready| ready.epoch == epoch);
        let Some(record) = self.fleet.get_mut(id) else { return };
        let Some(work) = self.work.get_mut(&id) else { return };
        match result {
            Ok(answered) => match *answered {
                Answered::Registered(registered) => {
                    let inherited = ready.as_ref().map(|ready| &*ready.inherited);
                    work.same_settings = inherited.and_then(|inherited| {
                        settings_of_same_rendering(&work.device, &work.facts, &registered, inherited)
                    });
                    (record.registered, work.revived) = (true, false);
                    work.facts.register(registered, handled);
                }
                Answered::Found(assignment) => work.facts.look_up(assignment, handled.reconcile_at),
            },
            Err(DpsError::NotFound(_)) if call == Call::Lookup => {
                work.facts.asked = Some(Asked::NotFound);
                work.facts.handled.reconcile_at = handled.reconcile_at;
            }
            Err(error) => {
                let failure = NewFailure {
                    work: FailedWork::Registration,
                    reason: failure::reason(&error),
                    message: failure::message(&error),
                    error: Some(failure::last_error(&error, now.wall)),
                    at_least: error.retry_after(),
                    generation,
                    epoch,
                    token: handled.token,
                };
                self.telemetry.metrics.operation_failed(failure.reason.as_str());
                debug!(device = &*record.name, reason = failure.reason.as_str(), "not registered");
                work.facts.fail(failure, record.uid.seed(), now.wall);
            }
        }
        self.runner.wake(id);
    }

    fn secret_was_read(&mut self, id: DeviceId, epoch: u64, read: Result<Option<Box<Secret>>, ApiError>) {
        let ready = self.ready_of(id);
        let (Some(record), Some(work)) = (self.fleet.get_mut(id), self.work.get_mut(&id)) else { return };
        let secret = match read {
            Ok(secret) => secret,
            Err(error) => return self.unanswered(id, &error),
        };
        let Some(ready) = ready.filter(|ready| ready.epoch == epoch) else {
            // It was read with another integration in mind.
            return self.runner.wake(id);
        };
        work.secret_read = true;
        match secret {
            Some(secret) => {
                let seen = version::of(&secret.metadata);
                record.secret_seen = record.secret_seen.max(seen);
                let told = read_back(&secret, &work.device, &ready);
                let handled = Handled::now(&work.device, ready.token.as_ref(), &work.facts.handled);
                work.facts.recall(told, handled);
                work.facts =
                    std::mem::take(&mut work.facts).without_foreign_hub(&self.config.allowed_hub_suffixes);
                record.registered = work.facts.registered.is_some();
                work.found = Some(*secret);
            }
            None => record.secret_seen = 0,
        }
        self.runner.wake(id);
    }

    fn secret_written(
        &mut self,
        id: DeviceId,
        (epoch, generation): (u64, i64),
        result: Result<WrittenSecret, SecretTrouble>,
    ) {
        let (Some(record), Some(work)) = (self.fleet.get_mut(id), self.work.get_mut(&id)) else { return };
        let (reason, message) = match result {
            Ok(written) => {
                // Its end may have been seen before our own answer came.
                if work.secret_gone_at < written.version {
                    record.secret_seen = record.secret_seen.max(written.version);
                }
                work.facts.secret = Some(written);
                work.facts.failure =
                    work.facts.failure.take().filter(|failure| failure.work != FailedWork::Secret);
                work.unanswered = 0;
                return self.runner.wake(id);
            }
            // Nothing is restored in a namespace that is going away; its end comes by the watch.
            Err(SecretTrouble::Terminating) => return,
            Err(SecretTrouble::Unavailable) => return self.unanswered(id, &ApiError::Unavailable),
            Err(SecretTrouble::Foreign(why)) => (Reason::SecretConflict, why.to_owned()),
            Err(SecretTrouble::Refused(why)) => (Reason::SecretWriteFailed, why),
        };
        let failure = NewFailure {
            work: FailedWork::Secret,
            reason,
            message,
            error: None,
            at_least: None,
            generation,
            epoch,
            token: work.facts.handled.token.clone(),
        };
        work.facts.fail(failure, record.uid.seed(), clock::now().wall);
        self.runner.wake(id);
    }

    fn status_written(
        &mut self,
        id: DeviceId,
        status: ProvisionedDeviceStatus,
        (news, told): (bool, Vec<Told>),
        result: Result<u64, ApiError>,
    ) {
        match result {
            Ok(written) => {
                self.tell_of(id, told);
                let Some(work) = self.work.get_mut(&id) else { return };
                (work.unanswered, work.news) = (0, false);
                let mut device = (*work.device).clone();
                device.metadata.resource_version = Some(written.to_string());
                if news {
                    log(&device, &status);
                }
                device.status = Some(status);
                let newer = self.fleet.get(id).is_some_and(|record| record.resource_version > written);
                if newer {
                    // The watch was faster and knows more.
                    return self.runner.wake(id);
                }
                self.fleet.upsert(&device, None);
                work.device = Arc::new(device);
                self.counters.touch();
                self.runner.wake(id);
            }
            Err(ApiError::Conflict) if self.already_newer(id) => self.runner.wake(id),
            // Changed by somebody else, or gone: the watch tells.
            Err(ApiError::Conflict | ApiError::NotFound) => self.wait_for_watch(id),
            Err(error) => self.unanswered(id, &error),
        }
    }

    fn tell_of(&mut self, id: DeviceId, told: Vec<Told>) {
        let (Some(record), Some(work)) = (self.fleet.get(id), self.work.get(&id)) else { return };
        let (integration, regarding) = (record.integration, reference(&*work.device));
        told.into_iter().for_each(|told| self.tell(integration, &regarding, told));
    }

    /// The watch brought a newer object while a write was under way.
    fn already_newer(&self, id: DeviceId) -> bool {
        let held = self.work.get(&id).map(|work| version::of(&work.device.metadata));
        let tried = self.work.get(&id).and_then(|work| work.tried);
        held > tried
    }

    /// The API server did not do what it was asked; nothing is told to the user, since the next
    /// answer may be minutes away and the status could not be written anyway.
    fn unanswered(&mut self, id: DeviceId, error: &ApiError) {
        let Some(record) = self.fleet.get(id) else { return };
        let attempts = match self.work.get_mut(&id) {
            Some(work) => &mut work.unanswered,
            None => self.unread.entry(id).or_default(),
        };
        *attempts += 1;
        let attempts = *attempts;
        if *error != ApiError::Unavailable && attempts == 1 {
            warn!(device = &*record.name, %error, "the API server refused a request; is the operator's RBAC complete?");
        }
        let wait: Duration = retry::wait(RetryClass::Transient, attempts, record.uid.seed());
        self.runner.sleep_until(id, clock::now().mono + wait);
    }
}

/// Trouble with its message, which has no secrets and says what to do.
fn log(device: &ProvisionedDevice, status: &ProvisionedDeviceStatus) {
    let (namespace, name, hub) = (&device.metadata.namespace, &device.metadata.name, &status.assigned_hub);
    let Some(ready) = conditions::find(&status.conditions, ConditionType::Ready) else { return };
    let reason = ready.reason.as_str();
    if Reason::parse(reason).is_some_and(|reason| reason.is_stalled() || reason.is_reconciling()) {
        let error = status.last_error.as_ref().and_then(|error| error.tracking_id.as_deref());
        warn!(namespace, device = name, reason, hub, why = ready.message, tracking_id = error, "device");
    } else {
        info!(namespace, device = name, reason, hub, "device");
    }
}
