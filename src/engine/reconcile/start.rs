//! Effects are started here, each a task of its own whose end comes back as a message.

use std::future::Future;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::AbortHandle;
use tracing::{Instrument, debug, info_span};

use super::outcome::{
    Began, Called, Checked, Done, DpsResult, Outcome, Question, SecretWritten, StatusWritten,
};
use super::outcomes::share_of;
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::version;
use crate::clock::Now;
use crate::controller::device::act::{self, SecretBefore, SecretWrite};
use crate::controller::device::decide::{Call, Verdict};
use crate::controller::device::facts::ServedRequests;
use crate::controller::device::issuance::{Ask, Wanted};
use crate::controller::device::issue::issue;
use crate::controller::device::own_credential;
use crate::controller::device::secret::settings_hash;
use crate::controller::device::settings::annotation;
use crate::controller::device::status;
use crate::controller::events;
use crate::controller::integration::target::Target;
use crate::dps::ids::RegistrationId;
use crate::engine::devices::{Freshness, Load};
use crate::engine::issuance::Issued;
use crate::engine::{Engine, Message, party};
use crate::fleet::intern::Sym;
use crate::fleet::{DeviceId, SecretSeen, SourceKey};
use crate::schedule::Share;
use crate::schedule::permits::{Lane, Permit};

