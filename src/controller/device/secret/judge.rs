//! Whether a Secret that is there is ours, and what would make it what it should be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use super::{Desired, annotation, label, managed_keys};
use crate::api::names;

/// How a Secret that is there relates to the one that should be.
#[derive(Debug, PartialEq)]
pub enum Judgement {
    /// Nothing to do.
    Equal,
    /// Ours; this strategic merge patch makes it what it should be.
    Patch(Value),
    /// Not ours, and never touched. The text says what to do.
    Foreign(Cow<'static, str>),
}

/// What is known of the Secret that is there beside what stands in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// It is as the operator wrote it.
    pub sealed: bool,
    /// The status says that it was written for this very device.
    pub written: bool,
    /// No other device names it.
    pub alone: bool,
}

/// Whom a mark names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    This,
    /// One of the same name in another namespace: the Secret was copied, or restored under another
    /// name of the namespace.
    Namesake,
    Another,
    NoOne,
}

/// Whom the annotation names that says which device a Secret was written for.
pub(super) fn named_device(secret: &Secret, namespace: &str, device: &str) -> Named {
    let Some(text) = annotation(secret, names::DEVICE) else { return Named::NoOne };
    match text.split_once('/') {
        Some((of, name)) if name == device && of == namespace => Named::This,
        Some((of, name)) if name == device && !of.is_empty() => Named::Namesake,
        _ => Named::Another,
    }
}

impl Desired {
    /// Compares with the Secret that is there.
    pub fn judge(&self, existing: &Secret, known: Known) -> Judgement {
        if let Some(why) = self.foreign(existing, known) {
            return Judgement::Foreign(why);
        }
        let changes = self.changes(existing);
        if changes.as_object().is_none_or(Map::is_empty) {
            return Judgement::Equal;
        }
        if existing.immutable == Some(true) && changes.get("data").is_some() {
            return Judgement::Foreign(
                "is immutable. Delete it, and it is written again within seconds.".into(),
            );
        }
        let mut patch = changes;
        patch["metadata"]["uid"] = json!(existing.metadata.uid);
        patch["metadata"]["resourceVersion"] = json!(existing.metadata.resource_version);
        Judgement::Patch(patch)
    }

    /// The patch for a Secret that is, at this version, exactly as we wrote it with the same settings:
    /// nothing has to be read, and nothing happens if it is not that version any more.
    pub fn blind_patch(&self, version: u64) -> Value {
        let data: Map<String, Value> =
            self.data.iter().map(|(key, value)| (key.clone(), json!(ByteString(value.to_vec())))).collect();
        json!({
            "metadata": {"resourceVersion": version.to_string(), "annotations": self.annotations},
            "data": data,
        })
    }

    /// What shows users of a Secret under a former name where the credentials are now; `None` if it
    /// says so already or is not ours.
    pub fn superseded(&self, old: &Secret, known: Known) -> Option<Value> {
        let shown = annotation(old, names::SUPERSEDED_BY) == Some(self.name.as_str());
        (!shown && self.foreign(old, known).is_none()).then(|| {
            json!({"metadata": {
                "uid": old.metadata.uid,
                "resourceVersion": old.metadata.resource_version,
                "annotations": {names::SUPERSEDED_BY: self.name},
            }})
        })
    }

