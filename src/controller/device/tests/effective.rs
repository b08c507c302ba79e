//! What a device asks for together with what it inherits.

use serde_json::{Value, json};

use super::{Situation, device};
use crate::api::conditions::Reason;
use crate::api::integration::DeviceDefaults;
use crate::api::shared::FormatType;
use crate::controller::device::decide::Verdict;
use crate::controller::device::facts::Facts;
use crate::controller::device::secret::rendered_hash;
use crate::controller::device::settings::Settings;
use crate::controller::device::status::render;
use crate::fleet::Fleet;
use crate::fleet::inherit::{Inherited, Policy};
use crate::fleet::record::{Need, Wanted};

fn defaults(value: Value) -> DeviceDefaults {
    serde_json::from_value(value).unwrap()
}

#[test]
fn scalars_and_lists_replace_and_maps_merge_with_the_device_winning() {
    let defaults = defaults(json!({
        "payload": {"site": "inherited"},
        "registration": {"onCreate": "LookupFirst"},
        "reprovision": {"policy": "Periodic", "interval": "2h"},
        "secret": {
            "deletionPolicy": "Retain", "gatewayHostname": "gw.inherited",
            "labels": {"a": "inherited", "b": "inherited"}, "annotations": {"x": "inherited"},
            "keys": {"deviceId": "id", "idScope": "scope"}, "formats": [{"type": "Env"}, {"type": "Mqtt"}],
        },
    }));
    let silent = device(json!({}));
    let inherits = Settings::of(&silent, Some(&defaults)).unwrap();
    assert_eq!(inherits.payload.unwrap()["site"], "inherited");
    assert_eq!(
        (inherits.looks_first, inherits.policy, inherits.retain),
        (true, Policy::Periodic(7200), true)
    );
    assert_eq!(inherits.gateway_hostname, Some("gw.inherited"));
    assert_eq!(inherits.formats.len(), 2);
    assert_eq!((inherits.keys.device_id, inherits.keys.id_scope), (Some("id"), Some("scope")));

    let outspoken = device(json!({
        "payload": {}, "registration": {"onCreate": "Register"}, "reprovision": {"policy": "OnChange"},
        "secret": {
            "deletionPolicy": "Delete", "gatewayHostname": "gw.own",
            "labels": {"b": "own", "c": "own"}, "keys": {"deviceId": "", "idScope": "idScope"},
            "formats": [{"type": "Dotenv"}],
        },
    }));
    let own = Settings::of(&outspoken, Some(&defaults)).unwrap();
    assert!(own.payload.unwrap().is_empty());
    assert_eq!((own.looks_first, own.policy, own.retain), (false, Policy::OnChange, false));
    assert_eq!(own.gateway_hostname, Some("gw.own"));
    assert_eq!(own.formats.into_iter().collect::<Vec<_>>(), [FormatType::Dotenv]);
    assert_eq!(own.labels, [("a", "inherited"), ("b", "own"), ("c", "own")].into());
    assert_eq!(own.annotations, [("x", "inherited")].into());
    assert_eq!((own.keys.device_id, own.keys.id_scope), (None, Some("idScope")));

    let none = device(json!({"secret": {"formats": []}}));
    assert!(Settings::of(&none, Some(&defaults)).unwrap().formats.is_empty());
    let direct = device(json!({"secret": {"gatewayHostname": ""}}));
    assert_eq!(Settings::of(&direct, Some(&defaults)).unwrap().gateway_hostname, None);
}

#[test]
fn labels_and_annotations_stay_in_the_integrations_namespace() {
    let defaults = defaults(json!({"secret": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}));
    let mut elsewhere = device(json!({}));
    elsewhere.spec.integration_ref.namespace = Some("other".to_owned());
    let settings = Settings::of(&elsewhere, Some(&defaults)).unwrap();
    assert!(settings.labels.is_empty() && settings.annotations.is_empty());
    elsewhere.spec.integration_ref.namespace = Some("fleet".to_owned());
    assert_eq!(Settings::of(&elsewhere, Some(&defaults)).unwrap().labels.len(), 1);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let edge = json!({"secret": {"formats": [{"type": "ServiceBinding"}]}});
    let clash = device(json!({"secret": {"keys": {"deviceId": "username"}}}));
    let message = Settings::of(&clash, Some(&defaults(edge))).unwrap_err().to_string();
    assert!(message.contains("username"), "{message}");
    let big = json!({"payload": {"big": "x".repeat(70_000)}});
    let message = Settings::of(&device(json!({})), Some(&defaults(big))).unwrap_err().to_string();
    assert!(message.contains("deviceDefaults.payload"), "{message}");
}

