//! What has to hold after each change that the API server stores, and whenever the operator rests.

use dps_simulator::RegistrationState;
use serde_json::{Value, json};

use super::course::Course;
use super::moves::{Device, NAMES};
use super::play::secret_name;
use crate::engine::tests::api::Stored;
use crate::engine::tests::{condition, vouching};
use crate::fleet::hash;

impl Course {
    /// What DPS has of a device.
    pub(super) fn registration(&self, device: Device) -> Option<RegistrationState> {
        self.world.dps.control().registration(self.wanted[device].scope(), self.registration_id(device))
    }

    /// The payload with which DPS has registered a device last.
    pub(super) fn payload_at_dps(&self, device: Device) -> Option<String> {
        let payload = self.registration(device)?.payload?;
        payload.get("site").and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn wanted_payload(&self, device: Device) -> &'static str {
        if self.wanted[device].other_payload { "b" } else { "a" }
    }

    /// A status goes forward, and does not say Ready before there is a Secret that says the same.
    pub(super) fn judge_change(&mut self, stored: &Stored) {
        if stored.kind != "provisioneddevices" || stored.deleted {
            return;
        }
        let (object, status) = (&stored.object, &stored.object["status"]);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let observed = status["observedGeneration"].as_i64().unwrap_or(-1);
        let ready = condition(status, "Ready")["status"] == "True";
        let (before, was_ready) = self.said.insert(uid, (observed, ready)).unwrap_or((-1, false));
        if observed < before {
            self.breaks(format!("observedGeneration of {name} goes back from {before} to {observed}"));
        }
        // Others may have taken the Secret away, which the operator is still to see; and of what was held back the
        // Secret is not known any more.
        let is_late = self.late.contains(&object["metadata"]["resourceVersion"].to_string());
        if ready && !was_ready && !is_late && self.held_kinds.is_empty() && !self.has_unseen_secrets() {
            let secret = status["secret"]["name"].as_str().unwrap_or_default();
            match self.world.api.get("secrets", secret) {
                None => self.breaks(format!("{name} becomes Ready without a Secret")),
                Some(secret) => self.judge_secret(&name, status, &secret),
            }
        }
    }

    fn has_unseen_secrets(&self) -> bool {
        let unseen = self.world.api.changes();
        let has = unseen.iter().any(|stored| stored.kind == "secrets" && stored.deleted);
        self.world.api.put_back(unseen);
        has
    }

    /// Hub, device id and key belong together and are the status's.
    fn judge_secret(&mut self, name: &str, status: &Value, secret: &Value) {
        let text = |key: &str| vouching::text(secret, key);
        let (hub, device, key) = (text("iotHubHostname"), text("deviceId"), text("sharedAccessKey"));
        let line = format!("HostName={hub};DeviceId={device};SharedAccessKey={key}");
        if status["assignedHub"] != hub.as_str() || status["deviceId"] != device.as_str() {
            self.breaks(format!("Secret and status of {name} differ: {hub}/{device} and {status}"));
        }
        if text("connectionString") != line {
            self.breaks(format!("the connection string of {name} is none of its hub, device id and key"));
        }
        let (scope, id) = (status["idScope"].as_str(), status["registrationId"].as_str());
        let accepts = |(scope, id)| self.world.dps.control().accepts_device_key(scope, id, &key);
        if !scope.zip(id).is_some_and(accepts) {
            self.breaks(format!("the hub does not accept the key in the Secret of {name}"));
        }
    }

    /// What holds whenever the operator has nothing to do.
    pub(super) fn judge_quiet(&mut self) {
        let registers = self.world.registers();
        if registers > self.allowed {
            let allowed = self.allowed;
            self.breaks(format!("{registers} registrations, and reasons for {allowed}"));
        }
        let claims = |device: Device| {
            let status = self.status(device);
            let ready = condition(&status, "Ready")["status"] == "True";
            // One that is to go to another id scope stays Ready where it was until it is registered there.
            let stays = status["idScope"] == self.wanted[device].scope();
            (ready && stays).then(|| (status["idScope"].clone(), status["registrationId"].clone()))
        };
        if claims(0).is_some() && claims(0) == claims(1) && self.held_kinds.is_empty() && self.held.is_empty()
        {
            self.breaks("two devices are Ready with one registration id in one id scope".to_owned());
        }
        if !self.held_kinds.is_empty() || !self.held.is_empty() {
            return;
        }
        for (device, name) in NAMES.into_iter().enumerate() {
            let status = self.status(device);
            if condition(&status, "Ready")["reason"] == "Provisioned" && !self.is_at_work(device) {
                match self.world.api.get("secrets", &secret_name(device)) {
                    None => self.breaks(format!("{name} is Ready without a Secret")),
                    Some(secret) => self.judge_secret(name, &status, &secret),
                }
            }
        }
    }

    /// The operator has something to do for the device, and waits for its time.
    pub(super) fn is_at_work(&self, device: Device) -> bool {
        let engine = &self.world.engine;
        let id = engine.fleet.find("fleet", NAMES[device]);
        id.is_some_and(|id| engine.active.work(id).is_some() || engine.active.permit(id).is_some())
    }

    /// The operator that dies was the only one to know what DPS holds: Secret and status record something else.
    pub(super) fn note_unwritten(&mut self, device: Device) {
        let Some(at_dps) = self.payload_at_dps(device) else { return };
        let key = "dps-operator.io/registered-hash";
        let written = self.secret(device).map(|secret| secret["metadata"]["annotations"][key].clone());
        let said = written.unwrap_or_else(|| self.status(device)["registeredHash"].clone());
        if said != self.registered_hash(device, &at_dps).as_str() {
            self.unwritten_at_death[device] = Some(self.world.registers());
        }
    }

    /// That was taken back before an operator could register it (docs/reliability.md).
    pub(super) fn is_unknowable(&self, device: Device) -> bool {
        let at_dps = self.payload_at_dps(device);
        self.unwritten_at_death[device] == Some(self.world.registers())
            && at_dps.as_deref() != Some(self.wanted_payload(device))
    }

    /// Hash of what is registered with a payload, as it is shown.
    fn registered_hash(&self, device: Device, site: &str) -> String {
        let payload = json!({"site": site});
        let payload = payload.as_object().map(hash::payload);
        let id = self.registration_id(device);
        hash::registered(self.wanted[device].scope(), id, payload, None).shown().to_string()
    }
}
