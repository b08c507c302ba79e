//! From an integration as it is declared to the target that its devices are compared with.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::change::{Change, PermitChange, RecordedPause};
use super::reporting::Reporting;
use super::{Integration, Registry, State};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::integration::{CaBundleRef, DpsIntegration, DpsIntegrationSpec, IssuerStatus};
use crate::api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use crate::api::references::Reference;
use crate::api::version;
use crate::config::Config;
use crate::controller::device::act::UsableIntegration;
use crate::controller::integration::ca_bundle;
use crate::controller::integration::consent::Consent;
use crate::controller::integration::credentials::Credentials;
use crate::controller::integration::health::{Known, Pair};
use crate::controller::integration::issuers::Issuers;
use crate::controller::integration::key_twice::KeyTwice;
use crate::controller::integration::resolve::{Allowed, Usable, references, resolve};
use crate::controller::integration::status;
use crate::controller::integration::target::{Target, Terms};
use crate::controller::integration::unusable::Unusable;
use crate::dps::client::ClientError;
use crate::dps::connections::Connection;
use crate::dps::tls::TlsSettings;
use crate::fleet::hash::Hash;
use crate::fleet::intern::Sym;
use crate::schedule::permits::Group;

/// What terms that differ from the former ones mean.
struct Configured {
    /// The status names this very spec and credential, as it stood before the start.
    as_recorded: bool,
    /// Another credential is in use than before.
    rotates: bool,
    /// What DPS said of the former terms it would say of these.
    same_for_dps: bool,
    recall_pause: Option<RecordedPause>,
}

impl Integration {
    /// Terms are in use that differ from those before: what is known of their credential and route.
    fn configure(
        &mut self,
        object: &DpsIntegration,
        terms: &Terms,
        pair: Pair,
        before: Option<&UsableIntegration>,
        now: Instant,
    ) -> Configured {
        let in_use = terms.credentials.in_use();
        let same_credential = before.is_some_and(|before| {
            let before = &before.target.terms;
            before.credentials.use_the_same(&terms.credentials)
                && before.instance.scope == terms.instance.scope
        });
        let accepted = if same_credential {
            self.health.accepted()
        } else {
            self.acceptance.holds(&terms.instance, in_use) || status::was_accepted(object, &terms.credentials)
        };
        let as_recorded =
            !self.known && status::is_recorded(object, &terms.credentials, &self.secret_versions);
        if !self.known {
            self.issuers = Issuers::default();
            let scope = object.status.as_ref().and_then(|status| status.accepted_id_scope.as_deref());
            if scope == Some(terms.instance.scope.as_str()) {
                self.issuers.recall(recorded_issuers(object));
            }
        } else if before.is_some_and(|before| before.target.terms.instance.scope != terms.instance.scope) {
            self.issuers = Issuers::default();
        }
        self.issuers.reopen();
        let same_for_dps = before.is_some_and(|before| before.target.terms.same_for_dps(terms));
        let proven = self.acceptance.is_proven(&terms.instance);
        self.health.configured(pair, Known { accepted, proven, same_for_dps });
        if !same_for_dps {
            self.health.forget_trouble();
            match recorded_refusal(object).filter(|_| as_recorded) {
                // A refusal beside a fallback is that of the credential that was asked for.
                Some(refusal) if self.health.has_fallen_back() => self.health.recall_trouble(refusal),
                // Of certificates: what became of one device's is no matter to the next.
                Some(refusal)
                    if refusal.reason == Reason::Unauthorized && !terms.credentials.are_shared() => {}
                Some(refusal) => self.health.recall_refusal(refusal, now),
                None => {}
            }
        }
        let recorded = recorded_pause(object).filter(|_| !self.known && (accepted || as_recorded));
        if let Some((_, Some(said))) = &recorded {
            self.health.recall_trouble(said.clone());
        }
        let recall_pause = recorded.map(|(pause, _)| pause);
        let rotates = self.known && !same_credential;
        Configured { as_recorded, rotates, same_for_dps, recall_pause }
    }

    /// While nothing about the credentials has changed, the one that was found to work stays in use.
    fn choose_credential(
        &mut self,
        object: &DpsIntegration,
        credentials: Credentials,
        now: Instant,
    ) -> Credentials {
        let Some(swapped) = credentials.swapped() else {
            self.health.credentials_changed(false, now);
            self.asked_for = None;
            return credentials;
        };
        if self.asked_for.as_ref() != Some(&credentials) {
            let replaced =
                !self.known && status::has_fallen_back(object, &credentials, &self.secret_versions);
            self.health.credentials_changed(replaced, now);
            self.asked_for = Some(credentials.clone());
        }
        if self.health.has_fallen_back() { swapped } else { credentials }
    }
}

