//! Register, poll and lookup of a device whose token or certificate was verified.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::allocation::Choice;
use super::hub_identity::HubIdentity;
use super::plan::{Assignment, Plan, PlannedResult, RegistrationError};
use super::refusal::Refusal;
use super::registration::Registration;
use super::scope::{Scope, Verified};
use super::settings::Settings;
use super::wire::{self, RegistrationState, RegistrationStatus};
use crate::certificate::{Certificate, Thumbprint};
use crate::clock::Moment;
use crate::config::{
    Acceptance, ConcurrentRegister, LookupAfterDisable, LookupOfUnknown, Presence, Readings, ShownOn,
    UnknownOperation, UpperCaseRegistrationId,
};
use crate::ids::Ids;
use crate::issuing_ca::IssuingCa;
use crate::registration_id;

/// The error of a registration for which no hub is linked.
const NO_HUB: RegistrationError =
    RegistrationError { code: 400_208, message: "No IoT hub is available to the enrollment." };
/// The error of a registration whose webhook did not answer with a linked hub.
const WEBHOOK_FAILED: RegistrationError =
    RegistrationError { code: 400_207, message: "Custom allocation failed with status code: 400" };

/// What a call needs for a certificate to be issued.
pub(super) struct Issuance<'a> {
    pub ca: &'a IssuingCa,
    /// Whether the api-version of the call has it.
    pub in_version: bool,
}

/// A call whose token or certificate was verified, with what its answer depends on.
pub(super) struct Call<'a> {
    /// The registration id as in the path.
    pub registration_id: &'a str,
    pub verified: Verified,
    pub readings: &'a Readings,
    pub ids: &'a Ids,
    pub now: Moment,
    pub issuance: Issuance<'a>,
}

/// A successful answer.
pub(super) enum Reply {
    /// 202: the operation is going on, for which a certificate may have just been issued.
    Assigning { operation_id: String, issued: Option<Thumbprint> },
    /// 200: the operation is done; with the device's certificate of the chain in the state.
    Completed { operation_id: String, state: RegistrationState, issued: Option<Thumbprint> },
    /// 200: the record alone, as a status lookup returns it.
    Record(RegistrationState),
}

