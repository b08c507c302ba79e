//! A device as a watch delivers it, and its status, which others can write.

use jiff::Timestamp;
use kube::core::ObjectList;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::parts::{is_allowed_hub, suffixes, valid};
use crate::api::conditions::{ConditionType, Reason, reason_of};
use crate::api::device::{ProvisionedDevice, ProvisionedDeviceStatus};
use crate::controller::device::decide::Verdict;
use crate::controller::device::facts::Facts;
use crate::controller::device::settings::Settings;
use crate::controller::device::status::{is_equal, is_news, render};
use crate::dps::ids::{IdScope, RegistrationId};
use crate::fleet::Fleet;
use crate::kube_io::Guarded;

type Item = Guarded<ProvisionedDevice>;

const GOOD: &str = r#"{"metadata": {"name": "good", "namespace": "fleet", "resourceVersion": "7"},
    "spec": {"integrationRef": {"name": "factory"}}}"#;

/// What every object of an API server has.
#[derive(Deserialize)]
struct Named {
    kind: Option<String>,
    metadata: NamedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

/// The text of one object.
pub fn device(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return;
    }
    hides_no_other(text);
    let Ok(Guarded::Read(device)) = serde_json::from_str::<Item>(text) else { return };
    assert!(device.metadata.managed_fields.is_none(), "managedFields are kept");
    // All that is asked of these is that they do not panic.
    let _ = Settings::of(&device, None);
    let mut fleet = Fleet::default();
    for list in [None, Some(1), Some(2)] {
        fleet.upsert(&device, list);
    }
    assert_eq!(fleet.len(), 1, "one device");
    let recorded =
        device.status.as_ref().and_then(|status| reason_of(&status.conditions, ConditionType::Ready));
    for reason in [recorded.unwrap_or(Reason::Queued), Reason::Provisioned, Reason::ServiceUnavailable] {
        is_written_once(&device, reason, data.len());
    }
}

/// A page is read with it and shows the objects before and behind it.
fn hides_no_other(text: &str) {
    let Ok(Named { kind, metadata }) = serde_json::from_str::<Named>(text) else { return };
    let page = format!(
        r#"{{"apiVersion": "dps-operator.io/v1alpha1", "kind": "ProvisionedDeviceList",
        "metadata": {{"resourceVersion": "9"}}, "items": [{GOOD},{text},{GOOD}]}}"#
    );
    let page = serde_json::from_str::<ObjectList<Item>>(&page).map(|page| page.items);
    let Ok([Guarded::Read(before), item, Guarded::Read(behind)]) = page.as_deref() else {
        unreachable!("an object of kind {kind:?} hides others: {page:?}")
    };
    assert!([before, behind].iter().all(|good| good.metadata.name.as_deref() == Some("good")));
    if let Guarded::Unreadable(meta) = item {
        let NamedMeta { name, namespace, resource_version } = metadata;
        let named = (&meta.name, &meta.namespace, &meta.resource_version);
        assert_eq!(named, (&name, &namespace, &resource_version), "another object is named");
    }
}

fn facts(device: &ProvisionedDevice, now: Timestamp) -> Facts {
    let status = device.status.clone().unwrap_or_default();
    let generation = device.metadata.generation.unwrap_or(0);
    let facts = Facts::from_status(&status, generation, 7, (now, Instant::now()));
    facts.of_registration(device.registration_id()).without_foreign_hub(&suffixes())
}

/// What is written of it says the same when it is read and written again, later.
fn is_written_once(device: &ProvisionedDevice, reason: Reason, size: usize) {
    let (now, later) =
        (valid(Timestamp::from_second(1_800_000_000)), valid(Timestamp::from_second(1_800_000_060)));
    let known = facts(device, now);
    is_plausible(device, &known);
    let message = known.failure.as_ref().map_or_else(|| "m".to_owned(), |failure| failure.message.clone());
    let verdict = Verdict { reason, message };
    let first = render(device, &known, &verdict, now);
    let text = valid(serde_json::to_string(&first));
    // The message stands in up to four conditions.
    assert!(text.len() <= 5 * size + 4096, "a status of {} bytes from an object of {size}", text.len());
    let written: ProvisionedDeviceStatus = valid(serde_json::from_str(&text));
    let device = ProvisionedDevice { status: Some(written.clone()), ..device.clone() };
    let known = facts(&device, later);
    is_plausible(&device, &known);
    let second = render(&device, &known, &verdict, later);
    let same = is_equal(Some(&written), &second, known.failure.as_ref());
    assert!(same && !is_news(Some(&written), &second), "{reason:?}: {written:?}, then {second:?}");
}

/// What others have written is believed only as far as it could have been ours.
fn is_plausible(device: &ProvisionedDevice, facts: &Facts) {
    let Some(registered) = &facts.registered else { return };
    let id = device.registration_id();
    assert!(RegistrationId::parse(id).is_ok() && registered.registration_id == id, "another registration");
    assert!(registered.device_id.eq_ignore_ascii_case(id), "another device id");
    assert!(IdScope::parse(&registered.scope).is_ok(), "no id scope");
    assert!(is_allowed_hub(&registered.hub.to_ascii_lowercase()), "no hub");
}