impl Registry {
    /// An integration is declared or has changed.
    pub fn observed(&mut self, sym: Sym, object: DpsIntegration, now: Instant) -> Change {
        let integration = self.integrations.entry(sym).or_default();
        let held = integration.object.as_ref().map(|held| version::of(&held.metadata));
        if held.is_some_and(|held| held > 0 && held >= version::of(&object.metadata)) {
            return Change::default();
        }
        let former = integration.object.clone();
        let counted = (integration.accepted_scope().map(str::to_owned), integration.is_proven());
        if integration.object.as_ref().is_some_and(|held| held.metadata.uid != object.metadata.uid) {
            // Deleted and created again: nothing that is known of the former one holds.
            *integration = Integration { known: true, ..Integration::default() };
        }
        let asks = |object: &DpsIntegration| {
            let annotation = |key| object.annotations().get(key).cloned();
            let asked_for = [RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT].map(annotation);
            (object.metadata.generation, asked_for)
        };
        let asked = integration.object.as_ref().is_some_and(|held| asks(held) != asks(&object));
        let look_again = |object: &DpsIntegration| object.annotations().get(RECONCILE_REQUESTED_AT).cloned();
        if integration.object.as_ref().is_some_and(|held| look_again(held) != look_again(&object)) {
            // What was refused may have been mended in Azure. What cannot be used is not mended there.
            if integration.usable().is_some() {
                integration.state = State::Unread;
            }
            integration.asked_for = None;
        }
        let consent = Consent::of(&object.spec).unwrap_or_default();
        let before = std::mem::replace(&mut integration.consent, consent.clone());
        integration.reporting.observed(object.status.as_ref(), asked);
        self.reports.wake(sym.index());
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        self.references.set(sym, references(namespace, &object.spec));
        let same_ids = former.is_none_or(|former| admits_the_same_ids(&former.spec, &object.spec));
        integration.object = Some(Arc::new(object));
        let claims = (integration.accepted_scope(), integration.is_proven())
            != (counted.0.as_deref(), counted.1)
            || (counted.0.is_some() && !same_ids);
        let change = self.evaluate(sym, now);
        let consent_changed = consent != before;
        if asked || consent_changed {
            self.counters.touch(now);
        }
        let before = consent_changed.then_some(before);
        let wake_devices = change.wake_devices || consent_changed;
        Change { wake_devices, claims: claims && !wake_devices, before, ..change }
    }

    /// The API server has gone back to an earlier state: the next object of this name is the present one.
    pub fn forget_version(&mut self, sym: Sym) {
        if let Some(object) = self.integrations.get_mut(&sym).and_then(|found| found.object.as_mut()) {
            Arc::make_mut(object).metadata.resource_version = None;
        }
    }

    /// Forgets what DPS's answers have shown: what the leader that was has learned is in the status.
    pub fn forget_answers(&mut self, sym: Sym) {
        if let Some(integration) = self.integrations.get_mut(&sym) {
            let object = integration.object.take();
            let consent = std::mem::take(&mut integration.consent);
            let reporting = Reporting::due();
            *integration = Integration { object, consent, reporting, ..Integration::default() };
            self.reports.wake(sym.index());
        }
    }

    /// Judges an integration once more.
    pub fn evaluate(&mut self, sym: Sym, now: Instant) -> Change {
        let Some(object) = self.object(sym).cloned() else { return Change::default() };
        let find = |reference: &Reference| self.references.find(reference);
        let Config { allowed_dps_hosts: hosts, cert_manager, .. } = &*self.config;
        let allowed = Allowed { hosts, cert_manager: *cert_manager };
        let connected = match resolve(&object, allowed, find) {
            Ok(None) => return Change::default(),
            Ok(Some(usable)) => {
                let tls = &usable.terms.instance.tls;
                self.connect(tls, object.spec.ca_bundle_ref.as_ref()).map(|connection| (usable, connection))
            }
            Err(unusable) => Err(unusable),
        };
        self.needs_report(sym);
        if let Some(integration) = self.integrations.get_mut(&sym) {
            integration.judged = object.metadata.generation;
        }
        match connected {
            Ok((usable, connection)) => self.judged_usable(sym, &object, usable, connection, now),
            Err(unusable) => self.judged_unusable(sym, unusable, now),
        }
    }

    fn connect(&mut self, tls: &TlsSettings, ca: Option<&CaBundleRef>) -> Result<Connection, Unusable> {
        self.connections.get(tls).map_err(|error| match error {
            ClientError::NoRoots => Unusable::new(
                Reason::InvalidConfiguration,
                "The operator has no trusted root certificates: none were found in its image. Add the system's CA certificates to the image, or name the CA of DPS in spec.caBundleRef.",
            ),
            ClientError::Setup(_) => Unusable::new(
                Reason::InvalidConfiguration,
                "The operator's HTTP client cannot be set up; check its --dps-proxy.",
            ),
            ClientError::Bundle(error) => ca_bundle::unusable(ca, &error),
        })
    }

