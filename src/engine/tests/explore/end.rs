//! The end of a course: faults are over, everything has arrived, and time passes until nothing is left to do.

use std::time::Duration;

use serde_json::{Value, json};

use super::course::Course;
use super::fresh::{Fresh, Likeness};
use super::moves::{Device, NAMES};
use super::play::ELSEWHERE;
use crate::engine::tests::condition;

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any wait, also after several tries.
const WAITS: [Duration; 6] =
    [Duration::ZERO, Duration::from_secs(30), MINUTE, MINUTE.saturating_mul(10), LONG, LONG];
const LONG: Duration = Duration::from_secs(2 * 3600);

impl Course {
    /// Leads the course to its end and judges it there, but for what a fresh device would have. Nothing
    /// stays suspended.
    pub(super) async fn end(&mut self) {
        self.disarm();
        self.arrive();
        self.show();
        self.settle().await;
        self.collect_garbage();
        self.rest().await;
        self.judge_quiet();
        self.stays_at_rest().await;
        let is_suspended = self.integration_suspended || self.wanted.iter().any(|wanted| wanted.suspended);
        if is_suspended {
            self.resume();
            self.rest().await;
        }
        self.find_the_moved().await;
        self.judge_quiet();
        for device in [0, 1] {
            self.judge_end(device);
        }
    }

    async fn rest(&mut self) {
        for time in WAITS {
            self.world.pass(time);
            self.show();
            self.settle().await;
        }
    }

    fn resume(&mut self) {
        self.integration_suspended = false;
        self.declare_integrations();
        for (device, name) in NAMES.into_iter().enumerate() {
            if std::mem::take(&mut self.wanted[device].suspended) && self.wanted[device].declared {
                self.world.api.apply("provisioneddevices", name, json!({"spec": {"suspend": false}}));
            }
        }
    }

    /// In the next hour nothing is written and nothing is called, unless a device is tried again and again.
    async fn stays_at_rest(&mut self) {
        if [0, 1].into_iter().any(|device| self.is_refused_its_secret(device)) {
            return;
        }
        let before = (self.world.writes(), self.world.dps.control().ledger_len());
        for _ in 0..6 {
            self.world.pass(10 * MINUTE);
            self.settle().await;
        }
        let after = (self.world.writes(), self.world.dps.control().ledger_len());
        if after != before {
            self.breaks(format!("writes and calls go on at rest: {before:?} became {after:?}"));
        }
    }

    /// Nothing tells of a move in Azure but a lookup, for which users ask.
    async fn find_the_moved(&mut self) {
        let is_concerned = |device: &Device| self.wanted[*device].declared && self.is_moved(*device);
        let moved: Vec<Device> = [0, 1].into_iter().filter(is_concerned).collect();
        for device in &moved {
            self.annotate(*device, "reconcile.fluxcd.io/requestedAt");
        }
        if !moved.is_empty() {
            self.rest().await;
        }
    }

    /// What stands in its place came out of a backup and was written for another id scope: a user has to decide.
    fn is_refused_its_secret(&self, device: Device) -> bool {
        let secret = self.secret(device).unwrap_or_default();
        let written_for = secret["metadata"]["annotations"]["dps-operator.io/registration"].as_str();
        let scope = written_for.and_then(|written_for| written_for.split('/').next());
        let is_of_another = scope.is_some_and(|scope| scope != self.wanted[device].scope());
        let reason = condition(&self.status(device), "Ready")["reason"].clone();
        is_of_another && secret["metadata"]["ownerReferences"].is_null() && reason == "SecretConflict"
    }

    fn is_moved(&self, device: Device) -> bool {
        self.registration(device).is_some_and(|found| found.assigned_hub.as_deref() == Some(ELSEWHERE))
    }

    fn judge_end(&mut self, device: Device) {
        if !self.wanted[device].declared || self.is_refused_its_secret(device) {
            return;
        }
        let name = NAMES[device];
        let status = self.status(device);
        let reason = |status: &Value| condition(status, "Ready")["reason"].clone();
        if self.is_contested() {
            let other = reason(&self.status(1 - device));
            let pair = [reason(&status), other];
            if !pair.contains(&json!("Provisioned")) || !pair.contains(&json!("DuplicateRegistrationId")) {
                self.breaks(format!("of two devices with one registration id one should be Ready: {pair:?}"));
            }
            if reason(&status) != "Provisioned" {
                return;
            }
        }
        let object = self.world.api.get("provisioneddevices", name).unwrap_or_default();
        if reason(&status) != "Provisioned"
            || status["observedGeneration"] != object["metadata"]["generation"]
        {
            return self.breaks(format!("{name} is not Ready in the end: {status}"));
        }
        let answered = [
            ("dps-operator.io/reprovision-requested-at", "lastHandledReprovisionToken"),
            ("reconcile.fluxcd.io/requestedAt", "lastHandledReconcileAt"),
        ];
        for (asked, said) in answered {
            let asked = &object["metadata"]["annotations"][asked];
            if !asked.is_null() && *asked != status[said] {
                self.breaks(format!("{name} was asked for {asked} and says {said} {}", status[said]));
            }
        }
        self.judge_assignment(device, &status);
    }

    /// Both devices have the same registration id in the same id scope.
    pub(super) fn is_contested(&self) -> bool {
        let [first, second] = &self.wanted;
        second.rival && first.declared && second.declared && first.scope() == second.scope()
    }

    /// DPS has for the device what is wanted and what the status says.
    fn judge_assignment(&mut self, device: Device, status: &Value) {
        if self.is_unknowable(device) {
            return;
        }
        let name = NAMES[device];
        let hub = self.registration(device).and_then(|found| found.assigned_hub);
        if status["assignedHub"].as_str() != hub.as_deref() {
            self.breaks(format!("{name} says {} and DPS {hub:?}", status["assignedHub"]));
        }
        let (wanted, at_dps) = (self.wanted_payload(device), self.payload_at_dps(device));
        if at_dps.as_deref() != Some(wanted) {
            self.breaks(format!("{name} wants payload {wanted:?}, and DPS was given {at_dps:?}"));
        }
    }

    /// A device that was never through any of this would have the same.
    pub(super) fn judge_likeness(&mut self, device: Device, fresh: &Fresh) {
        let mut own = Fresh::of(self, device);
        if self.is_moved(device) || self.is_unknowable(device) {
            own = own.at_the_hub_of(fresh);
        }
        if own != *fresh {
            self.breaks(format!("{} is {own:?}, and a fresh one {fresh:?}", NAMES[device]));
        }
    }

    /// What a fresh device would have to be like, for each device that is Ready.
    pub(super) fn likenesses(&self) -> Vec<(Device, Likeness)> {
        let is_ready = |device: &Device| {
            self.wanted[*device].declared && self.world.reason(NAMES[*device]) == "Provisioned"
        };
        let like = |device: Device| (device, Likeness::of(self, device));
        [0, 1].into_iter().filter(is_ready).map(like).collect()
    }
}
