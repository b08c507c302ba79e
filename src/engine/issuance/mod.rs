//! Certificates of devices that cert-manager is asked for (`controller::device::issuance`). A room of its own beside
//! what is decided about a device: the Secret that comes of it is followed as any other with a certificate.

mod book;

use std::time::Duration;

use kube::ResourceExt;
use tracing::warn;

pub(super) use self::book::Book;
use self::book::{Failed, Then};
use super::endings::Standing;
use super::observe::sync::WatchId;
use super::{Engine, party};
use crate::api::cert_manager::{Certificate, IssuerRef};
use crate::api::conditions::Reason;
use crate::api::retry::{self, RetryClass};
use crate::clock::Now;
use crate::controller::device::decide::IdStanding;
use crate::controller::device::issuance::{self, Ask, Progress, Shown, Trouble, Wanted};
use crate::controller::device::issue::IssueError;
use crate::controller::integration::unusable::Unusable;
use crate::fleet::intern::Sym;
use crate::fleet::record::Record;
use crate::fleet::uid::Uid;
use crate::fleet::{DeviceId, SourceKey};
use crate::kube_io::watch::Observed;

/// What waits while a rollout is paused is looked at again so often.
const WHILE_PAUSED: Duration = Duration::from_secs(30);

/// A Certificate that was written, or was to be.
pub(super) struct Issued {
    pub id: DeviceId,
    pub uid: Uid,
    pub wanted: Shown,
    pub result: Result<(), IssueError>,
}

impl Engine {
    /// The Certificate that a device is to have, and where its certificate is read. One that could not be registered
    /// gets none: all who may make a device would get what its id stands for.
    fn wanted_certificate(&self, id: DeviceId) -> Option<(Wanted, SourceKey)> {
        self.certificate_in_question(id).filter(|_| !self.is_of_another(id))
    }

    fn certificate_in_question(&self, id: DeviceId) -> Option<(Wanted, SourceKey)> {
        let record = self.fleet.get(id)?;
        let target = self.registry.target(record.integration)?;
        let cert_manager = target.cert_manager.as_ref()?;
        let names = &self.fleet.names;
        let (namespace, registration_id) = (names.text(record.namespace), record.registration_id());
        let may = !record.deleting
            && !record.suspended
            && !target.suspended
            && self.endings.standing(record.namespace) != Standing::Ends
            && self.registry.serves(record.integration, record.namespace, names)
            && target.allows_id(registration_id, namespace)
            && self.standing(id) == IdStanding::Free;
        let key = self.fleet.certificate_source(id).filter(|_| may)?;
        if !self.fleet.is_named_by_template(id, &key) {
            return None;
        }
        let spec = Wanted::spec(cert_manager, &key.1, registration_id)?;
        let wanted = Wanted {
            namespace: namespace.to_owned(),
            name: key.1.to_string(),
            device: record.name.to_string(),
            uid: record.uid,
            integration: names.text(record.integration).to_owned(),
            spec,
        };
        Some((wanted, key))
    }

    /// Another device has the registration id, registered or for longer, and may be known by a certificate of the same
    /// issuer. In which id scope does not matter: a common name knows none.
    fn is_of_another(&self, id: DeviceId) -> bool {
        let Some(record) = self.fleet.get(id) else { return true };
        let own = self.issuer_of(record);
        let is_before = |other: &Record| rank(other) < rank(record) && !other.deleting;
        let may_be_same = |other: &Record| self.issuer_of(other).is_none_or(|issuer| Some(issuer) == own);
        self.fleet.rivals(id).any(|(_, other)| is_before(other) && may_be_same(other))
    }

    /// What issues a device's certificates, and where it is looked for.
    fn issuer_of(&self, record: &Record) -> Option<(&IssuerRef, Option<Sym>)> {
        let issuer = &self.registry.target(record.integration)?.cert_manager.as_ref()?.issuer_ref;
        let namespaced = issuer.kind == "Issuer" && issuer.group == "cert-manager.io";
        Some((issuer, namespaced.then_some(record.namespace)))
    }

