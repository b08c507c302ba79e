//! A Secret of ours that others have edited.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::parts::{HUB, ID, SCOPE, device, is_plain_host, registered, secret, target};
use crate::api::names;
use crate::controller::device::facts::{Doubt, Facts, RecordedInSecret, Registered, ServedRequests, Trust};
use crate::controller::device::secret::{Desired, Judgement, Known, is_sealed, read_back};

/// Annotations that are under the seal.
const SEALED: [&str; 6] = [
    names::REGISTRATION,
    names::REGISTERED_HASH,
    names::RENDERED_HASH,
    names::CREDENTIAL_FINGERPRINT,
    names::MANAGED_KEYS,
    names::ASSIGNMENT,
];

/// The first line chooses what the operator has written: `payload`, or `renamed` for a payload under
/// another key, or anything else for none. Each further line is an edit: `a`, `l` or `d` for annotation,
/// label or data, a blank, a key, `=` and a value; without `=` what stands there is removed.
pub fn secret_read_back(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (payload, spec) = match lines.next() {
        Some("payload") => (Some(json!({"site": "a"})), json!({})),
        Some("renamed") => {
            (Some(json!({"site": "a"})), json!({"secret": {"keys": {"returnedPayload": "p"}}}))
        }
        _ => (None, json!({})),
    };
    let (device, target) = (device(spec), target());
    let written = registered(&device, &target, HUB, payload.as_ref());
    let desired = secret(&device, &written, &target, None);
    let original = desired.object();
    let mut edited = original.clone();
    lines.for_each(|line| edit(&mut edited, line));
    let recorded = read_back(&edited, &device, &target);
    assert!(edited != original || recorded.as_ref().is_some_and(|recorded| recorded.sealed), "{recorded:?}");
    is_right_if_equal(&desired, &original, &edited);
    let sealed = is_sealed(&edited, &target.credentials);
    if sealed {
        is_as_written(&original, &edited);
    }
    let Some(recorded) = recorded else { return };
    assert_eq!(recorded.sealed, sealed);
    is_plausible(&recorded.registered);
    if sealed {
        assert_eq!(recorded.rendered, Some(desired.rendered), "another rendering");
        assert_eq!(recorded.served, ServedRequests::default(), "requests that nothing has served");
        assert_eq!(recorded.registered, written, "another registration");
    }
    is_doubted_without_seal(recorded);
}

fn edit(secret: &mut Secret, line: &str) {
    let Some((kind, entry)) = line.split_once(' ') else { return };
    let (key, value) = match entry.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (entry, None),
    };
    let annotations = secret.metadata.annotations.get_or_insert_default();
    let labels = secret.metadata.labels.get_or_insert_default();
    let ours = format!("{}/{key}", names::GROUP);
    let annotation = if key.contains('/') { key.to_owned() } else { ours };
    let data = secret.data.get_or_insert_default();
    match (kind, value) {
        ("a", Some(value)) => drop(annotations.insert(annotation, value)),
        ("a", None) => drop(annotations.remove(&annotation)),
        ("l", Some(value)) => drop(labels.insert(key.to_owned(), value)),
        ("l", None) => drop(labels.remove(key)),
        ("d", Some(value)) => drop(data.insert(key.to_owned(), ByteString(value.into_bytes()))),
        ("d", None) => drop(data.remove(key)),
        _ => {}
    }
}

/// Under the seal nothing is other than it was written.
fn is_as_written(original: &Secret, edited: &Secret) {
    let annotation = |secret: &Secret, key: &str| secret.metadata.annotations.as_ref()?.get(key).cloned();
    for key in SEALED {
        assert_eq!(annotation(edited, key), annotation(original, key), "{key} was edited under the seal");
    }
    for (key, value) in original.data.iter().flatten() {
        let there = edited.data.as_ref().and_then(|data| data.get(key));
        assert!(there == Some(value), "{key} was edited under the seal");
    }
}

/// A Secret to which nothing is to be done holds what it should.
fn is_right_if_equal(desired: &Desired, original: &Secret, edited: &Secret) {
    if desired.judge(edited, Known::default()) == Judgement::Equal {
        for (key, value) in original.data.iter().flatten() {
            let there = edited.data.as_ref().and_then(|data| data.get(key));
            assert!(there == Some(value), "{key} is another, and nothing is done");
        }
    }
}

fn is_plausible(registered: &Registered) {
    assert_eq!((registered.scope.as_str(), registered.registration_id.as_str()), (SCOPE, ID));
    assert!(registered.device_id.eq_ignore_ascii_case(ID), "{} is another device id", registered.device_id);
    assert!(is_plain_host(&registered.hub), "{} is no hub", registered.hub);
}

/// Of a device without a status, what has no seal is asked of DPS before it is believed.
fn is_doubted_without_seal(recorded: RecordedInSecret) {
    let sealed = recorded.sealed;
    let mut facts = Facts::default();
    facts.recall(Some(recorded), None);
    assert_eq!(facts.registered.is_some(), sealed, "a registration is believed without a seal");
    assert_eq!(matches!(facts.doubt, Some(Doubt::Unsealed(_))), !sealed);
    assert_eq!(facts.trust == Trust::Sealed, sealed);
}
