//! Devices made again from their record.

use serde_json::{Value, json};

use super::{NOW, SECRET_VERSION, Situation, device, provisioned, registered};
use crate::api::conditions::Reason;
use crate::api::device::ProvisionedDevice;
use crate::controller::device::decide::Verdict;
use crate::controller::device::facts::{Facts, ServedRequests};
use crate::controller::device::secret::{settings_hash, settings_of_same_rendering};
use crate::controller::device::status::render;
use crate::fleet::Fleet;
use crate::fleet::revive::revive;

/// A settled device with this spec and its status as it was written, changed by a merge.
fn settled(spec: Value, status: &Value) -> (ProvisionedDevice, Facts) {
    let mut situation = Situation { device: device(spec), ..Situation::settled_device() };
    situation.facts = provisioned(&situation.device, &situation.target);
    let verdict = Verdict { reason: Reason::Provisioned, message: "Assigned.".to_owned() };
    let mut object = serde_json::to_value(&situation.device).unwrap();
    object["status"] =
        serde_json::to_value(render(&situation.device, &situation.facts, &verdict, NOW.wall)).unwrap();
    for (key, value) in status.as_object().unwrap() {
        object["status"][key] = value.clone();
    }
    (serde_json::from_value(object).unwrap(), situation.facts)
}

fn revived(device: &ProvisionedDevice, token: Option<&str>) -> Option<ProvisionedDevice> {
    let mut fleet = Fleet::default();
    let id = fleet.upsert(device, Some(1)).0;
    fleet.secret_seen("fleet", "truck-1-hub", SECRET_VERSION);
    revive(fleet.get(id).unwrap(), &fleet.names, "0ne1", token)
}

#[test]
fn a_device_with_nothing_special_about_it_is_registered_again_without_being_read() {
    let (device, facts) = settled(json!({}), &json!({"previousHub": "hub-z.azure-devices.net"}));
    let made = revived(&device, None).unwrap();
    assert_eq!(
        (&made.metadata.uid, &made.metadata.resource_version),
        (&device.metadata.uid, &device.metadata.resource_version)
    );
    assert_eq!(made.spec, device.spec);

    // Registered with another key, both lead to the same status.
    let situation = Situation::new_device();
    let after = |device: &ProvisionedDevice, mut facts: Facts| {
        facts.register(registered(device, &situation.target), ServedRequests::default());
        facts.secret.as_mut().unwrap().version += 1;
        let verdict = Verdict { reason: Reason::Provisioned, message: "Assigned.".to_owned() };
        serde_json::to_value(render(device, &facts, &verdict, NOW.wall)).unwrap()
    };
    let from_status = Facts::from_status(made.status.as_ref().unwrap(), 1, 0, (NOW.wall, NOW.mono));
    let known = Facts { previous_hub: Some("hub-z.azure-devices.net".to_owned()), ..facts };
    assert_eq!(after(&made, from_status), after(&device, known));
}

#[test]
fn whatever_the_record_does_not_hold_has_to_be_read() {
    for (spec, status) in [
        (json!({"payload": {"a": 1}}), json!({})),
        (json!({"secret": {"labels": {"a": "b"}}}), json!({})),
        (json!({"reprovision": {"policy": "Never"}}), json!({})),
        (json!({}), json!({"lastHandledReprovisionToken": "1"})),
        (json!({}), json!({"returnedPayloadHash": "v1:0000000000000000"})),
        (json!({}), json!({"attempts": 1})),
        (json!({}), json!({"binding": {"name": "truck-1-hub"}})),
        (json!({}), json!({"deviceId": "Truck-1"})),
    ] {
        let (device, _) = settled(spec.clone(), &status);
        assert!(revived(&device, None).is_none(), "{spec} {status}");
    }
    let (served, _) = settled(json!({}), &json!({"lastHandledIntegrationToken": "t"}));
    assert!(revived(&served, None).is_none());
    assert!(revived(&served, Some("t")).is_some());
}

#[test]
fn only_values_of_a_secret_change_when_nothing_but_the_assignment_does() {
    let situation = Situation::settled_device();
    let inherited = &situation.target.inherited;
    let again = registered(&situation.device, &situation.target);
    let same = settings_of_same_rendering(&situation.device, &situation.facts, &again, inherited);
    assert_eq!(same, Some(settings_hash(&situation.device, inherited)));
    let relabelled = device(json!({"secret": {"labels": {"a": "b"}}}));
    assert_eq!(settings_of_same_rendering(&relabelled, &situation.facts, &again, inherited), None);
    assert_ne!(same, Some(settings_hash(&relabelled, inherited)));
}
