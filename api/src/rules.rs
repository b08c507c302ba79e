//! The rules of both CRDs, run by a CEL evaluator: what is admitted, what is refused, and the
//! message a user reads. `tests/manifests` asks the real API server the same.

use kube::core::cel::Validator;
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let (_, crd) = super::crds::all()
        .unwrap()
        .into_iter()
        .find(|(_, crd)| crd["spec"]["names"]["kind"] == kind)
        .unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn merged(base: &Value, change: &Value) -> Value {
    let mut merged = base.clone();
    for (key, value) in change.as_object().unwrap() {
        merged[key] = if value.is_object() && merged[key].is_object() {
            self::merged(&merged[key], value)
        } else {
            value.clone()
        };
    }
    merged
}

fn refusals(kind: &str, object: &Value, old: Option<&Value>) -> String {
    match Validator::new().validate(&schema(kind), object, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

fn device(change: Value) -> Value {
    let base = json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice",
        "metadata": {"name": "truck-1"},
        "spec": {"integrationRef": {"kind": "DpsIntegration", "name": "factory"}},
    });
    merged(&base, &change)
}

fn integration(change: Value) -> Value {
    let base = json!({
        "apiVersion": "dps-operator.io/v1alpha1", "kind": "DpsIntegration",
        "metadata": {"name": "factory"},
        "spec": {
            "idScope": "0ne1", "hostname": "global.azure-devices-provisioning.net",
            "attestation": {"symmetricKey": {"primaryKeyRef": {"name": "k", "key": "primaryKey"}}},
        },
    });
    merged(&base, &change)
}

#[track_caller]
fn admitted(kind: &str, object: &Value) {
    assert_eq!(refusals(kind, object, None), "", "{object}");
}

#[track_caller]
fn refused(kind: &str, object: &Value, message: &str) {
    let said = refusals(kind, object, None);
    assert!(said.contains(message), "{object} said {said:?}");
}

#[test]
fn names_that_are_too_long_for_an_id_or_a_secret_need_their_own() {
    let named =
        |length: usize, spec: Value| device(json!({"metadata": {"name": "a".repeat(length)}, "spec": spec}));
    admitted("ProvisionedDevice", &named(128, json!({})));
    refused("ProvisionedDevice", &named(129, json!({})), "longer than the 128 characters");
    admitted("ProvisionedDevice", &named(249, json!({"registrationId": "a"})));
    refused(
        "ProvisionedDevice",
        &named(250, json!({"registrationId": "a"})),
        "longer than the 253 characters",
    );
    admitted("ProvisionedDevice", &named(253, json!({"registrationId": "a", "secret": {"name": "s"}})));
}

#[test]
fn the_effective_registration_id_is_immutable() {
    let with = |id: Option<&str>| {
        id.map_or_else(|| device(json!({})), |id| device(json!({"spec": {"registrationId": id}})))
    };
    let change = |from, to| refusals("ProvisionedDevice", &with(to), Some(&with(from)));
    assert_eq!(change(None, Some("truck-1")), "");
    assert_eq!(change(Some("truck-1"), None), "");
    assert!(change(None, Some("other")).contains("immutable"));
    assert!(change(Some("other"), None).contains("immutable"));
    assert!(change(Some("a"), Some("b")).contains("immutable"));
}

#[test]
fn reprovision_intervals_belong_to_periodic() {
    let policy = |value: Value| device(json!({"spec": {"reprovision": value}}));
    admitted("ProvisionedDevice", &policy(json!({"policy": "Periodic", "interval": "1h"})));
    admitted("ProvisionedDevice", &policy(json!({"policy": "Never"})));
    refused(
        "ProvisionedDevice",
        &policy(json!({"policy": "Periodic"})),
        "interval is required with policy Periodic",
    );
    refused(
        "ProvisionedDevice",
        &policy(json!({"policy": "Never", "interval": "2h"})),
        "not allowed otherwise",
    );
    refused("ProvisionedDevice", &policy(json!({"policy": "Periodic", "interval": "59m"})), "at least 1h");
}

#[test]
fn drift_checks_are_off_or_at_least_ten_minutes_apart() {
    let every = |interval: &str| device(json!({"spec": {"driftCheck": {"interval": interval}}}));
    admitted("ProvisionedDevice", &every("0s"));
    admitted("ProvisionedDevice", &every("10m"));
    refused("ProvisionedDevice", &every("9m"), "0s (off) or at least 10m");
}

#[test]
fn labels_and_annotations_of_reserved_domains_are_refused() {
    for map in ["labels", "annotations"] {
        let with = |key: &str| device(json!({"spec": {"secret": {map: {key: "x"}}}}));
        for good in
            ["team", "example.com/team", "app.kubernetes.io/name", "notdps-operator.io/x", "kubernetes.io"]
        {
            admitted("ProvisionedDevice", &with(good));
        }
        for bad in [
            "x.k8s.io/y",
            "meta.helm.sh/release-name",
            "app.kubernetes.io/managed-by",
            "dps-operator.io/device",
            "argoproj.io/x",
        ] {
            refused("ProvisionedDevice", &with(bad), "are reserved");
        }
        for bad in ["a b", "/kubernetes.io/x", "KUBERNETES.IO/x", ""] {
            refused("ProvisionedDevice", &with(bad), "qualified names");
        }
    }
}