    /// A device goes: the next one that has its registration id may have a certificate.
    pub(super) fn wake_heir_of_certificate(&mut self, id: DeviceId) {
        if !self.issuance.needed {
            return;
        }
        let heir = self.fleet.rivals(id).min_by_key(|(_, other)| rank(other)).map(|(other, _)| other);
        heir.into_iter().for_each(|heir| self.ready.wake_later(heir));
    }

    /// Sees to it that the device's Certificate is there and is as it should be, if it is to have one.
    pub(super) fn see_to_certificate(&mut self, id: DeviceId, now: Now) {
        let Some((wanted, key)) = self.wanted_certificate(id) else {
            return self.issuance.forget(id);
        };
        self.issuance.needed = true;
        if self.issuance.failed(id).is_some_and(|failed| failed.wanted != wanted.shown()) {
            self.issuance.forget(id);
        }
        self.issuance.end_wait(id);
        if self.issuance.is_busy(id) {
            return;
        }
        // What is there has to be known first. Everybody is woken then.
        if !self.issuance.is_read(self.context.config.namespaces().len()) {
            return;
        }
        let ask = wanted.ask(self.issuance.shown(&key));
        if ask == Ask::Nothing {
            return self.has_certificate(id);
        }
        let failed = self.issuance.failed(id);
        let Some(record) = self.fleet.get(id) else { return };
        let written = self.issuance.may_write_at(id, wanted.shown(), record.uid.seed());
        let again = failed.map(|failed| failed.again).into_iter().chain(written).max();
        if let Some(again) = again.filter(|again| *again > now.mono) {
            return self.issuance.sleep(id, again, Then::LookAgain);
        }
        let integration = record.integration;
        let limits = self.registry.limits(integration);
        match limits.rollout {
            // What others have changed about one is no work of a rollout.
            _ if ask == Ask::Create || written.is_some() => self.issuance.join(party(&self.fleet, id), id),
            Some(per_minute) => {
                let at = self.issuance.place_in_rollout(integration, per_minute, now.mono);
                self.issuance.sleep(id, at, Then::Write(integration));
            }
            None => self.issuance.join(party(&self.fleet, id), id),
        }
    }

    fn has_certificate(&mut self, id: DeviceId) {
        if self.issuance.forget_failure(id) {
            self.sources_moved(vec![id]);
        }
    }

    /// Begins the watch once it is needed, and writes those whose turn it is.
    pub(super) fn issue_certificates(&mut self, now: Now) {
        if self.issuance.needed && !self.issuance.watched {
            self.issuance.watched = true;
            self.watches.start_certificates(&self.context);
        }
        let fleet = &self.fleet;
        while let Some(id) = self.issuance.woken(now.mono, |id| party(fleet, id)) {
            self.ready.wake_later(id);
        }
        while let Some(id) = self.issuance.next() {
            // It may have been changed meanwhile, or be held.
            let Some((wanted, key)) = self.wanted_certificate(id) else { continue };
            let Some(integration) = self.fleet.get(id).map(|record| record.integration) else { continue };
            match wanted.ask(self.issuance.shown(&key)) {
                Ask::Nothing => self.has_certificate(id),
                Ask::Change if self.registry.limits(integration).paused => {
                    self.issuance.sleep(id, now.mono + WHILE_PAUSED, Then::LookAgain);
                }
                ask => {
                    if let Some(task) = self.start_issue(id, wanted, ask) {
                        self.issuance.started(id, task);
                    }
                }
            }
        }
    }

