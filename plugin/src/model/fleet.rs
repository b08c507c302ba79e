//! What an integration and its devices say.

use dps_operator_api::attestation::CredentialsStatus;
use dps_operator_api::conditions::{ConditionType, find};
use dps_operator_api::integration::{DeviceCounts, DpsIntegration, HubCount, NamespacesFrom};
use jiff::Timestamp;
use serde::Serialize;

use super::brief::{Brief, Group, groups};
use super::rotation::{Rotation, slot_name};
use super::{NEW, State, state};

/// One integration and its devices.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntegrationReport {
    pub namespace: String,
    pub name: String,
    pub state: State,
    pub suspended: bool,
    /// `True`, `False` or `Unknown`; absent until the operator has looked at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub id_scope: String,
    pub hostname: String,
    /// DPS has accepted a key for this id scope.
    pub accepted: bool,
    pub credentials: Credentials,
    /// Registrations a minute, if the integration has a limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registrations_per_minute: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<Timestamp>,
    /// What is said about checks that are more than the rate admits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_insufficient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The operator's own numbers, which are ten seconds old at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceCounts>,
    pub hubs: Vec<HubCount>,
    /// Devices on further hubs.
    pub other_hubs: i32,
    pub needs_you: Vec<Group>,
    pub waiting: Vec<Group>,
    /// Devices that the operator counts as failed and that are in namespaces that were not read.
    pub failed_elsewhere: usize,
}

/// What the devices of an integration prove who they are with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Credentials {
    #[serde(rename_all = "camelCase")]
    GroupKey {
        asked: String,
        /// Another one than the one that is asked for, while DPS refuses that.
        #[serde(skip_serializing_if = "Option::is_none")]
        in_use: Option<String>,
        /// Of the one in use, once DPS has accepted it.
        #[serde(skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Certificates {
        secret_name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        first_expires: Option<Timestamp>,
        overdue: i32,
        expired: i32,
    },
    PerDevice,
}

impl Credentials {
    fn of(integration: &DpsIntegration) -> Self {
        let status = integration.status.as_ref();
        let attestation = &integration.spec.attestation;
        if let Some(keys) = &attestation.symmetric_key {
            let known = status.and_then(|status| status.credentials.clone()).unwrap_or_default();
            let CredentialsStatus { primary, secondary, unproven: _, in_use, working: _ } = known;
            let key = if slot_name(in_use.unwrap_or(keys.active)) == "Primary" { primary } else { secondary };
            return Self::GroupKey {
                asked: slot_name(keys.active).to_owned(),
                in_use: in_use.map(|slot| slot_name(slot).to_owned()),
                fingerprint: key.map(|key| key.fingerprint),
            };
        }
        let Some(x509) = &attestation.x509 else { return Self::PerDevice };
        let certificates = status.and_then(|status| status.certificates.clone()).unwrap_or_default();
        Self::Certificates {
            secret_name: x509.secret_name.clone(),
            first_expires: certificates.earliest_not_after.map(|at| at.0),
            overdue: certificates.overdue,
            expired: certificates.expired,
        }
    }
}

