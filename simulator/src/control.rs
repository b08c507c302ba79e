//! Observing and changing a running simulator in process, as the admin API does over HTTP.

mod certificates;
mod individuals;
mod issuance;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Invalid, Quotas, ReprovisionPolicy};
use crate::dps::{Allocation, Attestation, Group, Registration, RegistrationState, Scope, Settings};
use crate::faults::{ActiveFault, Fault, FaultError};
use crate::keys::{KeyError, KeyPair, SymmetricKey};
use crate::ledger::{LedgerEntry, Totals};
use crate::shared::{Handshake, Outage, Shared};

/// A handle to a running simulator. It is cheap to clone, and of no use when the simulator has ended.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("there is no id scope {0:?}")]
    NoIdScope(String),
    #[error("there is no enrollment group {0:?} in this id scope")]
    NoGroup(String),
    #[error("there is no individual enrollment {0:?} in this id scope; give it keys or certificates first")]
    NoIndividualEnrollment(String),
    #[error("there is no registration {0:?} in this id scope")]
    NoRegistration(String),
    #[error("there is no certificate authority {0:?} in this id scope; upload it with its certificate")]
    NoCertificateAuthority(String),
    #[error("{0:?} is not linked to this id scope")]
    NotLinked(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Control {
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The current settings.
    pub fn settings(&self) -> Settings {
        self.shared.service.settings()
    }

    /// Replaces all settings.
    pub fn set_settings(&self, settings: Settings) {
        self.shared.service.change_settings(|current| *current = settings);
    }

    /// Changes how long operations that start from now on are `assigning`.
    pub fn set_think_time(&self, think_time: Duration) {
        self.shared.service.change_settings(|settings| settings.think_time = think_time);
    }

    /// Changes whether register answers 200 with the assignment instead of 202.
    pub fn set_assign_at_once(&self, at_once: bool) {
        self.shared.service.change_settings(|settings| settings.assign_at_once = at_once);
    }

    /// Changes the `Retry-After` of a 202; without it there is no such header.
    pub fn set_retry_after(&self, retry_after: Option<Duration>) {
        self.shared.service.change_settings(|settings| settings.retry_after = retry_after);
    }

    /// Changes the quotas; requests so far still count.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.shared.service.change_settings(|settings| settings.quotas = quotas);
    }

    /// Resets the counters of the quotas of an id scope.
    pub fn reset_quota_counters(&self, id_scope: &str) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            scope.reset_counters(&self.shared.service.readings);
            Ok(())
        })
    }

    /// Counts requests of others against the quota of registrations, as far as it admits them; returns how
    /// many those are.
    pub fn spend_quota(&self, id_scope: &str, requests: u32) -> Result<u32, ControlError> {
        let (limit, now) = (self.settings().quotas.registrations_per_minute, self.shared.clock.now().steady);
        self.in_scope(id_scope, |scope| Ok(scope.spend(requests, limit, now)))
    }

    /// Replaces a group's keys, given in base64. Hubs accept a device's new key only after it has
    /// registered again.
    pub fn set_group_keys(
        &self,
        id_scope: &str,
        group: &str,
        primary: &str,
        secondary: &str,
    ) -> Result<(), ControlError> {
        let (primary, secondary) =
            (SymmetricKey::from_base64(primary)?, SymmetricKey::from_base64(secondary)?);
        self.replace_group_keys(id_scope, group, primary, secondary)
    }

    pub(crate) fn replace_group_keys(
        &self,
        id_scope: &str,
        group: &str,
        primary: SymmetricKey,
        secondary: SymmetricKey,
    ) -> Result<(), ControlError> {
        let keys = Attestation::Keys(KeyPair { primary, secondary });
        self.in_group(id_scope, group, |group| group.attestation = Some(keys))
    }

    /// Enables or disables a group.
    pub fn set_group_enabled(&self, id_scope: &str, group: &str, enabled: bool) -> Result<(), ControlError> {
        self.in_group(id_scope, group, |group| group.enrollment.enabled = enabled)
    }

    /// Deletes a group; its registration records stay, as they do at DPS.
    pub fn delete_group(&self, id_scope: &str, group: &str) -> Result<(), ControlError> {
        self.in_group(id_scope, group, |group| group.deleted = true)
    }

    /// Changes a group's policy to `static` with this hub.
    pub fn set_static_hub(&self, id_scope: &str, group: &str, hub: &str) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            let hub = linked_hub(scope, hub)?;
            find_group(scope, group)?.enrollment.allocation = Allocation::Static(hub);
            Ok(())
        })
    }

    /// Changes what happens when a group's devices register again.
    pub fn set_reprovision_policy(
        &self,
        id_scope: &str,
        group: &str,
        policy: ReprovisionPolicy,
    ) -> Result<(), ControlError> {
        self.in_group(id_scope, group, |group| group.enrollment.reprovision = policy)
    }

    /// Changes the linked hubs; devices move when they register again.
    pub fn set_linked_hubs(&self, id_scope: &str, hubs: &[impl AsRef<str>]) -> Result<(), ControlError> {
        let hubs: Vec<String> = hubs.iter().map(|hub| hub.as_ref().to_owned()).collect();
        config::check_hubs("hubs", &hubs)?;
        self.in_scope(id_scope, |scope| {
            scope.hubs = hubs.iter().map(|hub| hub.as_str().into()).collect();
            Ok(())
        })
    }

    /// Enables or disables the individual enrollment of a device. Disabling a device of a group creates
    /// such an enrollment, and enabling it removes that again.
    pub fn set_device_enabled(
        &self,
        id_scope: &str,
        registration_id: &str,
        enabled: bool,
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            scope.set_device_enabled(registration_id, enabled);
            Ok(())
        })
    }

    /// Assigns a registered device to another linked hub, without a call of the device.
    pub fn move_device(&self, id_scope: &str, registration_id: &str, hub: &str) -> Result<(), ControlError> {
        let now = self.shared.clock.now();
        let service = &self.shared.service;
        self.in_scope(id_scope, |scope| {
            let hub = linked_hub(scope, hub)?;
            let missing = || ControlError::NoRegistration(registration_id.to_owned());
            let registration = scope.registration(registration_id).ok_or_else(missing)?;
            registration.complete_due(now.steady, &service.readings, &service.ids);
            let plan = registration.assignment_to(hub).ok_or_else(missing)?;
            registration.apply(plan, now.wall, &service.readings, &service.ids);
            Ok(())
        })
    }

    /// Deletes a registration record with its operations. The hub keeps the device's identity.
    pub fn delete_registration(&self, id_scope: &str, registration_id: &str) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            match scope.registration(registration_id).filter(|r| r.exists()) {
                Some(registration) => registration.delete_record(),
                None => return Err(ControlError::NoRegistration(registration_id.to_owned())),
            }
            Ok(())
        })
    }

    /// The registration record as DPS has it now.
    pub fn registration(&self, id_scope: &str, registration_id: &str) -> Option<RegistrationState> {
        self.read_registration(id_scope, registration_id, |registration| registration.state()).flatten()
    }

    /// Whether the hub would accept this key, in base64, from the device: hubs have a device's keys as
    /// of its last assignment.
    pub fn accepts_device_key(&self, id_scope: &str, registration_id: &str, key: &str) -> bool {
        self.read_registration(id_scope, registration_id, |registration| registration.hub_accepts(key))
            .unwrap_or(false)
    }

    /// The requests that the ledger holds.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.ledger_since(0)
    }

    /// The requests after a sequence number.
    pub fn ledger_since(&self, sequence: u64) -> Vec<LedgerEntry> {
        self.shared.ledger().since(sequence).cloned().collect()
    }

    /// The number of requests that the ledger holds.
    pub fn ledger_len(&self) -> usize {
        self.shared.ledger().len()
    }

    /// Removes the requests from the ledger; sequence numbers and totals continue.
    pub fn clear_ledger(&self) {
        self.shared.ledger().clear();
    }

    /// The counts of all requests, which the ledger's capacity does not limit.
    pub fn totals(&self) -> Totals {
        self.shared.ledger().totals()
    }

    /// Waits until the ledger has a fitting entry after a sequence number. Entries are checked when the
    /// request arrives, with [`crate::Outcome::Pending`], and again when it is answered.
    pub async fn wait_for(&self, since: u64, fits: impl Fn(&LedgerEntry) -> bool) -> LedgerEntry {
        loop {
            let changed = self.shared.ledger_changed.notified();
            tokio::pin!(changed);
            // Registered before the search, so that no change in between is missed.
            changed.as_mut().enable();
            let found = self.shared.ledger().since(since).find(|e| fits(e)).cloned();
            match found {
                Some(entry) => return entry,
                None => changed.await,
            }
        }
    }

    /// Injects a fault and returns the id by which the ledger names it.
    pub fn inject(&self, fault: Fault) -> Result<u64, FaultError> {
        fault.validate()?;
        Ok(self.shared.faults().inject(fault))
    }

    /// Clears a fault; returns whether it was there.
    pub fn clear_fault(&self, id: u64) -> bool {
        self.shared.faults().clear(id)
    }

    /// Clears all faults.
    pub fn clear_faults(&self) {
        self.shared.faults().clear_all();
    }

    /// The injected faults, including those that are used up.
    pub fn faults(&self) -> Vec<ActiveFault> {
        self.shared.faults().list()
    }

    /// Makes the device endpoint fail as a whole, or not any more.
    pub fn set_outage(&self, outage: Outage) {
        self.shared.set_outage(outage);
    }

    /// How the device endpoint fails as a whole now.
    pub fn outage(&self) -> Outage {
        self.shared.outage()
    }

    /// Makes TLS handshakes go in another way from now on; connections that are open stay.
    pub fn set_handshake(&self, handshake: Handshake) {
        self.shared.set_handshake(handshake);
    }

    /// How TLS handshakes go now.
    pub fn handshake(&self) -> Handshake {
        self.shared.handshake()
    }

    /// Sets how far DPS's clock is ahead of the machine's, in seconds: for the expiry of tokens, for the
    /// `Date` of answers and the times in them.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.clock.set_ahead(seconds);
    }

    /// How far DPS's clock is ahead of the machine's, in seconds.
    pub fn clock_ahead(&self) -> i64 {
        self.shared.clock.ahead()
    }

    fn read_registration<T>(
        &self,
        id_scope: &str,
        registration_id: &str,
        read: impl FnOnce(&Registration) -> T,
    ) -> Option<T> {
        let now = self.shared.clock.now();
        let service = &self.shared.service;
        let mut scope = service.scope(id_scope)?;
        let registration = scope.registration(registration_id)?;
        registration.complete_due(now.steady, &service.readings, &service.ids);
        Some(read(registration))
    }

    fn in_scope<T>(
        &self,
        id_scope: &str,
        change: impl FnOnce(&mut Scope) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        match self.shared.service.scope(id_scope) {
            Some(mut scope) => change(&mut scope),
            None => Err(ControlError::NoIdScope(id_scope.to_owned())),
        }
    }

    fn in_group(
        &self,
        id_scope: &str,
        group: &str,
        change: impl FnOnce(&mut Group),
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            change(find_group(scope, group)?);
            Ok(())
        })
    }
}

fn find_group<'s>(scope: &'s mut Scope, id: &str) -> Result<&'s mut Group, ControlError> {
    scope.group(id).ok_or_else(|| ControlError::NoGroup(id.to_owned()))
}

fn linked_hub(scope: &Scope, name: &str) -> Result<Arc<str>, ControlError> {
    scope.linked_hub(name).ok_or_else(|| ControlError::NotLinked(name.to_owned()))
}