    /// Why the Secret is not ours; `None` if it is.
    fn foreign(&self, existing: &Secret, known: Known) -> Option<Cow<'static, str>> {
        let meta = &existing.metadata;
        if existing.type_.as_deref().is_some_and(|kind| kind != "Opaque") {
            return Some("exists and is of another type. Rename it, or set another spec.secret.name.".into());
        }
        let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        if let Some(OwnerReference { kind, name, .. }) = controller.filter(|owner| !self.is_device(owner)) {
            // The API server takes names of any length.
            let owner: String = format!("{kind} {name}").chars().take(320).collect();
            return Some(format!("belongs to {owner:?}. Set another spec.secret.name.").into());
        }
        let named = named_device(existing, &self.namespace, &self.device_name);
        let labelled = label(existing, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY);
        let of_another = labelled && named == Named::Another;
        let adopted = annotation(existing, names::ADOPT) == Some("true") && (known.alone || !of_another);
        if adopted || self.has_our_marks(existing, controller, named, known) {
            return None;
        }
        let why = if of_another {
            "is another device's. Set another spec.secret.name, or delete the Secret if that device is gone or its marks were edited."
        } else {
            "exists and was not written for this device. Delete it, set another spec.secret.name, or let the operator take it over with annotation dps-operator.io/adopt: \"true\"."
        };
        Some(why.into())
    }

    /// Four marks say whose a Secret is: owner, label, and the annotations that name device and
    /// registration. Two have to be right, so that one that others have taken away orphans nothing.
    /// None may name another; of a Secret that this device has written and no other one names, one may have
    /// been rewritten. That it has written it is in its status, which others may edit.
    fn has_our_marks(
        &self,
        existing: &Secret,
        controller: Option<&OwnerReference>,
        named: Named,
        known: Known,
    ) -> bool {
        let registration = annotation(existing, names::REGISTRATION);
        let wanted = self.annotations.get(names::REGISTRATION).map(String::as_str);
        let of_registration = registration.is_some()
            && (registration == wanted || registration == self.former_registration.as_deref());
        // No device of another namespace can have written one here.
        let of_device = named == Named::This || (named == Named::Namesake && known.sealed);
        let right = [
            controller.is_some(),
            label(existing, names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY),
            of_device,
            of_registration,
        ];
        let wrong = [named != Named::NoOne && !of_device, registration.is_some() && !of_registration];
        let written =
            (known.written && known.alone) || controller.is_some_and(|owner| owner.uid == self.device_uid);
        let count = |marks: &[bool]| marks.iter().filter(|mark| **mark).count();
        count(&right) >= 2 && count(&wrong) <= usize::from(written)
    }

    /// The device itself, or an earlier object of the same name: names are unique, so any other uid
    /// under it is extinct.
    fn is_device(&self, owner: &OwnerReference) -> bool {
        owner.kind == names::DEVICE_KIND
            && owner.name == self.device_name
            && owner.api_version.split('/').next() == Some(names::GROUP)
    }

    fn changes(&self, existing: &Secret) -> Value {
        let mut patch = Map::new();
        let mut metadata = Map::new();
        let differing = |wanted: &BTreeMap<String, String>,
                         there: Option<&BTreeMap<String, String>>|
         -> Map<String, Value> {
            let there = |key| there.and_then(|map| map.get(key));
            wanted.iter().filter(|(k, v)| there(*k) != Some(*v)).map(|(k, v)| (k.clone(), json!(v))).collect()
        };
        let mut labels = differing(&self.labels, existing.metadata.labels.as_ref());
        let mut annotations = differing(&self.annotations, existing.metadata.annotations.as_ref());
        for key in ours(existing, "f:labels").filter(|key| !self.labels.contains_key(*key)) {
            labels.insert(key.to_owned(), Value::Null);
        }
        for key in ours(existing, "f:annotations").filter(|key| !self.annotations.contains_key(*key)) {
            annotations.insert(key.to_owned(), Value::Null);
        }
        if annotation(existing, names::SUPERSEDED_BY).is_some() {
            annotations.insert(names::SUPERSEDED_BY.to_owned(), Value::Null);
        }
        let owners = self.owner_changes(existing);
        let data = self.data_changes(existing);
        for (key, map) in [("labels", labels), ("annotations", annotations)] {
            if !map.is_empty() {
                metadata.insert(key.to_owned(), Value::Object(map));
            }
        }
        if !owners.is_empty() {
            metadata.insert("ownerReferences".to_owned(), Value::Array(owners));
        }
        if !metadata.is_empty() {
            patch.insert("metadata".to_owned(), Value::Object(metadata));
        }
        if !data.is_empty() {
            patch.insert("data".to_owned(), Value::Object(data));
        }
        Value::Object(patch)
    }

    /// Our reference added or removed, extinct ones of the same device removed, all others kept.
    fn owner_changes(&self, existing: &Secret) -> Vec<Value> {
        let there: Vec<_> =
            existing.metadata.owner_references.iter().flatten().filter(|o| self.is_device(o)).collect();
        let keep = |owner: &OwnerReference| self.owner.as_ref().is_some_and(|own| own.uid == owner.uid);
        let mut changes: Vec<Value> = there
            .iter()
            .filter(|owner| !keep(owner))
            .map(|owner| json!({"$patch": "delete", "uid": owner.uid}))
            .collect();
        let present = there.iter().any(|owner| Some(*owner) == self.owner.as_ref());
        if let Some(owner) = self.owner.as_ref().filter(|_| !present) {
            changes.push(json!(owner));
        }
        changes
    }

    fn data_changes(&self, existing: &Secret) -> Map<String, Value> {
        let empty = BTreeMap::new();
        let there = existing.data.as_ref().unwrap_or(&empty);
        let mut changes: Map<String, Value> = self
            .data
            .iter()
            .filter(|(key, value)| there.get(*key).is_none_or(|have| have.0 != ***value))
            .map(|(key, value)| (key.clone(), json!(ByteString(value.to_vec()))))
            .collect();
        let stale =
            managed_keys(existing).filter(|key| there.contains_key(*key) && !self.data.contains_key(*key));
        changes.extend(stale.map(|key| (key.to_owned(), Value::Null)));
        changes
    }
}

/// Labels or annotations that the operator has set, as the API server keeps account of them: what is
/// no longer asked for is removed again, what others have set or changed stays.
fn ours<'a>(existing: &'a Secret, field: &'static str) -> impl Iterator<Item = &'a str> {
    let entries = existing.metadata.managed_fields.iter().flatten();
    let own = entries.filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
    let fields = own.filter_map(|entry| entry.fields_v1.as_ref());
    fields
        .filter_map(move |fields| fields.0.get("f:metadata")?.get(field)?.as_object())
        .flat_map(|map| map.keys().filter_map(|key| key.strip_prefix("f:")))
}
