//! The registration of one device: its operations, its registration record and its identity at the hub.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::hub_identity::HubIdentity;
use super::plan::{Assignment, Plan, PlannedResult, RegistrationError};
use super::wire::{
    RegistrationState, RegistrationStatus, Substatus, SymmetricKeyResult, X509Result, timestamp,
};
use crate::certificate::{Certificate, CertificateShown, Thumbprint};
use crate::clock::Moment;
use crate::config::{Readings, SubstatusOnRepeat, SubstatusOnReturn, X509ResultReading};
use crate::ids::Ids;
use crate::keys::KeySlot;

/// How many operations can still be polled besides the newest.
const KEPT_OPERATIONS: usize = 4;

/// What an id scope stores under one registration id.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    /// The registration id as it is answered.
    id: String,
    created: Timestamp,
    operations: VecDeque<Operation>,
    record: Option<Record>,
    last_assignment: Option<LastAssignment>,
    /// The device's identity at the hub. It stays when the record is deleted.
    at_hub: Option<HubIdentity>,
    /// The certificates that were issued to the device. The hub knows no thumbprints of them: it trusts the
    /// CA, so that one does not take the place of another.
    issued: Vec<Thumbprint>,
    /// The slot of the enrollment key that the device registered with first.
    pub first_key: Option<KeySlot>,
}

/// A registration operation, in progress or done.
#[derive(Debug)]
struct Operation {
    id: String,
    completes: Moment,
    /// The result; none when it has completed.
    plan: Option<Plan>,
    /// The certificate that was issued by it, once it has assigned the device.
    issued: Option<Certificate>,
}

/// The registration record: the result of the last completed operation.
#[derive(Debug)]
struct Record {
    updated: Timestamp,
    etag: String,
    status: RegistrationStatus,
    substatus: Option<Substatus>,
    error: Option<RegistrationError>,
    payload: Option<Map<String, Value>>,
    group: Option<Arc<str>>,
    /// The device's certificate, and how much of it is shown.
    certificate: Option<(CertificateShown, X509ResultReading)>,
}

/// The last assignment; a failure after it does not change it.
#[derive(Debug)]
struct LastAssignment {
    hub: Arc<str>,
    device_id: String,
    /// The hubs that the device was assigned to before.
    earlier_hubs: Vec<Arc<str>>,
}

