use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{device, registered, target};
use crate::api::device::ProvisionedDevice;
use crate::controller::device::facts::ServedRequests;
use crate::controller::device::secret::{Desired, Judgement, Known, Material, read_back, render};
use crate::controller::device::settings::Settings;
use crate::dps::ids::IdScope;

pub(super) fn desired_of(device: &ProvisionedDevice) -> Desired {
    let target = target();
    let settings = Settings::of(device, None).unwrap();
    let credential = target.credentials.for_device(&settings.registration_id).unwrap();
    render(
        device,
        &settings,
        &registered(device, &target),
        &Material { target: &target, credential: &credential, served: &ServedRequests::default() },
    )
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    Some(String::from_utf8(bytes.clone()).unwrap())
}

/// A Secret as the API server returns it, changed by a JSON merge.
pub(super) fn existing(desired: &Desired, change: &Value) -> Secret {
    fn merge(base: &mut Value, change: &Value) {
        match change {
            Value::Object(map) => {
                for (key, value) in map {
                    if value.is_null() {
                        base.as_object_mut().unwrap().remove(key);
                    } else {
                        merge(&mut base[key], value);
                    }
                }
            }
            other => *base = other.clone(),
        }
    }
    let mut object = serde_json::to_value(desired.object()).unwrap();
    object["metadata"]["uid"] = json!("u1");
    object["metadata"]["resourceVersion"] = json!("9");
    merge(&mut object, change);
    serde_json::from_value(object).unwrap()
}

fn patch(device: &ProvisionedDevice, change: &Value) -> Value {
    let desired = desired_of(device);
    match desired.judge(&existing(&desired, change), Known::default()) {
        Judgement::Patch(patch) => patch,
        other => panic!("{other:?}"),
    }
}

fn is_foreign(change: &Value) -> bool {
    let desired = desired_of(&device(json!({})));
    matches!(desired.judge(&existing(&desired, change), Known::default()), Judgement::Foreign(_))
}

