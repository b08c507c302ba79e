//! The moves: what users and the world do, and how faults are set up.

use std::time::Duration;

use dps_simulator::{Fault as DpsFault, FaultAction, OperationKind};
use serde_json::{Value, json};

use super::course::{Course, Wanted};
use super::moves::{Device, Effect, Fault, Move, NAMES, Start, Step};
use crate::engine::tests::api::{Spoiled, Wrong};
use crate::engine::tests::{OTHER_SCOPE, SCOPE};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Where devices are that were moved in Azure.
pub(super) const ELSEWHERE: &str = "hub-m.azure-devices.net";
pub(super) const INTEGRATIONS: [(&str, &str); 2] = [("factory", SCOPE), ("other", OTHER_SCOPE)];

/// Name of a device's Secret.
pub(super) fn secret_name(device: Device) -> String {
    format!("{}-hub", NAMES[device])
}

impl Course {
    /// Leads a new world to where the course begins.
    pub(super) async fn begin(&mut self, start: Start) {
        self.declare_integrations();
        self.world.complete();
        self.show_roots();
        self.settle().await;
        match start {
            Start::Empty => {}
            Start::Settled => self.declare_and_settle(0).await,
            Start::Rivals => {
                self.declare_and_settle(0).await;
                self.declare_and_settle(1).await;
            }
            Start::SecretRestored => {
                self.declare_and_settle(0).await;
                self.remove(0);
                self.world.api.apply(
                    "secrets",
                    &secret_name(0),
                    json!({"metadata": {"ownerReferences": null}}),
                );
                self.settle().await;
            }
        }
        self.allowed = self.world.registers();
    }

    pub(super) async fn declare_and_settle(&mut self, device: Device) {
        self.declare(device);
        self.settle().await;
        self.world.pass(MINUTE);
        self.settle().await;
    }

    /// Whether the move can be made.
    pub(super) fn can(&self, step: Step) -> bool {
        let has_secret = |device: Device| self.world.api.get("secrets", &secret_name(device)).is_some();
        match step.what {
            Move::Replaced(device)
            | Move::Payload(device)
            | Move::Suspended(device)
            | Move::Token(device)
            | Move::Look(device)
            | Move::Integration(device)
            | Move::Label(device) => self.wanted[device].declared,
            Move::SecretDeleted(device) | Move::SecretEdited(device) => has_secret(device),
            Move::MovedInAzure(device) => self.registration(device).is_some(),
            Move::Arrives => !self.held.is_empty() || !self.held_kinds.is_empty(),
            Move::Existence(_)
            | Move::Slot
            | Move::IntegrationSuspended
            | Move::Dies
            | Move::Minute
            | Move::Day => true,
        }
    }

    pub(super) async fn play(&mut self, what: Move) {
        self.allowed += self.reasons_to_register(what);
        match what {
            Move::Existence(device) if self.wanted[device].declared => {
                self.remove(device);
                self.collect_garbage();
            }
            Move::Existence(device) => self.declare(device),
            Move::Replaced(device) => {
                self.remove(device);
                self.declare(device);
            }
            Move::Payload(device) => {
                self.wanted[device].other_payload ^= true;
                self.edit(device);
            }
            Move::Suspended(device) => {
                self.wanted[device].suspended ^= true;
                self.edit(device);
            }
            Move::Token(device) => self.annotate(device, "dps-operator.io/reprovision-requested-at"),
            Move::Look(device) => self.annotate(device, "reconcile.fluxcd.io/requestedAt"),
            Move::Integration(device) => {
                self.wanted[device].other_integration ^= true;
                self.edit(device);
            }
            Move::Label(device) => {
                self.wanted[device].label += 1;
                self.edit(device);
            }
            Move::SecretDeleted(device) => self.world.api.delete("secrets", &secret_name(device)),
            Move::SecretEdited(device) => {
                let edit = json!({"data": {"iotHubHostname": "ZXZpbA=="}});
                self.world.api.apply("secrets", &secret_name(device), edit);
            }
            Move::MovedInAzure(device) => {
                let (scope, id) = (self.wanted[device].scope(), self.registration_id(device));
                self.world.dps.control().move_device(scope, id, ELSEWHERE).unwrap();
            }
            Move::Slot => {
                self.secondary ^= true;
                self.declare_integrations();
            }
            Move::IntegrationSuspended => {
                self.integration_suspended ^= true;
                self.declare_integrations();
            }
            Move::Dies => self.die(),
            Move::Minute => self.world.pass(MINUTE),
            Move::Day => self.world.pass(DAY),
            Move::Arrives => self.arrive(),
        }
        self.show();
    }

    /// How many registrations a move can bring about, at most.
    fn reasons_to_register(&self, what: Move) -> usize {
        // Where one device makes way, the other one has the registration id.
        let both = if self.has_rivals() { 2 } else { 1 };
        match what {
            Move::Existence(_) | Move::Replaced(_) | Move::Integration(_) => both,
            Move::Payload(_) | Move::Token(_) => 1,
            Move::Slot => 2,
            Move::Suspended(_)
            | Move::Look(_)
            | Move::Label(_)
            | Move::SecretDeleted(_)
            | Move::SecretEdited(_)
            | Move::MovedInAzure(_)
            | Move::IntegrationSuspended
            | Move::Dies
            | Move::Minute
            | Move::Day
            | Move::Arrives => 0,
        }
    }