impl Registration {
    pub fn new(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    /// Whether there is a record or an operation.
    pub fn exists(&self) -> bool {
        self.record.is_some() || !self.operations.is_empty()
    }

    /// Whether an operation is going on.
    pub fn is_assigning(&self) -> bool {
        self.operations.iter().any(|operation| operation.plan.is_some())
    }

    /// The hub that the device is assigned to.
    pub fn hub(&self) -> Option<&Arc<str>> {
        self.last_assignment.as_ref().map(|last| &last.hub)
    }

    /// Begins an operation and returns its id.
    pub fn start(&mut self, now: Moment, think_time: Duration, plan: Plan, ids: &Ids) -> String {
        if !self.exists() {
            self.created = now.wall;
        }
        let id = ids.operation();
        if self.operations.len() > KEPT_OPERATIONS {
            self.operations.pop_front();
        }
        self.operations.push_back(Operation {
            id: id.clone(),
            completes: Moment { steady: now.steady + think_time, wall: now.wall + think_time },
            plan: Some(plan),
            issued: None,
        });
        id
    }

    /// Completes the operations whose time has come; to be called before anything is read.
    pub fn complete_due(&mut self, now: Duration, readings: &Readings, ids: &Ids) {
        let mut due = Vec::new();
        for operation in &mut self.operations {
            if operation.completes.steady <= now
                && let Some(plan) = operation.plan.take()
            {
                operation.issued = plan.issued().cloned();
                due.push((plan, operation.completes.wall));
            }
        }
        for (plan, at) in due {
            self.apply(plan, at, readings, ids);
        }
    }

    /// Writes the result of an operation into the record.
    pub fn apply(&mut self, plan: Plan, at: Timestamp, readings: &Readings, ids: &Ids) {
        let mut record = Record {
            updated: at,
            etag: ids.etag(),
            status: RegistrationStatus::Disabled,
            substatus: None,
            error: None,
            payload: None,
            group: plan.group,
            certificate: plan.certificate.map(|certificate| (certificate, readings.x509_result)),
        };
        match plan.result {
            PlannedResult::Disable => {}
            PlannedResult::Fail(error) => {
                record.status = RegistrationStatus::Failed;
                record.error = Some(error);
            }
            PlannedResult::Assign(assignment) => {
                record.status = RegistrationStatus::Assigned;
                record.substatus = Some(self.substatus(&assignment, readings));
                record.payload = assignment.payload;
                self.issued.extend(assignment.issued.as_ref().map(Certificate::thumbprint));
                let before = self.at_hub.take();
                self.at_hub = Some(assignment.identity.after(before.as_ref(), readings.old_thumbprint));
                self.set_assignment(assignment.hub, assignment.device_id);
            }
        }
        self.record = Some(record);
    }

    /// Whether the operation with this id can be polled.
    pub fn has_operation(&self, operation_id: &str) -> bool {
        self.operations.iter().any(|operation| operation.id == operation_id)
    }

    /// The certificate that an operation has issued.
    pub fn issued_by(&self, operation_id: &str) -> Option<&Certificate> {
        self.operations.iter().find(|operation| operation.id == operation_id)?.issued.as_ref()
    }

    /// The registration record as devices see it.
    pub fn state(&self) -> Option<RegistrationState> {
        if self.is_assigning() {
            return Some(self.assigning_state());
        }
        let record = self.record.as_ref()?;
        let assigned = match record.status {
            RegistrationStatus::Assigned => self.last_assignment.as_ref(),
            _ => None,
        };
        let by_key = record.group.as_ref().filter(|_| record.certificate.is_none());
        let certificate = record.certificate.as_ref();
        Some(RegistrationState {
            registration_id: self.id.clone(),
            created_date_time_utc: timestamp(self.created),
            assigned_hub: assigned.map(|assigned| assigned.hub.to_string()),
            device_id: assigned.map(|assigned| assigned.device_id.clone()),
            status: record.status,
            substatus: record.substatus,
            error_code: record.error.map(|error| error.code),
            error_message: record.error.map(|error| error.message.to_owned()),
            last_updated_date_time_utc: timestamp(record.updated),
            etag: record.etag.clone(),
            payload: record.payload.clone(),
            symmetric_key: by_key.map(|group| SymmetricKeyResult { enrollment_group_id: group.to_string() }),
            x509: certificate
                .and_then(|(shown, reading)| X509Result::of(shown, record.group.as_ref(), *reading)),
            issued_certificate_chain: None,
        })
    }

    /// Whether the device's identity at the hub has this key.
    pub fn hub_accepts(&self, key: &str) -> bool {
        self.at_hub.as_ref().is_some_and(|identity| identity.accepts_key(key))
    }

    /// Whether the device's identity at the hub has this certificate, or it was issued to the device; and it is
    /// in date.
    pub fn hub_accepts_certificate(&self, certificate: &Certificate, now: Timestamp) -> bool {
        if self.issued.contains(&certificate.thumbprint()) {
            return certificate.is_valid_at(now);
        }
        self.at_hub.as_ref().is_some_and(|identity| identity.accepts_certificate(certificate, now))
    }

    /// The thumbprints of its identity at the hub, the primary one first.
    pub fn hub_thumbprints(&self) -> Vec<Thumbprint> {
        self.at_hub.as_ref().map(HubIdentity::thumbprints).unwrap_or_default()
    }

    /// The plan that moves the device to another hub without a register call, with its identity and its
    /// payload as they are; none if it is not assigned.
    pub fn assignment_to(&self, hub: Arc<str>) -> Option<Plan> {
        let last = self.last_assignment.as_ref()?;
        Some(Plan {
            group: self.record.as_ref()?.group.clone(),
            certificate: self.record.as_ref()?.certificate.as_ref().map(|(shown, _)| shown.clone()),
            result: PlannedResult::Assign(Box::new(Assignment {
                hub,
                device_id: last.device_id.clone(),
                payload: self.record.as_ref()?.payload.clone(),
                migrate: true,
                identity: self.at_hub.clone()?,
                issued: None,
            })),
        })
    }

    /// The device id that it has had since its record was made: an enrollment that names another one by now
    /// changes nothing before that record is deleted.
    pub fn device_id(&self) -> Option<String> {
        self.last_assignment.as_ref().map(|last| last.device_id.clone())
    }

    /// Deletes the record; the hub keeps the device's identity and trusts the certificates issued to it.
    pub fn delete_record(&mut self) {
        let (at_hub, issued) = (self.at_hub.take(), std::mem::take(&mut self.issued));
        *self = Self { at_hub, issued, ..Self::new(std::mem::take(&mut self.id)) };
    }

    fn assigning_state(&self) -> RegistrationState {
        let started = self.record.as_ref().map_or(self.created, |r| r.updated);
        let etag = self.record.as_ref().map(|r| r.etag.clone());
        RegistrationState {
            registration_id: self.id.clone(),
            created_date_time_utc: timestamp(self.created),
            assigned_hub: None,
            device_id: None,
            status: RegistrationStatus::Assigning,
            substatus: None,
            error_code: None,
            error_message: None,
            last_updated_date_time_utc: timestamp(started),
            etag: etag.unwrap_or_default(),
            payload: None,
            symmetric_key: None,
            x509: None,
            issued_certificate_chain: None,
        }
    }

    fn substatus(&self, assignment: &Assignment, readings: &Readings) -> Substatus {
        let Some(last) = &self.last_assignment else {
            return Substatus::InitialAssignment;
        };
        if last.hub == assignment.hub {
            let shown = self.record.as_ref().and_then(|record| record.substatus);
            return match (readings.substatus_on_repeat, shown) {
                (SubstatusOnRepeat::Unchanged, Some(shown)) => shown,
                _ => Substatus::InitialAssignment,
            };
        }
        let returns = last.earlier_hubs.contains(&assignment.hub);
        match readings.substatus_on_return {
            SubstatusOnReturn::ReprovisionedToInitialAssignment if returns => {
                Substatus::ReprovisionedToInitialAssignment
            }
            _ if assignment.migrate => Substatus::DeviceDataMigrated,
            _ => Substatus::DeviceDataReset,
        }
    }

    fn set_assignment(&mut self, hub: Arc<str>, device_id: String) {
        let mut earlier_hubs = Vec::new();
        if let Some(last) = self.last_assignment.take() {
            earlier_hubs = last.earlier_hubs;
            if last.hub != hub && !earlier_hubs.contains(&last.hub) {
                earlier_hubs.push(last.hub);
            }
        }
        self.last_assignment = Some(LastAssignment { hub, device_id, earlier_hubs });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyPair, SymmetricKey};

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

    fn to(hub: &str, migrate: bool) -> Plan {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        Plan {
            group: Some("group".into()),
            certificate: None,
            result: PlannedResult::Assign(Box::new(Assignment {
                hub: hub.into(),
                device_id: "dev".to_owned(),
                payload: None,
                migrate,
                identity: HubIdentity::Keys(KeyPair {
                    primary: key.derive("dev"),
                    secondary: key.derive("other"),
                }),
                issued: None,
            })),
        }
    }

    fn substatuses(readings: &Readings, plans: Vec<Plan>) -> Vec<Substatus> {
        let ids = Ids::new();
        let mut registration = Registration::new("dev".to_owned());
        let one = |plan| {
            registration.apply(plan, Timestamp::UNIX_EPOCH, readings, &ids);
            registration.state().unwrap().substatus.unwrap()
        };
        plans.into_iter().map(one).collect()
    }

    #[test]
    fn repeating_at_the_same_hub_stays_an_initial_assignment() {
        let plans = vec![to("a", true), to("a", true), to("b", true), to("b", true)];
        assert_eq!(
            substatuses(&Readings::default(), plans.clone()),
            [
                Substatus::InitialAssignment,
                Substatus::InitialAssignment,
                Substatus::DeviceDataMigrated,
                Substatus::InitialAssignment,
            ]
        );
        let unchanged = Readings { substatus_on_repeat: SubstatusOnRepeat::Unchanged, ..Readings::default() };
        assert_eq!(substatuses(&unchanged, plans)[3], Substatus::DeviceDataMigrated);
    }

    #[test]
    fn a_return_to_a_hub_is_an_ordinary_move_or_not_by_reading() {
        let plans = vec![to("a", true), to("b", false), to("a", true)];
        assert_eq!(
            substatuses(&Readings::default(), plans.clone()),
            [Substatus::InitialAssignment, Substatus::DeviceDataReset, Substatus::DeviceDataMigrated,]
        );
        let returning = Readings {
            substatus_on_return: SubstatusOnReturn::ReprovisionedToInitialAssignment,
            ..Readings::default()
        };
        assert_eq!(substatuses(&returning, plans)[2], Substatus::ReprovisionedToInitialAssignment);
    }

    #[test]
    fn the_last_hub_is_kept_when_a_registration_fails() {
        let error = RegistrationError { code: 400_208, message: "no hub" };
        let failure = Plan { group: None, certificate: None, result: PlannedResult::Fail(error) };
        let ids = Ids::new();
        let mut registration = Registration::new("dev".to_owned());
        let readings = Readings::default();
        for plan in [to("a", true), failure] {
            registration.apply(plan, Timestamp::UNIX_EPOCH, &readings, &ids);
        }
        let failed = registration.state().unwrap();
        assert_eq!(failed.error_code, Some(400_208));
        assert_eq!(failed.assigned_hub, None);

        registration.apply(to("b", true), Timestamp::UNIX_EPOCH, &readings, &ids);
        let moved = registration.state().unwrap();
        assert_eq!(moved.substatus, Some(Substatus::DeviceDataMigrated));
    }

    #[test]
    fn an_operation_completes_when_its_time_has_come_and_not_before() {
        let ids = Ids::new();
        let readings = Readings::default();
        let mut registration = Registration::new("dev".to_owned());
        let start = Moment { steady: Duration::from_secs(10), wall: Timestamp::UNIX_EPOCH };
        let operation = registration.start(start, Duration::from_secs(3), to("a", true), &ids);

        registration.complete_due(Duration::from_millis(12_999), &readings, &ids);
        assert!(registration.is_assigning());
        assert_eq!(registration.state().unwrap().assigned_hub, None);

        registration.complete_due(Duration::from_secs(13), &readings, &ids);
        assert!(!registration.is_assigning());
        let state = registration.state().unwrap();
        assert_eq!(state.assigned_hub.as_deref(), Some("a"));
        assert_eq!(state.last_updated_date_time_utc, "1970-01-01T00:00:03.0000000Z");
        assert!(registration.has_operation(&operation));
        assert!(!registration.has_operation("4.unknown"));
    }

    #[test]
    fn a_deleted_record_leaves_the_identity_at_the_hub() {
        let ids = Ids::new();
        let key = SymmetricKey::from_base64(KEY).unwrap();
        let mut registration = Registration::new("dev".to_owned());
        registration.apply(to("a", true), Timestamp::UNIX_EPOCH, &Readings::default(), &ids);
        registration.delete_record();
        assert!(!registration.exists());
        assert!(registration.state().is_none());
        assert!(registration.hub_accepts(&key.derive("dev").to_base64()));
        assert!(registration.hub_accepts(&key.derive("other").to_base64()));
        assert!(!registration.hub_accepts(&key.to_base64()));
    }
}
