//! Objects that cannot be read never hide those that can.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tracing::warn;

/// An object, or the little that could be read of it.
///
/// Each item of a list is cut out as text first and read on its own: kube's `DeserializeGuard` reads
/// the page as a whole, and `serde_json` refuses a page in which one object is nested deeper than
/// 128 levels. The same text goes without `managedFields`, which repeat that nesting.
///
/// A status that cannot be read counts as none: the API server admits times that cannot be read, and
/// a writer of statuses would otherwise keep the object from the operator for good.
#[derive(Clone, Debug)]
pub enum Guarded<K> {
    Read(K),
    Unreadable(Box<ObjectMeta>),
}

/// What is needed to name an object that cannot be read, and to go on behind it.
#[derive(Deserialize)]
struct Outline {
    /// Absent in the items of some lists.
    kind: Option<String>,
    metadata: OutlineMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutlineMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let read = |with_status| pruned(raw.get(), with_status).and_then(|text| serde_json::from_str(&text));
        if let Ok(object) = read(true) {
            return Ok(Self::Read(object));
        }
        let Outline { kind, metadata } = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let OutlineMeta { name, namespace, resource_version } = metadata;
        if let Ok(object) = read(false) {
            warn!(kind, namespace, name, "the status of an object cannot be read; it is written anew");
            return Ok(Self::Read(object));
        }
        let meta = ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() };
        Ok(Self::Unreadable(Box::new(meta)))
    }
}

/// The members that can be left out, as they stand in the text.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// The object without `managedFields`: three quarters of its size, and nothing reads them. Its status can be
/// left out, too.
fn pruned(text: &str, with_status: bool) -> serde_json::Result<Cow<'_, str>> {
    let Members { metadata, status } = serde_json::from_str(text)?;
    let fields = metadata.map(|metadata| serde_json::from_str::<Fields<'_>>(metadata.get())).transpose()?;
    let fields = fields.and_then(|fields| fields.managed_fields);
    let mut left_out: Vec<_> =
        fields.into_iter().chain(status.filter(|_| !with_status)).map(|member| span(text, member)).collect();
    if left_out.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    left_out.sort_unstable();
    let mut rest = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in left_out {
        rest.push_str(&text[from..start]);
        rest.push_str("null");
        from = end;
    }
    rest.push_str(&text[from..]);
    Ok(Cow::Owned(rest))
}

/// Where a member that was cut out of the text stands in it.
fn span(text: &str, member: &RawValue) -> (usize, usize) {
    let start = member.get().as_ptr().addr() - text.as_ptr().addr();
    (start, start + member.get().len())
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Read(object) => object.meta(),
            Self::Unreadable(meta) => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Read(object) => object.meta_mut(),
            Self::Unreadable(meta) => meta,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;
    use crate::api::device::ProvisionedDevice;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    fn item(name: &str, spec: &str) -> String {
        let fields = nested(1000);
        format!(
            r#"{{"apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDevice", "metadata": {{"name": "{name}",
            "namespace": "fleet", "resourceVersion": "7", "managedFields": [{{"fieldsV1": {fields}}}]}}, "spec": {spec}}}"#
        )
    }

    #[test]
    fn one_bad_object_does_not_hide_a_page() {
        let deep = format!(r#"{{"integrationRef": {{"name": "factory"}}, "payload": {}}}"#, nested(1000));
        let items = [
            item("good", r#"{"integrationRef": {"name": "factory"}}"#),
            item("bad", r#"{"integrationRef": 5}"#),
            item("deep", &deep),
        ];
        let page = format!(
            r#"{{"apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDeviceList", "metadata": {{"resourceVersion": "9"}}, "items": [{}]}}"#,
            items.join(",")
        );
        let page: ObjectList<Guarded<ProvisionedDevice>> = serde_json::from_str(&page).unwrap();
        let [Guarded::Read(good), Guarded::Unreadable(bad), Guarded::Read(deep)] = &page.items[..] else {
            panic!("{:?}", page.items)
        };
        assert_eq!(good.metadata.name.as_deref(), Some("good"));
        assert!(good.metadata.managed_fields.is_none());
        assert_eq!((bad.name.as_deref(), bad.resource_version.as_deref()), (Some("bad"), Some("7")));
        assert!(deep.spec.payload.as_ref().is_some_and(|payload| payload.object().is_none()));
    }

    #[test]
    fn a_status_that_cannot_be_read_does_not_hide_its_object() {
        // The API server admits such times; no other status of this kind may be lost.
        for (time, is_read) in [("2026-01-01T00:00:00Z", true), ("2026-01-01T00:00:00+99:99", false)] {
            let condition = format!(
                r#"{{"type": "Ready", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "{time}"}}"#
            );
            let spec = format!(
                r#"{{"integrationRef": {{"name": "factory"}}}}, "status": {{"assignedHub": "h", "conditions": [{condition}]}}"#
            );
            let Guarded::Read(device) = serde_json::from_str(&item("a", &spec)).unwrap() else {
                panic!("{time} hides the device")
            };
            let device: ProvisionedDevice = device;
            assert_eq!(device.status.is_some(), is_read, "{time}");
        }
    }

    /// One of a newer version, or forged: no part of it is kept, so that its length is no matter.
    #[test]
    fn a_status_that_names_a_kind_of_credential_that_is_not_known_counts_as_none() {
        let long = "X".repeat(100_000);
        for (kind, is_read) in
            [("SymmetricKey", true), ("X509", true), ("Tpm", false), ("", false), (&*long, false)]
        {
            let spec = format!(
                r#"{{"integrationRef": {{"name": "factory"}}}}, "status": {{"assignedHub": "h", "credential": {{"type": "{kind}"}}}}"#
            );
            let Guarded::Read(device) = serde_json::from_str(&item("a", &spec)).unwrap() else {
                panic!("{} hides the device", &kind[..kind.len().min(20)])
            };
            let device: ProvisionedDevice = device;
            assert_eq!(device.status.is_some(), is_read, "{}", &kind[..kind.len().min(20)]);
        }
    }

    #[test]
    fn an_event_about_a_bad_object_is_still_an_event() {
        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, item("bad", "5"));
        let event: WatchEvent<Guarded<ProvisionedDevice>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(Guarded::Unreadable(_))));
    }
}