impl IntegrationReport {
    /// `devices`: those of its devices that were read; `all`: of all namespaces.
    pub fn of(integration: &DpsIntegration, devices: &[Brief], all: bool, now: Timestamp) -> Self {
        let spec = &integration.spec;
        let status = integration.status.clone().unwrap_or_default();
        let (state, reason) = state(&status.conditions, spec.suspend);
        let ready = find(&status.conditions, ConditionType::Ready);
        let quota = find(&status.conditions, ConditionType::QuotaInsufficient);
        let namespace = integration.metadata.namespace.clone().unwrap_or_default();
        let needs_you = groups(devices, State::NeedsYou, &namespace);
        let failures = status.failures.iter().map(|failures| failures.devices).sum::<i32>();
        let found: usize = needs_you.iter().map(|group| group.devices).sum();
        Self {
            state,
            suspended: spec.suspend,
            ready: ready.map(|ready| ready.status.clone()),
            reason: reason.to_owned(),
            message: ready.map(|ready| ready.message.clone()),
            id_scope: spec.id_scope.clone(),
            hostname: spec.hostname.clone(),
            accepted: status.accepted_id_scope.is_some(),
            credentials: Credentials::of(integration),
            registrations_per_minute: spec.rate_limit.as_ref().map(|limit| limit.registrations_per_minute),
            throttled_until: status
                .throttled_until
                .as_ref()
                .map(|until| until.0)
                .filter(|until| *until > now),
            quota_insufficient: quota.map(|quota| quota.message.clone()),
            rotation: Rotation::of(integration, now),
            devices: status.devices,
            hubs: status.hubs,
            other_hubs: status.other_hubs.unwrap_or_default(),
            waiting: groups(devices, State::Waiting, &namespace),
            // Of one that has no devices elsewhere the difference is that the numbers are older than the names.
            failed_elsewhere: if all || !admits_others(integration) {
                0
            } else {
                usize::try_from(failures).unwrap_or_default().saturating_sub(found)
            },
            needs_you,
            name: integration.metadata.name.clone().unwrap_or_default(),
            namespace,
        }
    }

    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// True if a person has to do something.
    pub fn needs_you(&self) -> bool {
        let blocked = self.rotation.as_ref().is_some_and(|rotation| rotation.blocked);
        self.state == State::NeedsYou || blocked || !self.needs_you.is_empty() || self.failed_elsewhere > 0
    }
}

/// Devices of an integration that was not read: there is none, or it is in another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unlisted {
    /// `namespace/name` of the integration.
    pub integration: String,
    /// Namespaces that were read have no such integration.
    pub missing: bool,
    pub devices: usize,
    pub needs_you: Vec<Group>,
    pub waiting: Vec<Group>,
}

/// All that was read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetReport {
    pub integrations: Vec<IntegrationReport>,
    pub unlisted: Vec<Unlisted>,
}

impl FleetReport {
    /// `read`: the only namespace that was read; all, if there is none.
    pub fn of(
        integrations: &[DpsIntegration],
        mut devices: Vec<Brief>,
        read: Option<&str>,
        now: Timestamp,
    ) -> Self {
        devices.sort_by(|one, other| one.integration.cmp(&other.integration));
        let mut chunks: Vec<(&str, &[Brief])> = devices
            .chunk_by(|one, other| one.integration == other.integration)
            .map(|of| (of[0].integration.as_str(), of))
            .collect();
        let mut reports: Vec<IntegrationReport> = integrations
            .iter()
            .map(|integration| {
                let key = key_of(integration);
                let at = chunks.iter().position(|(of, _)| *of == key);
                let own = at.map_or(&[][..], |at| chunks.swap_remove(at).1);
                IntegrationReport::of(integration, own, read.is_none(), now)
            })
            .collect();
        reports.sort_by_key(IntegrationReport::key);
        let unlisted = chunks.iter().map(|(key, devices)| {
            let namespace = key.split('/').next().unwrap_or_default();
            Unlisted {
                integration: (*key).to_owned(),
                missing: read.is_none_or(|read| read == namespace),
                devices: devices.len(),
                needs_you: groups(devices, State::NeedsYou, read.unwrap_or_default()),
                waiting: groups(devices, State::Waiting, read.unwrap_or_default()),
            }
        });
        let mut unlisted: Vec<Unlisted> = unlisted.collect();
        unlisted.sort_by(|one, other| one.integration.cmp(&other.integration));
        Self { integrations: reports, unlisted }
    }

    pub fn needs_you(&self) -> bool {
        let unlisted = |unlisted: &Unlisted| unlisted.missing || !unlisted.needs_you.is_empty();
        self.integrations.iter().any(IntegrationReport::needs_you) || self.unlisted.iter().any(unlisted)
    }
}

/// True if it may have devices of other namespaces.
fn admits_others(integration: &DpsIntegration) -> bool {
    integration.spec.allowed_namespaces.as_ref().is_some_and(|allowed| allowed.from != NamespacesFrom::Same)
}

pub fn key_of(integration: &DpsIntegration) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&integration.metadata.namespace), part(&integration.metadata.name))
}

/// True for what stands in the place of a reason.
pub fn is_new(reason: &str) -> bool {
    reason == NEW
}