#[test]
fn two_keys_of_the_secret_cannot_have_one_name() {
    let keys = |value: Value| device(json!({"spec": {"secret": {"keys": value}}}));
    admitted("ProvisionedDevice", &keys(json!({"connectionString": "conn"})));
    admitted("ProvisionedDevice", &keys(json!({"idScope": "", "deviceId": ""})));
    refused("ProvisionedDevice", &keys(json!({"connectionString": "deviceId"})), "the same name");
    refused("ProvisionedDevice", &keys(json!({"connectionString": "x", "idScope": "x"})), "the same name");
}

#[test]
fn only_one_of_the_edge_files_can_be_config_toml() {
    let formats = |types: &[&str]| {
        let list: Vec<_> = types.iter().map(|kind| json!({"type": kind})).collect();
        device(json!({"spec": {"secret": {"formats": list}}}))
    };
    admitted("ProvisionedDevice", &formats(&["Env", "IotEdgeConfigToml"]));
    refused("ProvisionedDevice", &formats(&["IotEdgeConfigToml", "IotEdgeDpsConfigToml"]), "choose one");
}

#[test]
fn what_cert_manager_would_refuse_is_refused_at_once() {
    let with = |change: Value| {
        let cert_manager = merged(
            &json!({"issuerRef": {"name": "ca", "kind": "Issuer", "group": "cert-manager.io"}}),
            &change,
        );
        let mut object = integration(json!({}));
        object["spec"]["attestation"] =
            json!({"x509": {"secretName": "{name}-tls", "certManager": cert_manager}});
        object
    };
    let key = |algorithm: &str, size: Option<i32>| {
        let mut key = json!({"algorithm": algorithm});
        size.into_iter().for_each(|size| key["size"] = json!(size));
        with(json!({"privateKey": key}))
    };
    for good in [
        with(json!({})),
        with(json!({"duration": "1h"})),
        with(json!({"duration": "60m0s", "renewBefore": "5m"})),
        with(json!({"renewBefore": "2159h"})),
        key("ECDSA", None),
        key("ECDSA", Some(384)),
        key("RSA", Some(4096)),
        key("Ed25519", None),
    ] {
        admitted("DpsIntegration", &good);
    }
    for (bad, message) in [
        (with(json!({"duration": "3599s"})), "at least 1h"),
        (with(json!({"renewBefore": "299s"})), "renewBefore must be at least 5m"),
        (with(json!({"renewBefore": "2160h"})), "less than duration"),
        (with(json!({"duration": "2h", "renewBefore": "2h"})), "less than duration"),
        (key("ECDSA", Some(521)), "size is 256 or 384"),
        (key("ECDSA", Some(2048)), "size is 256 or 384"),
        (key("RSA", Some(1024)), "size is 256 or 384"),
        (key("RSA", Some(8192)), "size is 256 or 384"),
        (key("Ed25519", Some(256)), "size is 256 or 384"),
    ] {
        refused("DpsIntegration", &bad, message);
    }
}

#[test]
fn an_integration_has_exactly_one_kind_of_attestation() {
    admitted("DpsIntegration", &integration(json!({})));
    let mut none = integration(json!({}));
    none["spec"]["attestation"] = json!({});
    refused("DpsIntegration", &none, "exactly one kind of attestation");
}

#[test]
fn the_id_scope_is_fixed_once_dps_has_accepted_it() {
    let of =
        |scope: &str, accepted: Value| integration(json!({"spec": {"idScope": scope}, "status": accepted}));
    let change = |old: Value, new: Value| refusals("DpsIntegration", &new, Some(&old));
    let nothing = || json!({"observedGeneration": -1});
    let accepted = || json!({"acceptedIdScope": "0ne1"});
    assert_eq!(change(of("0ne1", nothing()), of("0ne2", nothing())), "");
    assert!(change(of("0ne1", accepted()), of("0ne2", accepted())).contains("idScope is fixed"));
    assert_eq!(change(of("0ne1", accepted()), of("0ne1", nothing())), "");
    // A status that names another scope keeps no writer from the one that belongs there.
    let forged = || json!({"acceptedIdScope": "forged"});
    assert_eq!(change(of("0ne1", forged()), of("0ne1", accepted())), "");
    assert!(change(of("0ne1", forged()), of("0ne2", forged())).contains("idScope is fixed"));
}

