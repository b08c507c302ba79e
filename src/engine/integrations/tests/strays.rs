//! Devices that an integration does not admit.

use serde_json::{Value, json};

use super::{FACTORY, Situation, and, for_tenant_a, key_id, ready, settled};
use crate::api::names::REPROVISION_REQUESTED_AT;
use crate::telemetry::metrics::Unserved;

fn on_another_key() -> Value {
    let credential = json!({"type": "SymmetricKey", "fingerprint": key_id(9).to_string()});
    and(settled(), json!({"credential": credential}))
}

fn prefixes(allowed: &[&str]) -> Value {
    json!({"allowedNamespaces": {"from": "All", "registrationIdPrefixes": allowed}})
}

#[test]
fn devices_that_an_integration_does_not_admit_count_for_nothing_in_its_status() {
    let mut labelled = Situation::usable(for_tenant_a());
    let tenant = [("tenant".to_owned(), "b".to_owned())].into();
    labelled.registry.labels_observed("tenant", &tenant);
    let situations = [
        Situation::usable(json!({})),
        Situation::usable(prefixes(&[])),
        Situation::usable(prefixes(&["{namespace}."])),
        // Another tenant's ids.
        Situation::usable(prefixes(&["other."])),
        labelled,
    ];
    for mut situation in situations {
        situation.annotate(REPROVISION_REQUESTED_AT, "1");
        situation.device("fleet/own", FACTORY, and(settled(), json!({"lastHandledIntegrationToken": "1"})));
        for number in 0..40 {
            situation.device(&format!("tenant/failed-{number}"), FACTORY, ready("False", "Disabled"));
            situation.device(&format!("tenant/old-{number}"), FACTORY, on_another_key());
        }

        situation.count();

        let status = situation.write();
        let devices = status.devices.unwrap();
        assert_eq!((devices.total, devices.ready, devices.assigned), (1, 1, 1));
        assert_eq!((status.failures.len(), status.key_rotation.is_none()), (0, true));
        assert_eq!(status.hubs.len(), 1);
        assert_eq!(status.last_handled_reprovision_token.as_deref(), Some("1"));
        let [gauges] = &situation.registry.gauges()[..] else { panic!("one integration") };
        assert_eq!(
            (gauges.devices[0], gauges.failures.len(), gauges.rotation.is_none()),
            (("ready", 1), 0, true)
        );
        let strays = [Unserved { namespace: "tenant".to_owned(), devices: 80 }];
        assert_eq!(situation.registry.unserved(), strays);
        assert!(status.conditions.iter().all(|condition| condition.type_ != "QuotaInsufficient"));
    }
}

#[test]
fn devices_are_counted_anew_when_an_integration_admits_others() {
    let mut situation = Situation::usable(json!({}));
    situation.device("tenant/tenant.a", FACTORY, settled());
    situation.count();
    assert_eq!(situation.write().devices.unwrap().total, 0);

    situation.declare(prefixes(&["{namespace}."]));

    assert!(situation.next_report(true).is_some());
    situation.count();
    assert_eq!(situation.write().devices.unwrap().total, 1);
}

#[test]
fn a_device_of_the_integrations_own_namespace_counts_whatever_its_id() {
    let mut situation = Situation::usable(json!({"registrationIdPrefixes": ["x-"]}));
    situation.device("fleet/a", FACTORY, ready("False", "ReferenceNotAllowed"));
    situation.device("tenant/x-b", FACTORY, json!({}));
    situation.count();
    assert_eq!(situation.write().devices.unwrap().total, 1);
}
