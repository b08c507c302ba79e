//! What docs/kubectl-dps.md shows is what the program prints.

use dps_operator_api::attestation::KeySlot;
use dps_operator_api::device::ProvisionedDevice;
use dps_operator_api::integration::DpsIntegration;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::brief::Brief;
use crate::model::device::{DeviceReport, Integration};
use crate::model::fleet::{FleetReport, IntegrationReport};
use crate::model::rotation::Plan;
use crate::text::Line;
use crate::view::{self, page};

const PAGE: &str = include_str!("../../../docs/kubectl-dps.md");

fn now() -> Timestamp {
    "2026-11-29T12:03:00Z".parse().unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-29T12:00:00Z"})
}

fn integration() -> Value {
    json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
        "metadata": {"name": "factory", "namespace": "fleet", "generation": 4},
        "spec": {
            "idScope": "0ne00000001",
            "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "factory-group-key"},
                "secondaryKeyRef": {"name": "factory-group-key"}, "active": "Secondary"}},
            "rollout": {"paused": true},
        },
        "status": {
            "observedGeneration": 4,
            "acceptedIdScope": "0ne00000001",
            "conditions": [condition("Ready", "True", "Available", "DPS accepts the key.")],
            "credentials": {"inUse": "Secondary", "working": "Secondary",
                "secondary": {"fingerprint": "ccf19e02a7b4d65f"}},
            "devices": {"total": 131, "ready": 127, "pending": 1, "failed": 3, "suspended": 0, "assigned": 127},
            "hubs": [{"hostname": "factory-warsaw.azure-devices.net", "devices": 125},
                {"hostname": "factory-gdansk.azure-devices.net", "devices": 2}],
            "failures": [{"reason": "Unauthorized", "devices": 3}],
            "keyRotation": {"total": 127, "pending": 20, "excluded": 0, "blocked": false,
                "startedAt": "2026-11-29T12:01:00Z"},
        },
    })
}

fn device(name: &str, status: &Value) -> ProvisionedDevice {
    let object = json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
        "metadata": {"name": name, "namespace": "fleet"},
        "spec": {"integrationRef": {"name": "factory"}},
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn refused() -> Value {
    let message = "DPS refused the credentials. Either the enrollment group's key is wrong, the enrollment is gone, an IP filter is in the way, or the operator's clock is off.";
    json!({
        "observedGeneration": 1,
        "conditions": [
            condition("Ready", "False", "Unauthorized", message),
            condition("Registered", "False", "Unauthorized", message),
            condition("SecretReady", "False", "Missing", "No Secret has been written."),
            condition("Stalled", "True", "Unauthorized", message),
        ],
        "attempts": 2,
        "lastError": {"httpStatus": 401, "code": 401_002, "message": "Unauthorized",
            "trackingId": "5f1c0e7a-6a53-4c1e-9d0b-3f6f3c1a2b90", "time": "2026-11-29T12:02:00Z"},
    })
}

fn fleet() -> FleetReport {
    let integration: DpsIntegration = serde_json::from_value(integration()).unwrap();
    let mut devices: Vec<Brief> = ["press-01", "oven-02", "camera-05"]
        .iter()
        .map(|name| Brief::of(&device(name, &refused())))
        .collect();
    devices.push(Brief::of(&device("robot-09", &json!({"observedGeneration": -1}))));
    FleetReport::of(&[integration], devices, Some("fleet"), now())
}

/// Fails unless the page has these lines, one after the other; prints them then.
fn assert_documented(lines: &[Line]) {
    let text: String = lines.iter().map(|line| line.paint(false) + "\n").collect();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(PAGE.contains(&text), "docs/kubectl-dps.md does not show\n{text}");
}

#[test]
fn the_page_shows_the_status_of_a_fleet() {
    assert_documented(&view::fleet::lines(&fleet(), 80, now()));
}

#[test]
fn the_page_shows_the_status_of_a_device() {
    let report = DeviceReport::of(&device("press-01", &refused()), Integration::Usable, now());
    assert_documented(&view::device::lines(&report, 80, now()));
}

#[test]
fn the_page_shows_what_is_said_of_a_reason() {
    let entries = page::entries(include_str!("../../../docs/conditions.md"));
    assert_documented(&page::lines(page::find(&entries, "disabled").unwrap(), 80));
}

#[test]
fn the_page_shows_what_a_rotation_would_do() {
    let plan = Plan::Move { devices: 127, suspended: 0, pace: Some(100), paused: false };
    let lines = view::rotation::plan("fleet/factory", KeySlot::Secondary, &plan);
    let lines: Vec<Line> = lines.iter().flat_map(|line| line.wrapped(80)).collect();
    assert_documented(&lines);
}

/// Lines of an integration whose spec and status are these, below the usual ones.
fn shown(change: impl FnOnce(&mut Value)) -> String {
    let mut object = integration();
    change(&mut object);
    let integration: DpsIntegration = serde_json::from_value(object).unwrap();
    let report = FleetReport::of(&[integration], Vec::new(), Some("fleet"), now());
    view::fleet::lines(&report, 80, now()).iter().map(|line| line.paint(false) + "\n").collect()
}

/// A change of the integration, and what is shown then.
type Case = (fn(&mut Value), &'static [&'static str]);