    pub(super) fn certificate_issued(&mut self, issued: Issued, now: Now) {
        let Issued { id, uid, wanted, result } = issued;
        let roused = self.issuance.ended(id);
        let Some(record) = self.fleet.get(id).filter(|record| record.uid == uid) else {
            return self.ready.wake_later(id);
        };
        let trouble = match result {
            // The watch shows it; others may have changed it since.
            Ok(()) => {
                self.issuance.forget(id);
                self.issuance.wrote(id, wanted, now.mono);
                // What its status says of a Secret that is not there is out of date.
                return self.sources_moved(vec![id]);
            }
            Err(IssueError::Terminating) => return self.endings.ends(record.namespace),
            Err(IssueError::Unavailable) => None,
            Err(IssueError::Trouble(trouble)) => Some(trouble),
        };
        let before = self.issuance.failed(id);
        let attempts = before.map_or(0, |failed| failed.attempts).saturating_add(1);
        let is_news =
            trouble.is_some() && before.and_then(|failed| failed.trouble.as_ref()) != trouble.as_ref();
        let class = if trouble.is_some() && !roused { RetryClass::Terminal } else { RetryClass::Transient };
        let again = now.mono + retry::wait(class, attempts, record.uid.seed());
        if let Some(trouble) = trouble.as_ref().filter(|_| is_news) {
            let (namespace, device) = (self.fleet.names.text(record.namespace), &*record.name);
            warn!(namespace, device, ?trouble, "cert-manager could not be asked for a device's certificate");
        }
        self.issuance.set_failed(id, Failed { wanted, trouble, attempts, again });
        self.issuance.sleep(id, again, Then::LookAgain);
        if is_news {
            self.sources_moved(vec![id]);
        }
    }

    pub(super) fn certificate_observed(&mut self, watch: WatchId, observed: Observed<Certificate>) {
        match observed {
            Observed::Listing(_) => self.issuance.begin_list(watch),
            Observed::Present(certificate) => {
                let Some(key) = self.certificate_key(&certificate) else { return };
                // Of one that no device needs nothing is kept.
                if !self.fleet.is_source(&key) {
                    return;
                }
                let (before, shown) = (self.issuance.shown(&key), issuance::shown(&certificate));
                self.issuance.observed(key.clone(), shown);
                // Each renewal changes its status, some times.
                if before != Some(shown) {
                    self.wake_named(&key);
                }
            }
            Observed::Gone(certificate) => {
                let Some(key) = self.certificate_key(&certificate) else { return };
                self.issuance.gone(&key);
                self.wake_named(&key);
            }
            Observed::Listed => {
                let only = self.context.config.namespaces().get(watch.0).cloned().flatten();
                let only = only.map(|namespace| self.fleet.names.intern(&namespace));
                let was_read = self.issuance.is_read(self.context.config.namespaces().len());
                let gone = self.issuance.end_list(watch, only);
                gone.iter().for_each(|key| self.wake_named(key));
                if !was_read {
                    let all = self.fleet.iter().map(|(id, _)| id);
                    all.filter(|id| self.fleet.reads_certificate(*id))
                        .for_each(|id| self.ready.wake_later(id));
                }
            }
            // Nothing is written as long as what is there is not known.
            Observed::Forbidden => {}
        }
    }

    fn certificate_key(&self, certificate: &Certificate) -> Option<SourceKey> {
        let namespace = self.fleet.names.get(&certificate.namespace()?)?;
        Some((namespace, certificate.name_any().into()))
    }

    /// Something has changed about the Certificate, or the Secret, of this name.
    pub(super) fn wake_named(&mut self, key: &SourceKey) {
        for id in self.fleet.devices_of_source(key) {
            self.issuance.rouse(party(&self.fleet, id), id);
            self.ready.wake_later(id);
        }
    }

    /// What cannot be read, in words about cert-manager if that was asked for it.
    pub(super) fn with_progress(&self, id: DeviceId, why: Unusable) -> Unusable {
        let Some((wanted, _)) = self
            .certificate_in_question(id)
            .filter(|_| why.reason == Reason::CertificateNotFound && why.passes)
        else {
            return why;
        };
        let is_read = self.issuance.is_read(self.context.config.namespaces().len());
        let progress = match self.issuance.failed(id).and_then(|failed| failed.trouble.as_ref()) {
            _ if self.is_of_another(id) => Progress::Troubled(&Trouble::OtherDevice),
            Some(trouble) => Progress::Troubled(trouble),
            None if is_read => Progress::Asked,
            None => Progress::Unlisted,
        };
        Unusable { message: progress.message(&wanted.namespace, &wanted.name), ..why }
    }
}

/// Who of several has a registration id: the lowest.
fn rank(record: &Record) -> (bool, i64, Uid) {
    (!record.is_registered(), record.created, record.uid)
}