#[test]
fn consent_to_other_namespaces_names_whom_and_which_ids() {
    let allowed = |value: Value| integration(json!({"spec": {"allowedNamespaces": value}}));
    let prefixes = json!(["{namespace}."]);
    admitted("DpsIntegration", &allowed(json!({"from": "Same"})));
    admitted("DpsIntegration", &allowed(json!({"from": "All", "registrationIdPrefixes": [""]})));
    admitted(
        "DpsIntegration",
        &allowed(json!({"from": "Selector", "selector": {}, "registrationIdPrefixes": prefixes})),
    );
    refused(
        "DpsIntegration",
        &allowed(json!({"from": "Selector", "registrationIdPrefixes": prefixes})),
        "selector is required",
    );
    refused(
        "DpsIntegration",
        &allowed(json!({"from": "All", "selector": {}, "registrationIdPrefixes": prefixes})),
        "not allowed otherwise",
    );
    refused("DpsIntegration", &allowed(json!({"from": "All"})), "registrationIdPrefixes is required");
}

#[test]
fn a_selector_of_namespaces_can_select_some() {
    let with = |selector: Value| {
        let allowed = json!({"from": "Selector", "selector": selector, "registrationIdPrefixes": [""]});
        integration(json!({"spec": {"allowedNamespaces": allowed}}))
    };
    let asks = |key: &str, operator: &str, values: Value| {
        let mut expression = json!({"key": key, "operator": operator});
        if !values.is_null() {
            expression["values"] = values;
        }
        with(json!({"matchExpressions": [expression]}))
    };
    admitted("DpsIntegration", &with(json!({"matchLabels": {"example.com/team": "", "tier": "edge"}})));
    admitted("DpsIntegration", &with(json!({"matchLabels": {"kubernetes.io/metadata.name": "a"}})));
    for (operator, values) in [
        ("In", json!(["a", ""])),
        ("NotIn", json!(["a"])),
        ("Exists", json!(null)),
        ("Exists", json!([])),
        ("DoesNotExist", json!(null)),
    ] {
        admitted("DpsIntegration", &asks("example.com/team", operator, values));
    }
    for (operator, values) in [
        ("In", json!(null)),
        ("In", json!([])),
        ("NotIn", json!(null)),
        ("NotIn", json!([])),
        ("Exists", json!(["a"])),
        ("DoesNotExist", json!(["a"])),
    ] {
        refused("DpsIntegration", &asks("team", operator, values), "values is required with operator In");
    }
    for key in ["a b", "", "/team", "a/b/c", "-a", "Example.com/team", &"a".repeat(64)] {
        refused("DpsIntegration", &with(json!({"matchLabels": {key: "x"}})), "qualified names");
        refused("DpsIntegration", &asks(key, "Exists", json!(null)), "qualified names");
    }
}

#[test]
fn prefixes_can_match_and_keep_namespaces_apart() {
    let long = "a".repeat(127);
    for (prefix, good) in [
        ("", true),
        ("truck-", true),
        ("9:._-", true),
        ("{namespace}.", true),
        ("{namespace}_", true),
        ("{namespace}:", true),
        ("eu.{namespace}.x-", true),
        ("{namespace}.{namespace}:", true),
        (&format!("{long}a"), true),
        // What two namespaces can both have.
        ("{namespace}", false),
        ("{namespace}-", false),
        ("{namespace}a", false),
        ("x-{namespace}", false),
        ("{namespace}.{namespace}", false),
        ("{namespace}{namespace}.", false),
        // What no id begins with.
        ("{Namespace}.", false),
        ("{ns}.", false),
        ("{namespace.", false),
        ("$(namespace).", false),
        ("Truck", false),
        ("a b", false),
        ("-a", false),
        (".{namespace}.", false),
        ("a/b", false),
        ("ü", false),
        (&format!("{long}-"), false),
    ] {
        let own = integration(json!({"spec": {"registrationIdPrefixes": ["fine-", prefix]}}));
        let foreign = json!({"from": "All", "registrationIdPrefixes": [prefix]});
        for object in [own, integration(json!({"spec": {"allowedNamespaces": foreign}}))] {
            if good {
                admitted("DpsIntegration", &object);
            } else {
                refused("DpsIntegration", &object, "a prefix has what registration ids have");
            }
        }
    }
}

#[test]
fn an_integration_is_referred_to_by_a_name_that_it_can_have() {
    let named = |name: &str, namespace: &str| {
        device(json!({"spec": {"integrationRef": {"name": name, "namespace": namespace}}}))
    };
    admitted("ProvisionedDevice", &named("factory.eu-1", "0-a"));
    for bad in ["Factory", "a_b", "a..b", "-a", "a.", "a/b", "a b", "ü"] {
        refused("ProvisionedDevice", &named(bad, "fleet"), "no object can have this name");
    }
    for bad in ["Fleet", "a.b", "a_b", "-a", "a-", "a b"] {
        refused("ProvisionedDevice", &named("factory", bad), "no namespace can have this name");
    }
}

#[test]
fn committed_crds_are_what_the_types_say() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    for (name, crd) in super::crds::all().unwrap() {
        let committed = std::fs::read_to_string(folder.join(&name)).unwrap();
        let wanted = serde_saphyr::to_string(&crd).unwrap();
        let differing = committed.lines().zip(wanted.lines()).find(|(committed, wanted)| committed != wanted);
        assert!(committed == wanted, "run `make generate`: {name}: {differing:?}");
    }
}