#[test]
fn an_integration_in_trouble_says_what_it_is_and_where_to_read_on() {
    let cases: [Case; 8] = [
        (
            |object| object["status"] = json!({}),
            &["not looked at yet: is the operator running?", "not counted yet"],
        ),
        (
            |object| {
                let message = "Secret factory-group-key does not exist.";
                object["status"]["conditions"] = json!([
                    condition("Ready", "False", "KeyInvalid", message),
                    condition("Stalled", "True", "KeyInvalid", message)
                ]);
            },
            &[
                "Not ready, KeyInvalid",
                "Secret factory-group-key does not exist.",
                "→ kubectl dps explain KeyInvalid",
            ],
        ),
        (
            |object| object["status"]["credentials"]["inUse"] = json!("Primary"),
            &["Primary, since DPS refuses Secondary"],
        ),
        (
            |object| object["status"]["throttledUntil"] = json!("2026-11-29T12:03:40Z"),
            &["DPS throttles: it is called again in 40 s, 12:03:40 UTC"],
        ),
        (
            |object| object["spec"]["rateLimit"] = json!({"registrationsPerMinute": 60}),
            &["at most 60 a minute (spec.rateLimit)"],
        ),
        (
            |object| {
                object["spec"]["allowedNamespaces"] = json!({"from": "All", "registrationIdPrefixes": [""]});
            },
            &["3 devices of other namespaces failed; -A shows them"],
        ),
        (|_| {}, &["131: 127 ready, 3 failed, 1 pending"]),
        (
            |object| {
                object["spec"]["attestation"] = json!({"x509": {}});
                object["status"]["certificates"] = json!({"earliestNotAfter": "2026-12-01T12:03:00Z", "unregistered": 0, "overdue": 2, "expired": 1});
            },
            &["Secret {name}-tls", "the first one expires in 2 d", "1 expired, 2 overdue for renewal"],
        ),
    ];
    for (change, parts) in cases {
        let text = shown(change);
        for part in parts {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}

#[test]
fn what_needs_a_person_is_known_by_the_fleet() {
    assert!(fleet().needs_you());
    let quiet = |change: fn(&mut Value)| {
        let mut object = integration();
        object["status"]["failures"] = json!([]);
        change(&mut object);
        let integration: DpsIntegration = serde_json::from_value(object).unwrap();
        IntegrationReport::of(&integration, &[], false, now()).needs_you()
    };
    assert!(!quiet(|_| {}));
    assert!(quiet(|object| object["status"]["keyRotation"]["blocked"] = json!(true)));
    let missing =
        FleetReport::of(&[], vec![Brief::of(&device("press-01", &json!({})))], Some("fleet"), now());
    assert!(missing.needs_you() && missing.unlisted[0].missing);
    let elsewhere =
        FleetReport::of(&[], vec![Brief::of(&device("press-01", &json!({})))], Some("other"), now());
    assert!(!elsewhere.needs_you());
}
