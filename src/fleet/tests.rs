mod claims;
mod sharing;
mod sources;

use serde_json::{Value, json};

use super::counts::count;
use super::{DeviceChange, Fleet, SecretSeen};
use crate::api::device::ProvisionedDevice;

const NONE: [u32; 0] = [];

fn device(name: &str, uid: u8, version: u64, extra: &Value) -> ProvisionedDevice {
    let mut object = json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
        "metadata": {
            "name": name, "namespace": "fleet", "generation": 1, "resourceVersion": version.to_string(),
            "uid": format!("00000000-0000-0000-0000-0000000000{uid:02x}"),
        },
        "spec": {"integrationRef": {"name": "factory"}},
    });
    for (key, value) in extra.as_object().unwrap() {
        for (inner, value) in value.as_object().unwrap() {
            object[key][inner] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

fn add(fleet: &mut Fleet, name: &str, uid: u8) -> u32 {
    fleet.upsert(&device(name, uid, 1, &json!({})), Some(1)).0
}

fn status(ready: &str, reason: &str, hub: Option<&str>, progress: Option<&str>) -> Value {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut conditions = vec![condition("Ready", ready)];
    conditions.extend(progress.map(|kind| condition(kind, "True")));
    let mut status = json!({"observedGeneration": 1, "conditions": conditions});
    if let Some(hub) = hub {
        status["assignedHub"] = json!(hub);
    }
    json!({"status": status})
}

#[test]
fn events_are_new_changed_known_or_about_another_object() {
    let mut fleet = Fleet::default();
    let mut change = |uid, version| fleet.upsert(&device("a", uid, version, &json!({})), Some(1)).1;
    assert_eq!(change(1, 5), DeviceChange::New);
    assert_eq!(change(1, 5), DeviceChange::Known);
    assert_eq!(change(1, 4), DeviceChange::Known);
    assert_eq!(change(1, 6), DeviceChange::Changed);
    assert_eq!(change(2, 7), DeviceChange::Replaced);
    assert_eq!(fleet.len(), 1);
}

#[test]
fn places_are_used_again_and_names_lead_to_the_right_device() {
    let mut fleet = Fleet::default();
    let (a, b) = (add(&mut fleet, "a", 1), add(&mut fleet, "b", 2));
    assert_eq!(
        (fleet.find("fleet", "a"), fleet.find("fleet", "b"), fleet.find("other", "a")),
        (Some(a), Some(b), None)
    );
    fleet.remove(a);
    assert_eq!((fleet.find("fleet", "a"), fleet.len()), (None, 1));
    let c = add(&mut fleet, "c", 3);
    assert_eq!((c, fleet.find("fleet", "c"), fleet.find("fleet", "b")), (a, Some(c), Some(b)));
}

#[test]
fn devices_that_a_list_no_longer_shows_are_found() {
    let mut fleet = Fleet::default();
    let (a, b) = (add(&mut fleet, "a", 1), add(&mut fleet, "b", 2));
    fleet.upsert(&device("a", 1, 1, &json!({})), Some(2));
    assert_eq!(fleet.unseen(2, None), [b]);
    assert_eq!(fleet.unseen(2, Some("other")), Vec::<u32>::new());
    fleet.upsert(&device("b", 2, 1, &json!({})), Some(2));
    assert_eq!((fleet.unseen(2, Some("fleet")), fleet.get(a).map(|r| r.list)), (Vec::new(), Some(2)));
}

#[test]
fn the_secret_watch_reports_news_once_and_ignores_what_is_older() {
    let mut fleet = Fleet::default();
    let a = add(&mut fleet, "a", 1);
    assert_eq!(fleet.secret_seen("fleet", "a-hub", 5), [a]);
    assert_eq!(fleet.secret_seen("fleet", "a-hub", 5), NONE);
    assert_eq!(fleet.secret(a), SecretSeen::Version(5));
    assert_eq!(fleet.secret_gone("fleet", "a-hub", 4), NONE);
    assert_eq!(fleet.secret_gone("fleet", "a-hub", 6), [a]);
    assert_eq!(fleet.secret(a), SecretSeen::No);
}

#[test]
fn a_secret_belongs_to_the_devices_that_name_it() {
    let mut fleet = Fleet::default();
    let a = add(&mut fleet, "a", 1);
    let own_name = json!({"spec": {"secret": {"name": "other"}}});
    let b = fleet.upsert(&device("b", 2, 1, &own_name), Some(1)).0;
    let c = fleet.upsert(&device("c", 3, 1, &own_name), Some(1)).0;
    assert_eq!(fleet.secret_seen("fleet", "a-hub", 5), [a]);
    let mut both = fleet.secret_seen("fleet", "other", 6);
    both.sort_unstable();
    assert_eq!(both, [b, c]);
    assert_eq!(fleet.secret_seen("fleet", "b-hub", 7), NONE);
    assert_eq!(fleet.secret_seen("elsewhere", "a-hub", 8), NONE);
    fleet.remove(b);
    assert!(fleet.devices_of_secret("fleet", "other").eq([c]));
    fleet.upsert(&device("c", 3, 2, &json!({})), Some(1));
    assert!(fleet.devices_of_secret("fleet", "other").eq(NONE));
}

#[test]
fn what_we_read_or_write_ourselves_does_not_count_as_listed() {
    let mut fleet = Fleet::default();
    let a = add(&mut fleet, "a", 1);
    fleet.upsert(&device("a", 1, 2, &json!({})), None);
    assert_eq!(fleet.unseen(2, None), [a]);
}

#[test]
fn a_secret_that_was_there_before_its_device_is_found_by_it() {
    let mut fleet = Fleet::default();
    assert_eq!(fleet.secret_seen("fleet", "a-hub", 5), NONE);
    let a = add(&mut fleet, "a", 1);
    assert_eq!(fleet.secret(a), SecretSeen::Version(5));
    // Retained after the device is gone, and found by the next of its name.
    fleet.remove(a);
    let again = add(&mut fleet, "a", 2);
    assert_eq!(fleet.secret(again), SecretSeen::Version(5));
}

#[test]
fn a_secret_that_vanished_while_no_watch_was_there_is_noticed_at_the_next_list() {
    let mut fleet = Fleet::default();
    let (a, b) = (add(&mut fleet, "a", 1), add(&mut fleet, "b", 2));
    fleet.secret_seen("fleet", "a-hub", 5);
    fleet.secret_seen("fleet", "b-hub", 6);
    fleet.begin_secret_list(None);
    fleet.secret_seen("fleet", "b-hub", 6);
    assert_eq!(fleet.end_secret_list(None), [a]);
    assert_eq!((fleet.secret(a), fleet.secret(b)), (SecretSeen::No, SecretSeen::Version(6)));
    fleet.begin_secret_list(Some("other"));
    assert_eq!(fleet.end_secret_list(Some("other")), Vec::<u32>::new());
}

#[test]
fn forged_secrets_cost_bounded_memory() {
    let mut fleet = Fleet::default();
    for number in 0..super::secrets::UNCLAIMED_MAX + 10 {
        fleet.secret_seen("fleet", &format!("forged-{number}"), 1);
    }
    assert_eq!(fleet.secrets.unclaimed.len(), super::secrets::UNCLAIMED_MAX);
    assert!(!fleet.is_secret_watch_complete());
}

#[test]
fn a_record_is_settled_only_if_its_status_describes_what_is_asked_for_now() {
    let mut object = device("a", 1, 1, &status("True", "Provisioned", Some("h"), None));
    object.status.as_mut().unwrap().secret =
        serde_json::from_value(json!({"name": "a-hub", "resourceVersion": "5"})).unwrap();
    let settled = |object: &ProvisionedDevice| {
        let mut fleet = Fleet::default();
        let id = fleet.upsert(object, Some(1)).0;
        fleet.get(id).unwrap().settled.is_some()
    };
    assert!(settled(&object));
    let mut newer = object.clone();
    newer.metadata.generation = Some(2);
    assert!(!settled(&newer));
    let mut suspended = object.clone();
    suspended.spec.suspend = true;
    assert!(!settled(&suspended));
}

#[test]
fn an_annotation_asks_until_the_status_echoes_it_and_a_removed_one_asks_for_nothing() {
    let asks = |annotations: Value, status: Value| {
        let mut fleet = Fleet::default();
        let object = device("a", 1, 1, &json!({"metadata": {"annotations": annotations}, "status": status}));
        let id = fleet.upsert(&object, Some(1)).0;
        fleet.get(id).unwrap().asks
    };
    let token = json!({"dps-operator.io/reprovision-requested-at": "1"});
    assert!(asks(token.clone(), json!({})));
    assert!(asks(token.clone(), json!({"lastHandledReprovisionToken": "0"})));
    assert!(!asks(token, json!({"lastHandledReprovisionToken": "1"})));
    assert!(!asks(json!({}), json!({"lastHandledReprovisionToken": "1"})));
    assert!(!asks(json!({"dps-operator.io/reprovision-requested-at": ""}), json!({})));
    let flux = json!({"reconcile.fluxcd.io/requestedAt": "1"});
    assert!(asks(flux.clone(), json!({})));
    assert!(!asks(flux, json!({"lastHandledReconcileAt": "1"})));
}

#[test]
fn counters_partition_the_fleet() {
    let mut fleet = Fleet::default();
    let mut put = |name: &str, uid, extra: &Value| fleet.upsert(&device(name, uid, 1, extra), Some(1)).0;
    put("ready", 1, &status("True", "Provisioned", Some("hub-a"), None));
    put("moving", 2, &status("True", "ServiceUnavailable", Some("hub-a"), Some("Reconciling")));
    put("failed", 3, &status("False", "Disabled", None, Some("Stalled")));
    put("new", 4, &json!({}));
    let mut suspended = status("True", "Suspended", Some("hub-b"), None);
    suspended["spec"] = json!({"suspend": true});
    put("suspended", 5, &suspended);
    let factory = fleet.names.get("fleet/factory").unwrap();
    let counts = &count(&fleet, 0, |_| true, |_| None).admitted[&factory];
    let d = &counts.devices;
    assert_eq!((d.total, d.ready, d.pending, d.failed, d.suspended, d.assigned), (5, 2, 1, 1, 1, 3));
    let hubs: Vec<_> = counts.hubs.iter().map(|hub| (hub.hostname.as_str(), hub.devices)).collect();
    assert_eq!(hubs, [("hub-a", 2), ("hub-b", 1)]);
    let failures: Vec<_> = counts.failures.iter().map(|f| (f.reason.as_str(), f.devices)).collect();
    assert_eq!(failures, [("Disabled", 1), ("ServiceUnavailable", 1)]);
}

#[test]
fn only_the_fifty_largest_hubs_are_named() {
    let mut fleet = Fleet::default();
    for number in 0..60_u8 {
        let hub = format!("hub-{number:02}");
        fleet.upsert(&device(&hub, number, 1, &status("True", "Provisioned", Some(&hub), None)), Some(1));
    }
    let factory = fleet.names.get("fleet/factory").unwrap();
    let counts = &count(&fleet, 0, |_| true, |_| None).admitted[&factory];
    assert_eq!((counts.hubs.len(), counts.other_hubs), (50, 10));
}

#[test]
fn a_secret_watch_is_trusted_again_once_it_has_been_read_in_full() {
    let mut fleet = Fleet::default();
    let own = add(&mut fleet, "a", 1);
    let read = |fleet: &mut Fleet, only: Option<&str>, secrets: usize| {
        fleet.begin_secret_list(only);
        fleet.secret_seen("fleet", "a-hub", 5);
        (0..secrets).for_each(|number| drop(fleet.secret_seen("fleet", &format!("forged-{number}"), 1)));
        fleet.end_secret_list(only);
    };
    // Refused for a while, for all namespaces and for one.
    for only in [None, Some("fleet")] {
        fleet.mark_secret_watch_incomplete(only);
        assert!(!fleet.is_secret_watch_complete());
        read(&mut fleet, Some("elsewhere"), 0);
        assert!(!fleet.is_secret_watch_complete(), "another watch says nothing of it");
        read(&mut fleet, only, 1);
        assert!(fleet.is_secret_watch_complete());
    }
    // Too many to be remembered, and not any more.
    read(&mut fleet, None, super::secrets::UNCLAIMED_MAX + 1);
    assert!(!fleet.is_secret_watch_complete());
    read(&mut fleet, None, 10);
    assert!(fleet.is_secret_watch_complete());
    assert_eq!((fleet.secrets.unclaimed.len(), fleet.secret(own)), (10, SecretSeen::Version(5)));
}

impl Fleet {
    /// Nothing is left of any device.
    fn is_empty_everywhere(&self) -> bool {
        self.len() == 0
            && self.by_name.is_empty()
            && self.by_integration.is_empty()
            && self.by_registration.is_empty()
            && self.by_secret.is_empty()
    }
}