impl Engine {
    /// Starts an effect of a device, whose end comes back as a message. `None` if the device is gone.
    /// It goes no further than the time in which this process may act: DPS is not called after that.
    pub(super) fn spawn(
        &self,
        id: DeviceId,
        effect: impl Future<Output = Outcome> + Send + 'static,
    ) -> Option<AbortHandle> {
        let record = self.fleet.get(id)?;
        let (uid, sender) = (record.uid, self.context.sender.clone());
        let span = info_span!(
            "effect",
            namespace = self.fleet.names.text(record.namespace),
            device = &*record.name,
            integration = self.fleet.names.text(record.integration),
        );
        let tenure = self.context.server.tenure.clone();
        let task = tokio::spawn(async move {
            let effect = tokio::select! {
                biased;
                () = tenure.over() => return,
                effect = effect.instrument(span) => effect,
            };
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::Outcome(Done { id, uid, effect })).await;
        });
        Some(task.abort_handle())
    }

    /// Starts the one effect that a device may have in flight.
    fn start(&mut self, id: DeviceId, load: Load, effect: impl Future<Output = Outcome> + Send + 'static) {
        if let Some(task) = self.spawn(id, effect) {
            self.active.started(id, task, load);
        }
    }

    /// Starts a request to the API server.
    pub(super) fn start_request(
        &mut self,
        id: DeviceId,
        effect: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let share = self.active.work(id).map_or(Share::Device, |work| work.share);
        let namespace = party(&self.fleet, id).namespace;
        self.start(id, Load::Request(share, namespace), effect);
    }

    /// Reads an object that is not kept, or whose copy is out of date.
    pub(super) fn start_device_read(&mut self, id: DeviceId) {
        let Some(record) = self.fleet.get(id) else { return };
        if !self.active.begin_read(id, Load::Request(share_of(record), record.namespace.index())) {
            return;
        }
        let (namespace, name) = (self.fleet.names.text(record.namespace).to_owned(), record.name.to_string());
        let writer = self.context.writer.clone();
        self.spawn(id, async move {
            Outcome::DeviceRead(writer.read_device(&namespace, &name).await.map(|read| read.map(Box::new)))
        });
    }

    pub(super) fn start_call(&mut self, id: DeviceId, call: Call, permit: Permit, now: Now) {
        let usable = self.usable_for_call(id, false, now);
        let (Some((usable, revision)), Some(work), Some(record)) =
            (usable, self.active.work(id), self.fleet.get(id))
        else {
            let held = self.active.release(id);
            return self.leave_line(id, held, now);
        };
        let device = work.device.clone();
        let served = ServedRequests::now(&device, usable.target.token.as_ref(), &work.facts.served);
        let open = work.facts.open.clone().filter(|_| call == Call::Poll);
        let served = match &open {
            Some(open) => open.serves(served),
            None => served,
        };
        let question = question(permit, revision, &usable.target);
        if let Some(ca) = question.ca {
            self.registry.ca_tried(record.integration, ca, (self.whose(record), record.uid), now.mono);
        }
        let generation = device.metadata.generation.unwrap_or(0);
        debug!(namespace = device.metadata.namespace, device = device.metadata.name, ?call, "calling DPS");
        let (sender, uid) = (self.context.sender.clone(), record.uid);
        let awaited = self.permits.is_awaited(&permit);
        let begun = call.registers();
        self.start(id, Load::Call, async move {
            let mut accepted = call == Call::Poll;
            let take = || {
                accepted = true;
                if awaited {
                    let effect = Outcome::CredentialAccepted(question);
                    deliver(sender, Message::Outcome(Done { id, uid, effect }));
                }
            };
            let result = match (call, open) {
                (Call::Poll, Some(open)) => {
                    act::resume(&open, &usable, served.clone()).await.map(DpsResult::from)
                }
                (Call::Register | Call::Poll, _) => {
                    act::register(&device, &usable, served.clone(), take).await.map(DpsResult::from)
                }
                (Call::Adopt, _) => {
                    let adopted = act::adopt(&device, &usable).await;
                    adopted.map(|registered| DpsResult::Registered(Box::new(registered)))
                }
                (Call::Lookup, _) => act::find(&device, &usable).await.map(DpsResult::Found),
            };
            Outcome::Called(Box::new(Called { question, generation, served, call, accepted, result }))
        });
        if let Some(work) = self.active.work_mut(id) {
            work.registers = begun;
        }
    }

    /// Looks a settled device up as soon as it has a permit. False if that cannot be done.
    pub(super) fn start_drift_check(&mut self, id: DeviceId, now: Now) -> bool {
        let Some(record) = self.fleet.get(id) else { return false };
        let suspended = self.usable_of(id).is_none_or(|usable| usable.target.suspended);
        let Some(registration_id) =
            RegistrationId::parse(record.registration_id()).ok().filter(|_| !suspended)
        else {
            return false;
        };
        // What all devices wait for is no work of a rollout.
        let asks = self.registry.asks(record.integration, now.mono);
        let lane = if asks { Lane::Changed } else { Lane::Fleet };
        let Some(permit) = self.use_permit_or_queue(id, lane, now) else { return true };
        let Some((usable, revision)) = self.usable_for_call(id, true, now) else { return true };
        let question = question(permit, revision, &usable.target);
        let check = self.spawn(id, async move {
            let result = act::lookup(&registration_id, &usable).await;
            Outcome::Checked(Box::new(Checked { question, result }))
        });
        if let Some(check) = check {
            self.active.checking(id, check);
        }
        true
    }

    /// Namespace and name of the device's Secret.
    fn secret_of(&self, id: DeviceId) -> Option<(String, String)> {
        let record = self.fleet.get(id)?;
        Some((self.fleet.names.text(record.namespace).to_owned(), record.secret_name()))
    }

    /// Looks at which version a Secret is that devices' keys are read from.
    pub(in crate::engine) fn start_source_look(&self, key: &SourceKey) {
        let (key, namespace) = (key.clone(), self.fleet.names.text(key.0).to_owned());
        let (writer, sender) = (self.context.writer.clone(), self.context.sender.clone());
        tokio::spawn(async move {
            let version = writer.secret_version(&namespace, &key.1).await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::SourceRead(key, version)).await;
        });
    }

    /// Has a device's Certificate written.
    pub(in crate::engine) fn start_issue(
        &self,
        id: DeviceId,
        wanted: Wanted,
        ask: Ask,
    ) -> Option<AbortHandle> {
        let uid = self.fleet.get(id)?.uid;
        let share = if ask == Ask::Create { Share::Device } else { Share::Fleet };
        let (writer, sender) = (self.context.writer.with_share(share), self.context.sender.clone());
        let tenure = self.context.server.tenure.clone();
        let span = info_span!("certificate", namespace = wanted.namespace, device = wanted.device);
        let effect = async move {
            let result = tokio::select! {
                biased;
                () = tenure.over() => return,
                result = issue(&writer, &wanted, ask) => result,
            };
            let issued = Issued { id, uid, wanted: wanted.shown(), result };
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::Issued(issued)).await;
        };
        Some(tokio::spawn(effect.instrument(span)).abort_handle())
    }

    /// Looks whether a namespace is being deleted; the answer wakes the devices that wait for it.
    pub(super) fn start_namespace_read(&self, namespace: Sym) {
        let name = self.fleet.names.text(namespace).to_owned();
        let may_list = self.context.config.watch_namespaces.is_empty();
        let (writer, sender) = (self.context.writer.clone(), self.context.sender.clone());
        tokio::spawn(async move {
            let ends = writer.namespace_ends(&name, may_list).await;
            // The loop is gone only when the process ends.
            let _ = sender.send(Message::NamespaceRead(namespace, ends)).await;
        });
    }

    /// Reads a device's own credentials.
    pub(super) fn start_credential_read(&mut self, id: DeviceId) {
        let Some((read_for, own)) = self.declared_credential(id) else { return };
        let (Some(work), Some(record)) = (self.active.work_mut(id), self.fleet.get(id)) else { return };
        if own.is_none() && work.device.spec.attestation.is_none() {
            // The index knows a newer object.
            work.freshness = Freshness::Stale;
            return self.start_device_read(id);
        }
        let (doubted, registration_id) = (work.doubted, work.device.registration_id().to_owned());
        let namespace = self.fleet.names.text(record.namespace).to_owned();
        let writer = self.context.writer.clone();
        self.start_request(id, async move {
            let read = own_credential::read_credential(&writer, &namespace, own.as_ref(), &registration_id);
            Outcome::CredentialRead { read_for, doubted, read: read.await }
        });
    }

    pub(super) fn start_secret_read(&mut self, id: DeviceId) {
        let Some((namespace, name)) = self.secret_of(id) else { return };
        let revision = self.usable_of(id).map_or(0, |usable| usable.target.revision);
        let writer = self.context.writer.clone();
        self.start_request(id, async move {
            let read = writer.read_secret(&namespace, &name).await.map(|secret| secret.map(Box::new));
            Outcome::SecretRead { revision, read }
        });
    }

    pub(super) fn start_secret_write(&mut self, id: DeviceId) {
        let Some(target) = self.usable_of(id).map(|usable| usable.target.clone()) else { return };
        let seen = self.fleet.secret(id);
        let Some((namespace, name)) = self.secret_of(id) else { return };
        let alone = self.fleet.has_its_secret_alone(id);
        let Some(work) = self.active.work_mut(id) else { return };
        let writer = self.context.writer.with_share(work.share);
        let Some(registered) = work.facts.registered.clone() else { return };
        let (device, served) = (work.device.clone(), work.facts.served.clone());
        let found = work.found.take();
        let restored = work
            .facts
            .secret
            .as_ref()
            .is_some_and(|written| written.name == name && seen != SecretSeen::Version(written.version));
        let failed_before = work.facts.secret_failed();
        let former = work.facts.secret.as_ref().map(|written| written.name.clone());
        let named_by_none = |name: &String| self.fleet.devices_of_secret(&namespace, name).next().is_none();
        let former_alone = former.as_ref().is_some_and(named_by_none);
        let same_settings = work.same_settings.take() == Some(settings_hash(&device, &target.inherited));
        let before = match (found, seen) {
            (Some(found), _) => SecretBefore::Read(Box::new(found)),
            // What this device wrote another one may have written since that names the same Secret.
            (None, SecretSeen::Version(version)) if same_settings && !restored && alone => {
                SecretBefore::AsWritten(version)
            }
            (None, SecretSeen::Version(_)) => SecretBefore::There,
            // One that was in the way is looked at before anything is sent.
            (None, SecretSeen::No) if failed_before => SecretBefore::There,
            (None, SecretSeen::No) => SecretBefore::Absent,
        };
        let generation = device.metadata.generation.unwrap_or(0);
        let asked = |key| annotation(&device, key).map(str::to_owned);
        let (token, reconcile_at) = (asked(REPROVISION_REQUESTED_AT), asked(RECONCILE_REQUESTED_AT));
        let began = Began { generation, revision: target.revision, token, reconcile_at };
        self.start_request(id, async move {
            let write =
                SecretWrite { device, registered, served, target, before, former, alone, former_alone };
            let result = act::write_secret(&writer, write).await;
            Outcome::SecretWritten(Box::new(SecretWritten { began, restored, result }))
        });
        self.spend_without_call(id);
    }

    /// Writes the status if it differs; true if something was started for it.
    pub(super) fn start_status_write(&mut self, id: DeviceId, verdict: &Verdict, now: Now) -> bool {
        let Some(work) = self.active.work_mut(id) else { return false };
        if work.freshness == Freshness::Revived {
            self.start_device_read(id);
            return true;
        }
        let before = work.device.status.as_ref();
        let status = status::render(&work.device, &work.facts, verdict, now.wall);
        if status::is_equal(before, &status, work.facts.failure.as_ref()) {
            self.status_agreed(id);
            return false;
        }
        let is_news = status::is_news(before, &status);
        let mut notes = events::of_device(before, &status);
        if self.waits_to_write_status(id, now) {
            return true;
        }
        notes.extend(self.spend_status_write(id, now));
        let Some(work) = self.active.work_mut(id) else { return false };
        work.tried = Some(version::of(&work.device.metadata));
        let (device, writer) = (work.device.clone(), self.context.writer.with_share(work.share));
        self.start_request(id, async move {
            let result = writer.replace_status(&*device, &status).await;
            Outcome::StatusWritten(Box::new(StatusWritten { status, is_news, notes, result }))
        });
        true
    }
}

/// Others wait for this message: it is not dropped for want of room.
fn deliver(sender: Sender<Message>, message: Message) {
    if let Err(TrySendError::Full(message)) = sender.try_send(message) {
        tokio::spawn(async move {
            // The loop is gone only when the process ends.
            let _ = sender.send(message).await;
        });
    }
}

/// `revision`: of the integration's target.
fn question(permit: Permit, revision: u64, target: &Target) -> Question {
    let ca = target.credentials.certificate().and_then(|certificate| certificate.ca);
    Question { permit, revision, target: target.revision, issuer: target.credentials.in_use(), ca }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::engine::observe::sync::WatchId;
    use crate::kube_io::watch::Observed;

    #[tokio::test]
    async fn a_message_that_others_wait_for_is_delivered_once_there_is_room() {
        let (sender, mut messages) = channel(1);
        let message = || Message::Device(WatchId(0), Observed::Listed);
        for _ in 0..3 {
            deliver(sender.clone(), message());
        }
        drop(sender);
        let mut delivered = 0;
        while messages.recv().await.is_some() {
            delivered += 1;
        }
        assert_eq!(delivered, 3);
    }
}
