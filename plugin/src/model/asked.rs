//! What follows when the operator has been asked for something: pure.

use std::collections::BTreeMap;

use dps_operator_api::device::ProvisionedDevice;
use dps_operator_api::integration::DpsIntegration;
use dps_operator_api::names::{RECONCILE_REQUESTED_AT, REPROVISION_REQUESTED_AT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Look at it now; the token tells one request from another.
    Retry(String),
    /// Register once more.
    Reprovision(String),
    Suspend(bool),
}

impl Wish {
    /// The merge patch that says so.
    pub fn patch(&self) -> Value {
        match self {
            Self::Retry(token) => json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: token}}}),
            Self::Reprovision(token) => {
                json!({"metadata": {"annotations": {REPROVISION_REQUESTED_AT: token}}})
            }
            Self::Suspend(suspend) => json!({"spec": {"suspend": suspend}}),
        }
    }
}

/// What is said to a person who has asked an object for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// Of this object.
    pub short: &'static str,
    /// What that means and what comes next; the same for all objects of the kind.
    pub meaning: &'static str,
    /// The status will show when it is done.
    pub is_awaited: bool,
}

const HELD: Answer = Answer {
    short: "is suspended, so it waits",
    meaning: "What is suspended is done once it is resumed: kubectl dps resume.",
    is_awaited: false,
};

/// An object that can be asked for something.
pub trait Askable {
    /// `device` or `integration`.
    const WORD: &'static str;
    fn is_suspended(&self) -> bool;
    /// What the wish means for objects of this kind.
    fn meaning(wish: &Wish) -> &'static str;
    /// True once its status shows that the operator has taken it up.
    fn has_taken_up(&self, wish: &Wish) -> bool;

    fn answer(&self, wish: &Wish) -> Answer {
        let short = match wish {
            Wish::Retry(_) | Wish::Reprovision(_) if self.is_suspended() => return HELD,
            Wish::Retry(_) => "is tried now",
            Wish::Reprovision(_) => "registers once more",
            Wish::Suspend(true) => "suspended",
            Wish::Suspend(false) => "resumed",
        };
        Answer { short, meaning: Self::meaning(wish), is_awaited: true }
    }
}

impl Askable for ProvisionedDevice {
    const WORD: &'static str = "device";

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn meaning(wish: &Wish) -> &'static str {
        match wish {
            Wish::Retry(_) => {
                "The operator does now what it would do later. kubectl dps status shows what comes of it."
            }
            Wish::Reprovision(_) => "DPS decides whether a device stays on its hub. Its Secret follows.",
            Wish::Suspend(true) => {
                "No DPS operation is started for what is suspended. Its Secret is still repaired."
            }
            Wish::Suspend(false) => "What was held goes on.",
        }
    }

    fn has_taken_up(&self, wish: &Wish) -> bool {
        let Some(status) = &self.status else { return false };
        match wish {
            Wish::Retry(token) => status.last_handled_reconcile_at.as_ref() == Some(token),
            Wish::Reprovision(token) => status.last_handled_reprovision_token.as_ref() == Some(token),
            Wish::Suspend(_) => status.observed_generation == self.metadata.generation,
        }
    }
}

impl Askable for DpsIntegration {
    const WORD: &'static str = "integration";

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn meaning(wish: &Wish) -> &'static str {
        match wish {
            Wish::Retry(_) => "What DPS has refused to the integration is tried again.",
            Wish::Reprovision(_) => "All of its devices register once more.",
            Wish::Suspend(true) => {
                "No DPS operation is started for the integration's devices. Their Secrets are still repaired."
            }
            Wish::Suspend(false) => "The integration's devices go on.",
        }
    }

    fn has_taken_up(&self, wish: &Wish) -> bool {
        let Some(status) = &self.status else { return false };
        match wish {
            Wish::Retry(token) => status.last_handled_reconcile_at.as_ref() == Some(token),
            Wish::Reprovision(token) => status.last_handled_reprovision_token.as_ref() == Some(token),
            Wish::Suspend(_) => status.observed_generation == self.metadata.generation,
        }
    }
}

/// The tool that keeps an object as it is in Git, by its marks: it may set back what is changed in the cluster.
pub fn keeper(meta: &ObjectMeta) -> Option<&'static str> {
    let has = |marks: &Option<BTreeMap<String, String>>, mark: &str| {
        marks.as_ref().is_some_and(|marks| marks.contains_key(mark))
    };
    let flux = ["kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"];
    if flux.iter().any(|mark| has(&meta.labels, mark)) {
        return Some("Flux");
    }
    let argo = has(&meta.annotations, "argocd.argoproj.io/tracking-id");
    (argo || has(&meta.labels, "argocd.argoproj.io/instance")).then_some("Argo CD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(suspend: bool, generation: i64, status: &Value) -> ProvisionedDevice {
        let object = json!({
            "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
            "metadata": {"name": "press-01", "namespace": "fleet", "generation": generation},
            "spec": {"integrationRef": {"name": "factory"}, "suspend": suspend},
            "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_wish_is_taken_up_when_the_status_repeats_it() {
        let (retry, again) = (Wish::Retry("t".to_owned()), Wish::Reprovision("t".to_owned()));
        let status = json!({"observedGeneration": 2, "lastHandledReconcileAt": "t", "lastHandledReprovisionToken": "old"});
        let cases = [
            (&retry, device(false, 2, &status), true),
            (&again, device(false, 2, &status), false),
            (&Wish::Suspend(true), device(true, 2, &status), true),
            (&Wish::Suspend(true), device(true, 3, &status), false),
        ];
        for (wish, device, wanted) in cases {
            assert_eq!(device.has_taken_up(wish), wanted, "{wish:?}");
        }
    }

    #[test]
    fn what_a_suspended_device_is_asked_for_need_not_be_waited_for() {
        let suspended = device(true, 1, &json!({}));
        assert_eq!(suspended.answer(&Wish::Retry("t".to_owned())), HELD);
        assert!(suspended.answer(&Wish::Suspend(true)).is_awaited);
        assert!(device(false, 1, &json!({})).answer(&Wish::Retry("t".to_owned())).is_awaited);
    }

    #[test]
    fn a_patch_touches_nothing_else() {
        let wanted = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "t"}}});
        assert_eq!(Wish::Retry("t".to_owned()).patch(), wanted);
        assert_eq!(Wish::Suspend(false).patch(), json!({"spec": {"suspend": false}}));
    }

    #[test]
    fn tools_that_keep_an_object_are_known_by_their_marks() {
        let marks = |mark: &str| Some(BTreeMap::from([(mark.to_owned(), "x".to_owned())]));
        let flux = ObjectMeta { labels: marks("kustomize.toolkit.fluxcd.io/name"), ..ObjectMeta::default() };
        let argo =
            ObjectMeta { annotations: marks("argocd.argoproj.io/tracking-id"), ..ObjectMeta::default() };
        assert_eq!(
            [keeper(&flux), keeper(&argo), keeper(&ObjectMeta::default())],
            [Some("Flux"), Some("Argo CD"), None]
        );
    }
}