    fn judged_usable(
        &mut self,
        sym: Sym,
        object: &DpsIntegration,
        usable: Usable,
        mut connection: Connection,
        now: Instant,
    ) -> Change {
        let Some(integration) = self.integrations.get_mut(&sym) else { return Change::default() };
        let Usable { terms, limits, secret_versions } = usable;
        integration.secret_versions = secret_versions;
        let bundle = object.spec.ca_bundle_ref.as_ref();
        let key_twice = KeyTwice::of(&object.spec.attestation, &terms.credentials);
        let ca_bundle = ca_bundle::warning(bundle, &connection.flaws);
        integration.warnings.set(&object.spec, ca_bundle, key_twice);
        let pair = Pair { asked_for: terms.credentials.in_use(), other: terms.credentials.other() };
        let credentials = integration.choose_credential(object, terms.credentials.clone(), now);
        let terms = Terms { credentials, ..terms };
        let before = integration.usable().cloned();
        let new_limits = std::mem::replace(&mut integration.limits, limits) != limits || before.is_none();
        if before.as_ref().is_some_and(|before| before.target.terms == terms) {
            if !new_limits {
                return Change::default();
            }
            self.counters.touch(now);
            let permits = Some(PermitChange::Limit(limits));
            return Change { permits, wake_devices: true, ..Change::default() };
        }
        let Configured { as_recorded, rotates, same_for_dps, recall_pause } =
            integration.configure(object, &terms, pair, before.as_ref(), now);
        if let Some(before) = before.filter(|_| same_for_dps) {
            connection.clock = before.connection.clock;
        }
        integration.known = true;
        integration.unusable_since =
            (terms.suspended || integration.health.trouble().is_some()).then_some(now);
        let scope = terms.instance.scope.clone();
        let gate = integration.health.gate();
        self.use_target(sym, terms, as_recorded, connection);
        if rotates {
            self.counters.hurry(now);
        } else {
            self.counters.touch(now);
        }
        let group = group_of(object);
        let permits = Some(PermitChange::Admit { group, scope, gate, limits });
        Change { permits, wake_devices: true, recall_pause, ..Change::default() }
    }

    /// Gives the terms a revision; devices are compared with them from now on.
    pub(super) fn use_target(&mut self, sym: Sym, terms: Terms, as_recorded: bool, connection: Connection) {
        let Some(integration) = self.integrations.get_mut(&sym) else { return };
        self.revisions += 1;
        let target = Arc::new(Target { terms, revision: self.revisions, as_recorded });
        integration.revision = self.revisions;
        integration.state = State::Usable(UsableIntegration { target, connection });
    }

    fn judged_unusable(&mut self, sym: Sym, unusable: Unusable, now: Instant) -> Change {
        let Some(integration) = self.integrations.get_mut(&sym) else { return Change::default() };
        let was_usable = !matches!(integration.state, State::Unusable(_));
        integration.state = State::Unusable(unusable);
        if !was_usable {
            return Change::default();
        }
        self.revisions += 1;
        integration.revision = self.revisions;
        integration.health.forget_trouble();
        integration.unusable_since = Some(now);
        self.counters.touch(now);
        Change { permits: Some(PermitChange::Dismiss), wake_devices: true, ..Change::default() }
    }
}

/// The same devices may claim the same registration ids.
fn admits_the_same_ids(former: &DpsIntegrationSpec, spec: &DpsIntegrationSpec) -> bool {
    former.registration_id_prefixes == spec.registration_id_prefixes
        && former.allowed_namespaces == spec.allowed_namespaces
}

/// Newcomers of one namespace share a turn.
fn group_of(object: &DpsIntegration) -> Group {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    Hash::of("namespace", [namespace.as_bytes()]).number()
}

/// Until when DPS has asked to wait by the status, and what it says of that.
fn recorded_pause(object: &DpsIntegration) -> Option<(RecordedPause, Option<Unusable>)> {
    let status = object.status.as_ref()?;
    let until = status.throttled_until.as_ref()?.0;
    let ready = conditions::find(&status.conditions, ConditionType::Ready);
    let said = ready.filter(|ready| ready.reason == Reason::Throttled.as_str());
    // Version 0.1.0 did not write it.
    let since = status.throttled_since.as_ref();
    let length = since.and_then(|since| Duration::try_from(until.duration_since(since.0)).ok());
    let said = said.map(|ready| Unusable::new(Reason::Throttled, ready.message.clone()));
    Some((RecordedPause { until, length }, said))
}

fn recorded_issuers(object: &DpsIntegration) -> &[IssuerStatus] {
    let certificates = object.status.as_ref().and_then(|status| status.certificates.as_ref());
    certificates.map(|certificates| certificates.issuers.as_slice()).unwrap_or_default()
}

/// The refusal that the status has recorded for the present credential: after a start it still stands.
fn recorded_refusal(object: &DpsIntegration) -> Option<Unusable> {
    let conditions = &object.status.as_ref()?.conditions;
    let ready = conditions::find(conditions, ConditionType::Ready)?;
    let refusals = [Reason::Unauthorized, Reason::EnrollmentNotFound, Reason::IdScopeNotFound];
    let reason = refusals.into_iter().find(|reason| reason.as_str() == ready.reason)?;
    Some(Unusable::new(reason, ready.message.clone()))
}