#[test]
fn the_secret_holds_the_standard_keys() {
    let secret = desired_of(&device(json!({}))).object();
    let key = text(&secret, "sharedAccessKey").unwrap();
    assert_eq!(
        text(&secret, "connectionString").unwrap(),
        format!("HostName=hub-a.azure-devices.net;DeviceId=truck-1;SharedAccessKey={key}")
    );
    assert_eq!(text(&secret, "iotHubHostname").as_deref(), Some("hub-a.azure-devices.net"));
    assert_eq!(text(&secret, "deviceId").as_deref(), Some("truck-1"));
    assert_eq!(text(&secret, "registrationId").as_deref(), Some("truck-1"));
    assert_eq!(text(&secret, "idScope").as_deref(), Some("0ne1"));
    assert_eq!(secret.data.unwrap().len(), 6);
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[test]
fn keys_can_be_renamed_and_left_out_and_a_gateway_added() {
    let secret = desired_of(&device(json!({"secret": {
        "keys": {"connectionString": "conn", "idScope": ""}, "gatewayHostname": "gw.local",
    }})))
    .object();
    assert!(text(&secret, "conn").unwrap().ends_with("=;GatewayHostName=gw.local"));
    assert_eq!((text(&secret, "connectionString"), text(&secret, "idScope")), (None, None));
}

#[test]
fn a_retained_secret_has_no_owner() {
    let retained = desired_of(&device(json!({"secret": {"deletionPolicy": "Retain"}}))).object();
    assert_eq!(retained.metadata.owner_references, None);
    let owned = desired_of(&device(json!({}))).object().metadata.owner_references.unwrap();
    assert_eq!((owned[0].controller, owned[0].block_owner_deletion), (Some(true), Some(false)));
}

#[test]
fn names_too_long_for_a_label_stand_in_annotations_only() {
    let mut long = device(json!({}));
    long.metadata.name = Some("t".repeat(100));
    let secret = desired_of(&long).object();
    assert!(!secret.metadata.labels.unwrap().contains_key("dps-operator.io/device"));
    assert!(secret.metadata.annotations.unwrap()["dps-operator.io/device"].ends_with("ttt"));
}

#[test]
fn a_secret_that_is_as_it_should_be_is_not_written() {
    let desired = desired_of(&device(json!({})));
    assert_eq!(desired.judge(&existing(&desired, &json!({})), Known::default()), Judgement::Equal);
    // What others add is theirs.
    let others =
        json!({"data": {"theirs": "eA=="}, "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}}});
    assert_eq!(desired.judge(&existing(&desired, &others), Known::default()), Judgement::Equal);
}

#[test]
fn a_patch_carries_only_what_differs_and_both_guards() {
    let edited = patch(&device(json!({})), &json!({"data": {"deviceId": "eA=="}}));
    assert_eq!(
        edited,
        json!({"metadata": {"uid": "u1", "resourceVersion": "9"}, "data": {"deviceId": "dHJ1Y2stMQ=="}})
    );
}

#[test]
fn keys_that_are_no_longer_ours_are_removed_and_keys_of_others_stay() {
    let stale = json!({
        "data": {"old": "eA==", "theirs": "eA=="},
        "metadata": {"annotations": {"dps-operator.io/managed-keys": "old,gone"}},
    });
    let data = patch(&device(json!({})), &stale)["data"].clone();
    assert_eq!(data, json!({"old": null}));
}

#[test]
fn a_missing_owner_is_added_back_and_an_extinct_one_replaced() {
    let missing = patch(&device(json!({})), &json!({"metadata": {"ownerReferences": null}}));
    assert_eq!(missing["metadata"]["ownerReferences"][0]["uid"], "b1dafdfd-d634-4bfe-9061-804d9ded6ce8");
    let extinct = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "name": "truck-1",
        "uid": "extinct", "controller": true,
    }]}});
    let owners = patch(&device(json!({})), &extinct)["metadata"]["ownerReferences"].clone();
    assert_eq!(owners[0], json!({"$patch": "delete", "uid": "extinct"}));
    assert_eq!(owners[1]["uid"], "b1dafdfd-d634-4bfe-9061-804d9ded6ce8");
    let retained = device(json!({"secret": {"deletionPolicy": "Retain"}}));
    let toggled = patch(
        &retained,
        &json!({"metadata": {"ownerReferences": [{
            "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "name": "truck-1",
            "uid": "b1dafdfd-d634-4bfe-9061-804d9ded6ce8", "controller": true,
        }]}}),
    );
    assert_eq!(toggled["metadata"]["ownerReferences"][0]["$patch"], "delete");
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let stranger = json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x", "controller": true}]);
    let other_device = json!([{
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "name": "truck-2",
        "uid": "x", "controller": true,
    }]);
    let unowned = |change: Value| {
        let mut change = change;
        change["metadata"]["ownerReferences"] = json!([]);
        change
    };
    for change in [
        json!({"type": "kubernetes.io/tls"}),
        json!({"metadata": {"ownerReferences": stranger}}),
        json!({"metadata": {"ownerReferences": other_device}}),
        unowned(json!({"metadata": {"annotations": {"dps-operator.io/device": "fleet/truck-2"}}})),
        unowned(json!({"metadata": {"annotations": {"dps-operator.io/device": "other/truck-1"}}})),
        unowned(json!({"metadata": {"annotations": {"dps-operator.io/registration": "0ne1/truck-2"}}})),
        unowned(json!({"metadata": {"labels": null, "annotations": null}})),
        json!({"immutable": true, "data": {"deviceId": "eA=="}}),
    ] {
        assert!(is_foreign(&change), "{change}");
    }
}

#[test]
fn a_patch_that_is_sent_without_reading_the_secret_is_for_one_version_alone() {
    let patch = desired_of(&device(json!({}))).blind_patch(7);
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch["data"].as_object().unwrap().len(), 6);
}

#[test]
fn a_former_secret_is_marked_as_left_only_if_it_is_this_devices() {
    let desired = desired_of(&device(json!({"secret": {"name": "new"}})));
    let rewritten = json!({"dps-operator.io/device": "fleet/truck-2"});
    let (written, alone) =
        (Known { written: true, ..Known::default() }, Known { alone: true, ..Known::default() });
    let written_alone = Known { written: true, ..alone };
    for (annotations, known, marked) in [
        (json!({}), written_alone, true),
        (json!({}), written, true),
        (rewritten.clone(), written_alone, true),
        // Another device names it, and a status can be edited.
        (rewritten.clone(), written, false),
        (rewritten, alone, false),
        (json!({"dps-operator.io/superseded-by": "new"}), written_alone, false),
    ] {
        let change =
            json!({"metadata": {"name": "former", "annotations": annotations, "ownerReferences": []}});
        let patch = desired.superseded(&existing(&desired, &change), known);
        assert_eq!(patch.is_some(), marked, "{change} {known:?}");
    }
}