    pub(super) fn declare_integrations(&mut self) {
        let active = if self.secondary { "Secondary" } else { "Primary" };
        for (name, scope) in INTEGRATIONS {
            let spec = json!({
                "idScope": scope, "hostname": format!("localhost:{}", self.world.dps.address().port()),
                "caBundleRef": {"name": "ca", "key": "ca.crt"}, "suspend": self.integration_suspended,
                "attestation": {"symmetricKey": {
                    "primaryKeyRef": {"name": "group", "key": "primaryKey"},
                    "secondaryKeyRef": {"name": "group", "key": "secondaryKey"}, "active": active,
                }},
                "deviceDefaults": {
                    "driftCheck": {"interval": "0s"}, "secret": {"keys": {"returnedPayload": ""}},
                },
            });
            self.world.api.apply("dpsintegrations", name, json!({"spec": spec}));
        }
    }

    pub(super) fn show_roots(&mut self) {
        self.world.show_keys(super::super::KEY, super::super::OTHER_KEY);
    }

    fn spec(&self, device: Device) -> Value {
        let Wanted { other_payload, suspended, other_integration, label, .. } = self.wanted[device];
        json!({
            "integrationRef": {"name": INTEGRATIONS[usize::from(other_integration)].0},
            "registrationId": self.registration_id(device),
            "payload": {"site": if other_payload { "b" } else { "a" }},
            "suspend": suspended,
            "secret": {"labels": {"label": label.to_string()}},
        })
    }

    pub(super) fn declare(&mut self, device: Device) {
        self.wanted[device].declared = true;
        self.edit(device);
    }

    fn edit(&mut self, device: Device) {
        if self.wanted[device].declared {
            let spec = self.spec(device);
            self.world.api.apply("provisioneddevices", NAMES[device], json!({"spec": spec}));
        }
    }

    fn remove(&mut self, device: Device) {
        self.wanted[device].declared = false;
        self.world.api.delete("provisioneddevices", NAMES[device]);
    }

    pub(super) fn annotate(&mut self, device: Device, annotation: &str) {
        self.number += 1;
        let value = json!({"metadata": {"annotations": {annotation: self.number.to_string()}}});
        self.world.api.apply("provisioneddevices", NAMES[device], value);
    }

    /// Secrets go whose owners are all gone.
    pub(super) fn collect_garbage(&mut self) {
        let api = &self.world.api;
        let uid = |name: &str| api.get("provisioneddevices", name).map(|it| it["metadata"]["uid"].clone());
        let alive = NAMES.map(uid);
        for key in api.names("secrets") {
            let owners = api.get("secrets", &key).map(|secret| secret["metadata"]["ownerReferences"].clone());
            let owners = owners.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
            let is_alive = |owner: &Value| alive.iter().flatten().any(|uid| *uid == owner["uid"]);
            if !owners.is_empty() && !owners.iter().any(is_alive) {
                api.delete("secrets", &key);
            }
        }
    }

    /// Sets a fault up, which the next thing that it concerns meets.
    pub(super) fn arm(&mut self, fault: Fault) {
        let inject = |action: FaultAction, late: bool| {
            let fault = DpsFault::global(action).on(OperationKind::Register).times(1);
            let fault = if late { fault.after_processing() } else { fault };
            self.world.dps.control().inject(fault).unwrap();
        };
        let spoil = |effect: Effect, wrong: Wrong| {
            let part = if effect == Effect::Secret { "/secrets" } else { "/status" };
            self.world.api.spoil(Some(Spoiled { part, wrong }));
        };
        match fault {
            Fault::AnswerLost => inject(FaultAction::Reset, true),
            Fault::ServerError => inject(FaultAction::status(500), false),
            Fault::Throttled => inject(FaultAction::throttled("5"), false),
            Fault::AskedToWait => self.world.dps.control().set_retry_after(Some(20 * MINUTE)),
            Fault::AnswerHeld => self.holds_answers = true,
            Fault::DevicesHeld => self.held_kinds.push("provisioneddevices"),
            Fault::SecretsHeld => self.held_kinds.push("secrets"),
            Fault::WriteRefused(effect) => spoil(effect, Wrong::Refused),
            Fault::WriteLost(effect) => spoil(effect, Wrong::Lost),
            Fault::WriteInConflict(effect) => spoil(effect, Wrong::Conflict),
            Fault::DiesAfter(effect) => self.dies_after = Some(effect),
        }
        // Each is registered once more for which DPS gave no answer, or an operator that begins does not know
        // one.
        let again = [Fault::AnswerLost, Fault::ServerError, Fault::Throttled, Fault::AskedToWait];
        self.allowed += usize::from(again.contains(&fault));
    }

    /// What was set up and met nothing is over.
    pub(super) fn disarm(&mut self) {
        self.world.dps.control().clear_faults();
        self.world.dps.control().set_retry_after(Some(Duration::ZERO));
        self.world.api.spoil(None);
        self.dies_after = None;
    }
}
