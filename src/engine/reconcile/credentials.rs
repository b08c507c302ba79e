//! What a device has to prove its identity with: what its integration has for all, or something of its own,
//! which is read when it is needed and kept no longer than there is work.

use crate::api::attestation::OwnCredential;
use crate::api::version;
use crate::clock::Now;
use crate::controller::device::act::UsableIntegration;
use crate::controller::device::decide::IntegrationState;
use crate::controller::integration::health::Canary;
use crate::controller::integration::issuers::{Place, Whose};
use crate::controller::integration::key_source::KeySource;
use crate::dps::attestation::certificate::{CaId, CertificateFacts};
use crate::engine::Engine;
use crate::engine::devices::ReadFor;
use crate::engine::integrations::is_of_namespace;
use crate::fleet::DeviceId;
use crate::fleet::record::Record;

impl Engine {
    /// The integration as this device sees it.
    pub(super) fn integration_of(&self, id: DeviceId) -> IntegrationState<'_> {
        let grace = self.active.grace(id);
        let Some(record) = self.fleet.get(id) else { return IntegrationState::Missing(grace) };
        let (integration, names) = (record.integration, &self.fleet.names);
        if !self.registry.serves(integration, record.namespace, names) {
            let own = is_of_namespace(integration, record.namespace, names);
            return if own { IntegrationState::Missing(grace) } else { IntegrationState::NotAllowed(grace) };
        }
        let Some(target) = self.registry.target(integration) else {
            return IntegrationState::NotReady(grace);
        };
        if !record.has_own_credential() {
            return IntegrationState::Usable(target);
        }
        let own = self.active.work(id).and_then(|work| work.own.as_deref());
        match (own.and_then(|own| own.read().err()), own.and_then(|own| own.target(target.revision))) {
            (Some(why), _) => IntegrationState::Keyless(target, why, grace),
            (None, Some(own)) => IntegrationState::Usable(own),
            (None, None) => IntegrationState::Unread(target),
        }
    }

    /// The device's integration, if it admits the device and can be used, with what the device has to prove its
    /// identity with. Nothing is asked of DPS and nothing written to a Secret without it.
    pub(in crate::engine) fn usable_of(&self, id: DeviceId) -> Option<UsableIntegration> {
        let record = self.fleet.get(id)?;
        let serves = self.registry.serves(record.integration, record.namespace, &self.fleet.names);
        let usable = self.registry.usable(record.integration).filter(|_| serves)?;
        let target = if record.has_own_credential() {
            self.active.work(id)?.own.as_ref()?.target(usable.target.revision)?
        } else {
            &usable.target
        };
        Some(UsableIntegration { target: target.clone(), connection: usable.connection.clone() })
    }

    /// The same as a call that begins now has to use it, and the revision of the integration's target.
    pub(super) fn usable_for_call(
        &mut self,
        id: DeviceId,
        looks_up: bool,
        now: Now,
    ) -> Option<(UsableIntegration, u64)> {
        let usable = self.usable_of(id)?;
        let record = self.fleet.get(id)?;
        let (integration, own) = (record.integration, record.has_own_credential());
        let revision = self.registry.target(integration)?.revision;
        let usable = if own { usable } else { self.registry.for_call(integration, looks_up, now.mono)? };
        Some((usable, revision))
    }

    /// Where a device's own credentials are to be read, by its own word or its integration's; `None` for a kind
    /// that this version does not know.
    pub(super) fn declared_credential(&self, id: DeviceId) -> Option<(ReadFor, Option<OwnCredential>)> {
        let (work, record) = (self.active.work(id)?, self.fleet.get(id)?);
        let target = self.registry.target(record.integration);
        let template = target.and_then(|target| target.credentials.certificates());
        let own = OwnCredential::of(work.device.spec.attestation.as_ref(), template, &record.name);
        let secret = own.as_ref().map(|own| own.secret().to_owned());
        Some((ReadFor { generation: work.device.metadata.generation.unwrap_or(0), secret }, own))
    }

    /// A device's own credentials are those that it names now, for its integration as that is now.
    pub(super) fn fit_credentials(&mut self, id: DeviceId) {
        // Most devices have none.
        if self.active.work(id).is_none_or(|work| work.own.is_none()) {
            return;
        }
        let Some(integration) = self.fleet.get(id).map(|record| record.integration) else { return };
        let declared = self.declared_credential(id);
        let Some(work) = self.active.work_mut(id) else { return };
        let declared = declared.map(|(now, _)| now);
        let facts = &work.facts;
        work.own = work
            .own
            .take()
            .filter(|own| declared.as_ref().is_some_and(|now| own.are_for(now)) && own.are_current(facts));
        let stated = work.device.status.as_ref().and_then(|status| status.credential.as_ref());
        let stated = stated.and_then(KeySource::stated);
        if let (Some(own), Some(target)) = (work.own.as_mut(), self.registry.target(integration)) {
            own.fit(target, stated.as_ref());
        }
    }

    /// The certificate that a device is to be registered with, if it is of a CA that DPS has not accepted for it.
    fn certificate_of_new_ca(&self, id: DeviceId) -> Option<(&CertificateFacts, CaId)> {
        let IntegrationState::Usable(target) = self.integration_of(id) else { return None };
        let facts = target.credentials.certificate()?;
        let registered = self.active.work(id)?.facts.registered.as_ref();
        let known = registered.and_then(|registered| registered.certificate).and_then(|kept| kept.ca);
        facts.ca.filter(|ca| known != Some(*ca)).map(|ca| (facts, ca))
    }

    /// Whose device it is.
    pub(super) fn whose(&self, record: &Record) -> Whose {
        let namespace = record.namespace;
        Whose { namespace, own: is_of_namespace(record.integration, namespace, &self.fleet.names) }
    }

    /// A device that is about to try another CA than before takes its place among those that do.
    pub(super) fn come_to_ca(&mut self, id: DeviceId, now: Now) {
        let Some(facts) = self.certificate_of_new_ca(id).map(|(facts, _)| facts.clone()) else { return };
        let Some(record) = self.fleet.get(id) else { return };
        let canary = Canary { device: id, uid: record.uid };
        self.registry.ca_met(record.integration, &facts, (self.whose(record), canary), now.mono);
    }

    /// Whether it may.
    pub(super) fn place_with_ca(&self, id: DeviceId, now: Now) -> Place<'_> {
        let Some((_, ca)) = self.certificate_of_new_ca(id) else { return Place::Open };
        let Some(record) = self.fleet.get(id) else { return Place::Open };
        self.registry.ca_place(record.integration, ca, (self.whose(record), record.uid), now.mono)
    }

    /// DPS may have issued a certificate to the device as it was registered.
    pub(super) fn certificate_came(&mut self, id: DeviceId) {
        let registered = self.active.work(id).and_then(|work| work.facts.registered.as_ref());
        let issued = registered.and_then(|registered| registered.issued.as_ref());
        let issued = issued.and_then(|issued| issued.certificate.as_ref());
        if let (Some(issued), Some(record)) = (issued, self.fleet.get(id)) {
            self.registry.ca_issues(record.integration, issued.facts());
        }
    }

    /// DPS has accepted the device's own credential: what was read is what is registered.
    pub(super) fn credential_registered(&mut self, id: DeviceId) {
        let Some(facts) = self.active.work(id).map(|work| &work.facts) else { return };
        let registered = facts.registered.as_ref().and_then(|registered| registered.credential);
        let source = facts.source.as_ref().filter(|source| source.key == registered);
        if let Some(source) = source {
            let version = version::parse(source.version.as_deref());
            self.fleet.source_judged(id, version);
        }
    }
}