#[test]
fn a_status_that_says_another_registration_id_takes_no_secret_of_that_one() {
    let theirs = desired_of(&device(json!({})));
    let unnamed =
        json!({"metadata": {"annotations": {"dps-operator.io/device": null}, "ownerReferences": []}});
    let unnamed = existing(&theirs, &unnamed);
    for (registration_id, foreign) in [("truck-1", false), ("truck-2", true)] {
        let mut device = device(json!({"registrationId": registration_id}));
        let status = json!({"idScope": "0ne1", "registrationId": "truck-1"});
        device.status = Some(serde_json::from_value(status).unwrap());
        let judged = desired_of(&device).judge(&unnamed, Known::default());
        assert_eq!(matches!(judged, Judgement::Foreign(_)), foreign, "{judged:?}");
    }
}

#[test]
fn a_secret_that_its_owner_offers_is_taken_over_unless_another_object_controls_it() {
    let offered = json!({"metadata": {
        "labels": null, "ownerReferences": [],
        "annotations": {"dps-operator.io/device": "x/y", "dps-operator.io/adopt": "true"},
    }});
    assert!(patch(&device(json!({})), &offered)["metadata"]["labels"].is_object());
    let controlled = json!({"metadata": {
        "annotations": {"dps-operator.io/adopt": "true"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x", "controller": true}],
    }});
    assert!(is_foreign(&controlled));
}

#[test]
fn our_label_taken_away_is_put_back_while_the_device_owns_the_secret() {
    let unlabelled =
        patch(&device(json!({})), &json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}));
    assert_eq!(unlabelled["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "dps-operator"}));
}

#[test]
fn what_a_secret_tells_equals_what_it_was_written_from() {
    let device = device(json!({"payload": {"site": "a"}}));
    let desired = desired_of(&device);
    let secret = existing(&desired, &json!({}));
    let recorded = read_back(&secret, &device, &target()).unwrap();
    assert_eq!(recorded.registered, registered(&device, &target()));
    assert!(recorded.sealed);
    let mut elsewhere = target();
    elsewhere.terms.instance.scope = IdScope::parse("0ne2").unwrap();
    assert_eq!(read_back(&secret, &device, &elsewhere), None);
    let forged = json!({"metadata": {"annotations": {
        "dps-operator.io/assignment": r#"{"hub":"evil;x.azure-devices.net","deviceId":"truck-1"}"#,
    }}});
    assert_eq!(read_back(&existing(&desired, &forged), &device, &target()), None);
}

#[test]
fn a_secret_that_does_not_name_the_device_tells_something_only_under_a_seal() {
    let (device, target) = (device(json!({})), target());
    let desired = desired_of(&device);
    for (named, unlabelled, sealed, tells) in [
        (json!("fleet/truck-1"), false, false, true),
        (json!("fleet/truck-1"), true, true, true),
        (json!("fleet/truck-1"), true, false, false),
        (json!("other/truck-1"), false, true, true),
        (json!("other/truck-1"), false, false, false),
        (Value::Null, false, true, true),
        (Value::Null, false, false, false),
        (json!("fleet/truck-2"), false, true, false),
    ] {
        let mut change = json!({"metadata": {"annotations": {"dps-operator.io/device": named}}});
        if !sealed {
            change["metadata"]["annotations"]["dps-operator.io/seal"] = Value::Null;
        }
        if unlabelled {
            change["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": null});
        }
        let recorded = read_back(&existing(&desired, &change), &device, &target);
        let found = recorded.as_ref().map(|recorded| recorded.sealed);
        assert_eq!(found, tells.then_some(sealed), "{change}");
    }
}