impl Call<'_> {
    pub fn register(&self, scope: &mut Scope, body: &[u8], settings: &Settings) -> Result<Reply, Refusal> {
        let content = self.read(body)?;
        let asked = self.signing_request(content.csr)?;
        let Scope { hubs, registrations, .. } = scope;
        let registration = registrations
            .entry(self.registration_id.to_ascii_lowercase())
            .or_insert_with(|| Registration::new(self.answered_id()));
        registration.complete_due(self.now.steady, self.readings, self.ids);
        let first_key = *registration.first_key.get_or_insert(self.verified.key.slot);
        if first_key != self.verified.key.slot && self.readings.alternate_key == Acceptance::Refused {
            return Err(Refusal::WRONG_KEY);
        }
        if registration.is_assigning() {
            match self.readings.concurrent_register {
                ConcurrentRegister::Conflict => return Err(Refusal::Conflict),
                ConcurrentRegister::PreconditionFailed => return Err(Refusal::PreconditionFailed),
                ConcurrentRegister::NewOperation => {}
            }
        }
        let choice =
            self.verified.enrollment.allocation.choose(hubs, self.registration_id, content.payload.as_ref());
        let mut plan = self.plan(registration, choice);
        if let (PlannedResult::Assign(assignment), Some(asked)) = (&mut plan.result, &asked) {
            assignment.issued = Some(self.issue(asked)?);
        }
        let shown_at_once = matches!(plan.result, PlannedResult::Disable)
            && self.readings.disabled_shown_on == ShownOn::Register;
        if settings.assign_at_once || shown_at_once {
            let operation = registration.start(self.now, Duration::ZERO, plan, self.ids);
            registration.complete_due(self.now.steady, self.readings, self.ids);
            return Ok(self.reply(operation, registration));
        }
        let issued = plan.issued().map(Certificate::thumbprint);
        let operation_id = registration.start(self.now, settings.think_time, plan, self.ids);
        Ok(Reply::Assigning { operation_id, issued })
    }

    pub fn poll(&self, scope: &mut Scope, operation_id: &str) -> Result<Reply, Refusal> {
        self.check_id()?;
        let registration = self.registration(scope);
        match registration.filter(|registration| registration.has_operation(operation_id)) {
            Some(registration) => Ok(self.reply(operation_id.to_owned(), registration)),
            None => Err(match self.readings.unknown_operation {
                UnknownOperation::NotFound => Refusal::NotFound("Operation not found."),
                UnknownOperation::BadRequest => Refusal::BadRequest("Operation not found."),
            }),
        }
    }

    pub fn lookup(&self, scope: &mut Scope, body: &[u8]) -> Result<Reply, Refusal> {
        let content = self.read(body)?;
        if self.known_csr(content.csr)?.is_some() {
            return Err(Refusal::BadRequest("A lookup takes no csr."));
        }
        let Some(mut state) = self.registration(scope).and_then(|r| r.state()) else {
            return Err(match self.readings.lookup_of_unknown {
                LookupOfUnknown::NotFound => Refusal::NotFound("Registration not found."),
                LookupOfUnknown::Unauthorized => Refusal::WRONG_KEY,
            });
        };
        if self.readings.lookup_payload == Presence::Absent {
            state.payload = None;
        }
        let disabled = !self.verified.enrollment.enabled;
        if disabled && self.readings.lookup_after_disable == LookupAfterDisable::Disabled {
            state.status = RegistrationStatus::Disabled;
            state.substatus = None;
            state.assigned_hub = None;
            state.device_id = None;
        }
        Ok(Reply::Record(state))
    }

    fn read(&self, body: &[u8]) -> Result<wire::RequestContent, Refusal> {
        self.check_id()?;
        wire::read_body(body, self.registration_id, self.readings)
    }

    fn check_id(&self) -> Result<(), Refusal> {
        match registration_id::is_valid(self.registration_id) {
            true => Ok(()),
            false => Err(Refusal::BadRequest("The registrationId is not valid.")),
        }
    }

    fn registration<'s>(&self, scope: &'s mut Scope) -> Option<&'s mut Registration> {
        let id = self.registration_id.to_ascii_lowercase();
        let registration = scope.registrations.get_mut(&id)?;
        registration.complete_due(self.now.steady, self.readings, self.ids);
        Some(registration)
    }

    fn plan(&self, registration: &Registration, choice: Choice) -> Plan {
        let enrollment = &self.verified.enrollment;
        let stays = match enrollment.reprovision.update_hub_assignment {
            true => None,
            false => registration.hub().cloned(),
        };
        let named = self.verified.device_id.clone();
        let id = registration.device_id().or(named).unwrap_or_else(|| self.answered_id());
        let result = match (choice, stays) {
            _ if !enrollment.enabled => PlannedResult::Disable,
            // The webhook is called even if the device stays on its hub.
            (Choice::WebhookFailed, _) => PlannedResult::Fail(WEBHOOK_FAILED),
            (Choice::Hub { payload, .. }, Some(hub)) => self.assign(hub, id, payload),
            (Choice::NoHub, Some(hub)) => self.assign(hub, id, None),
            (Choice::Hub { hub, payload }, None) => self.assign(hub, id, payload),
            (Choice::NoHub, None) => PlannedResult::Fail(NO_HUB),
        };
        let certificate = match &self.verified.identity {
            HubIdentity::Keys(_) => None,
            HubIdentity::Certificate { primary, .. } => Some(primary.shown()),
        };
        Plan { group: self.verified.group.clone(), certificate, result }
    }

    fn assign(&self, hub: Arc<str>, device_id: String, payload: Option<Map<String, Value>>) -> PlannedResult {
        PlannedResult::Assign(Box::new(Assignment {
            hub,
            device_id,
            payload,
            migrate: self.verified.enrollment.reprovision.migrate_device_data,
            identity: self.verified.identity.clone(),
            issued: None,
        }))
    }

    pub(super) fn answered_id(&self) -> String {
        match self.readings.upper_case_registration_id {
            UpperCaseRegistrationId::Lowered => self.registration_id.to_ascii_lowercase(),
            UpperCaseRegistrationId::AsSent => self.registration_id.to_owned(),
        }
    }

    fn reply(&self, operation_id: String, registration: &Registration) -> Reply {
        match registration.state() {
            Some(mut state) if state.status != RegistrationStatus::Assigning => {
                let is_assigned = state.status == RegistrationStatus::Assigned;
                let issued = registration.issued_by(&operation_id).filter(|_| is_assigned);
                state.issued_certificate_chain = issued.map(|leaf| self.issuance.ca.chain_of(leaf));
                Reply::Completed { operation_id, state, issued: issued.map(Certificate::thumbprint) }
            }
            _ => Reply::Assigning { operation_id, issued: None },
        }
    }
}