/// What the index says of a settled device when its integration has these defaults by now.
fn need(spec: &Value, before: &Value, after: &Value) -> Need {
    let mut situation = Situation { device: device(spec.clone()), ..Situation::settled_device() };
    let inherited = |value: &Value| {
        Inherited::new(Some(&defaults(value.clone())), &situation.target.instance.endpoint.to_string(), None)
    };
    let after = inherited(after);
    situation.target.terms.inherited = inherited(before).into();
    situation.target.terms.defaults = Some(defaults(before.clone()).into());
    let mut facts: Facts = super::provisioned(&situation.device, &situation.target);
    facts.secret.as_mut().unwrap().rendered = facts
        .registered
        .as_ref()
        .map(|registered| rendered_hash(&situation.device, registered, &situation.target.inherited));
    let verdict = Verdict { reason: Reason::Provisioned, message: String::new() };
    situation.device.status = Some(render(&situation.device, &facts, &verdict, super::NOW.wall));
    let mut fleet = Fleet::default();
    let id = fleet.upsert(&situation.device, Some(1)).0;
    fleet.secret_seen("fleet", "truck-1-hub", super::SECRET_VERSION);
    let record = fleet.get(id).unwrap();
    let credential = situation.target.credentials.in_use();
    record
        .need(&record.settled.unwrap(), Wanted { scope: "0ne1", credential, inherited: &after, issued: None })
}

#[test]
fn changed_defaults_are_judged_in_memory_for_a_whole_fleet() {
    let none = json!({});
    let payload = json!({"payload": {"site": "b"}});
    let labels = json!({"secret": {"labels": {"a": "b"}}});
    let never = json!({"reprovision": {"policy": "Never"}, "payload": {"site": "b"}});
    let own = json!({"payload": {"site": "own"}});
    for (spec, before, after, expected) in [
        (&none, &none, &none, Need::Nothing),
        (&none, &payload, &payload, Need::Nothing),
        (&none, &none, &payload, Need::Register),
        (&own, &none, &payload, Need::Nothing),
        (&none, &none, &labels, Need::Rewrite),
        (&none, &labels, &none, Need::Rewrite),
        (&none, &none, &never, Need::Fetch),
        (&none, &none, &json!({"driftCheck": {"interval": "1h"}}), Need::Nothing),
    ] {
        assert_eq!(need(spec, before, after), expected, "{spec} {before} {after}");
    }
}

#[test]
fn a_secret_that_would_have_no_keys_is_refused() {
    let keys =
        ["connectionString", "iotHubHostname", "deviceId", "sharedAccessKey", "registrationId", "idScope"];
    let without =
        |left_out: &[&str]| -> Value { left_out.iter().map(|key| ((*key).to_owned(), json!(""))).collect() };
    let none = without(&keys);
    let (own, formats) =
        (json!({"secret": {"keys": none}}), json!({"secret": {"formats": [{"type": "Env"}]}}));
    for (spec, inherited, refused) in [
        (own.clone(), json!({}), true),
        (json!({}), own.clone(), true),
        // A payload that none may have returned makes no Secret.
        (json!({"secret": {"keys": {"returnedPayload": "p"}}}), own.clone(), true),
        (json!({"secret": {"keys": without(&keys[1..])}}), json!({}), false),
        (
            json!({"secret": {"keys": without(&keys[..3])}}),
            json!({"secret": {"keys": without(&keys[3..])}}),
            true,
        ),
        (own.clone(), formats.clone(), false),
        (
            json!({"secret": {"formats": []}}),
            json!({"secret": {"keys": none, "formats": [{"type": "Env"}]}}),
            true,
        ),
    ] {
        let device = device(spec.clone());
        let inherits = defaults(inherited.clone());
        let message = Settings::of(&device, Some(&inherits)).map_err(|error| error.to_string());
        assert_eq!(message.is_err_and(|text| text.contains("no keys")), refused, "{spec} {inherited}");
    }
    let new = Situation { device: device(own), ..Situation::new_device() };
    assert_eq!(new.decide().verdict.map(|verdict| verdict.reason), Some(Reason::InvalidConfiguration));
}