#[test]
fn labels_and_annotations_of_ours_that_are_no_longer_asked_for_are_removed_and_those_of_others_stay() {
    let fields =
        json!({"f:metadata": {"f:labels": {".": {}, "f:team": {}}, "f:annotations": {"f:note": {}}}});
    let managed = |manager: &str| json!([{"manager": manager, "operation": "Update", "fieldsV1": fields}]);
    let with = |manager: &str| {
        json!({"metadata": {
            "labels": {"team": "a"}, "annotations": {"note": "b"}, "managedFields": managed(manager),
        }})
    };
    let cleaned = patch(&device(json!({})), &with("dps-operator"));
    assert_eq!(cleaned["metadata"]["labels"], json!({"team": null}));
    assert_eq!(cleaned["metadata"]["annotations"], json!({"note": null}));
    let desired = desired_of(&device(json!({})));
    assert_eq!(desired.judge(&existing(&desired, &with("kubectl")), Known::default()), Judgement::Equal);
}

proptest! {
    #[test]
    fn no_annotation_makes_us_panic_or_believe_a_hostile_hub(text in ".{0,200}", hub in ".{0,60}") {
        let (device, target) = (device(json!({})), target());
        let desired = desired_of(&device);
        for annotation in [text, json!({"hub": hub, "deviceId": "truck-1"}).to_string()] {
            let change = json!({"metadata": {"annotations": {"dps-operator.io/assignment": annotation}}});
            let read = read_back(&existing(&desired, &change), &device, &target);
            prop_assert!(read.is_none_or(|read| read.registered.hub.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')));
        }
    }
}

#[test]
fn two_marks_of_four_have_to_be_right_and_none_wrong_but_of_a_secret_that_the_device_wrote() {
    let label = json!({"labels": {"app.kubernetes.io/managed-by": null}});
    let device_of = |value: Value| json!({"annotations": {"dps-operator.io/device": value}});
    let of = |value: Value| json!({"annotations": {"dps-operator.io/registration": value}});
    let (gone, other, elsewhere) = (Value::Null, json!("fleet/truck-2"), json!("other/truck-1"));
    let none = Known::default();
    let (sealed, alone) = (Known { sealed: true, ..none }, Known { alone: true, ..none });
    let written = Known { written: true, ..alone };
    let written_they_say = Known { written: true, ..none };
    let desired = desired_of(&device(json!({})));
    for (edits, known, ours) in [
        (vec![label.clone()], none, true),
        (vec![device_of(gone.clone())], none, true),
        (vec![of(gone.clone())], none, true),
        (vec![label.clone(), of(gone.clone())], none, false),
        (vec![label.clone(), of(gone)], written, false),
        (vec![device_of(other.clone())], none, false),
        (vec![device_of(other.clone())], written, true),
        // Another device names it, and a status can be edited.
        (vec![device_of(other.clone())], written_they_say, false),
        (vec![of(json!("0ne1/truck-2"))], written_they_say, false),
        (vec![of(json!("0ne1/truck-2"))], none, false),
        (vec![of(json!("0ne1/truck-2"))], written, true),
        (vec![device_of(other.clone()), of(json!("0ne1/truck-2"))], written, false),
        (vec![device_of(elsewhere.clone())], none, false),
        (vec![device_of(elsewhere.clone())], sealed, true),
        (vec![device_of(json!("other/truck-2"))], sealed, false),
        // Offered by a person: not if it may be another device's.
        (vec![device_of(elsewhere), json!({"annotations": {"dps-operator.io/adopt": "true"}})], none, true),
        (
            vec![device_of(other.clone()), json!({"annotations": {"dps-operator.io/adopt": "true"}})],
            none,
            false,
        ),
        (vec![device_of(other), json!({"annotations": {"dps-operator.io/adopt": "true"}})], alone, true),
    ] {
        let mut secret = existing(&desired, &json!({"metadata": {"ownerReferences": []}}));
        for edit in &edits {
            let mut object = serde_json::to_value(&secret).unwrap();
            for (part, entries) in edit.as_object().unwrap() {
                for (key, value) in entries.as_object().unwrap() {
                    object["metadata"][part][key] = value.clone();
                }
            }
            object["metadata"]["labels"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            object["metadata"]["annotations"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            secret = serde_json::from_value(object).unwrap();
        }
        let is_foreign = matches!(desired.judge(&secret, known), Judgement::Foreign(_));
        assert_eq!(!is_foreign, ours, "{edits:?} {known:?}");
    }
}
