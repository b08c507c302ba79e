//! What of a course makes a difference to what follows: two of the same digest go on alike.

use std::fmt::Write as _;

use serde_json::Value;

use super::course::Course;
use super::moves::{Device, NAMES};
use crate::engine::tests::{OTHER_SCOPE, SCOPE};

impl Course {
    pub(super) fn digest(&self) -> String {
        let mut text = format!(
            "{:?} {} {} {:?} {} {}\n",
            self.wanted,
            self.secondary,
            self.integration_suspended,
            self.held_kinds,
            self.held.len(),
            self.holds_answers
        );
        for device in [0, 1] {
            self.device_digest(device, &mut text);
        }
        for scope in [SCOPE, OTHER_SCOPE] {
            for id in NAMES {
                let found = self.world.dps.control().registration(scope, id);
                let found = found.map(|found| (found.assigned_hub, found.payload));
                let _ = writeln!(text, "{scope}/{id} {found:?}");
            }
        }
        let integrations = ["factory", "other"].map(|name| self.world.api.get("dpsintegrations", name));
        let credentials =
            integrations.map(|found| found.map(|found| found["status"]["credentials"].to_string()));
        let _ = writeln!(text, "{credentials:?} {}", self.waits());
        text
    }

    /// For how many minutes at least nothing is due, by magnitude.
    fn waits(&self) -> u32 {
        let (engine, now) = (&self.world.engine, self.world.now.mono);
        let next = engine.ready.next_due().map(|at| at.saturating_duration_since(now).as_secs() / 60 + 1);
        next.map_or(0, |minutes| minutes.ilog2() + 1)
    }

    fn device_digest(&self, device: Device, text: &mut String) {
        let (api, engine) = (&self.world.api, &self.world.engine);
        let object = api.get("provisioneddevices", NAMES[device]).unwrap_or_default();
        let secret = self.secret(device).unwrap_or_default();
        let (meta, status) = (&object["metadata"], &object["status"]);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let conditions: Vec<String> =
            conditions.map(|it| format!("{}={}/{}", it["type"], it["status"], it["reason"])).collect();
        let owners = &secret["metadata"]["ownerReferences"][0]["uid"];
        let _ = writeln!(
            text,
            "{conditions:?} {} {} {} {} {} {} {} {} {} {} {} {}",
            status["observedGeneration"] == meta["generation"],
            status["assignedHub"],
            status["previousHub"],
            status["registeredHash"],
            status["credential"]["slot"],
            status["attempts"],
            status["secret"]["resourceVersion"] == secret["metadata"]["resourceVersion"],
            status["secret"]["renderedHash"],
            *owners == meta["uid"],
            status["lastHandledReprovisionToken"]
                == meta["annotations"]["dps-operator.io/reprovision-requested-at"],
            status["lastHandledReconcileAt"] == meta["annotations"]["reconcile.fluxcd.io/requestedAt"],
            secret["data"],
        );
        let known = engine.fleet.find("fleet", NAMES[device]);
        let Some(work) = known.and_then(|id| engine.active.work(id)) else {
            let _ = writeln!(text, "{} {}", known.is_some(), self.is_at_work(device));
            return;
        };
        let facts = &work.facts;
        let failure = facts.failure.as_ref().map(|failure| (failure.work, failure.reason, failure.attempts));
        let registered = facts.registered.as_ref().map(|it| (&it.hub, it.hash, it.slot));
        let stored = |value: &Value| value.as_str().and_then(|version| version.parse::<u64>().ok());
        let secret_known = facts
            .secret
            .as_ref()
            .map(|it| Some(it.version) == stored(&secret["metadata"]["resourceVersion"]));
        let _ = writeln!(
            text,
            "{failure:?} {registered:?} {secret_known:?} {} {:?} {:?} {} {} {:?} {} {} {:?} {}",
            facts.open.is_some(),
            facts.unresolved,
            facts.trigger,
            facts.fresh,
            facts.doubt.is_some(),
            facts.trust,
            work.task.is_some(),
            work.secret_read,
            work.freshness,
            work.unreported,
        );
    }
}
