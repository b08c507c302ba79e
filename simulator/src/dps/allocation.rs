//! The allocation policies: which hub a device is assigned to.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::{self, AllocationPolicy};

/// The allocation policy of an enrollment, with the hub or the webhook that it needs.
#[derive(Clone, Debug)]
pub(crate) enum Allocation {
    Hashed,
    Static(Arc<str>),
    Custom(Arc<config::Webhook>),
}

/// The result of an allocation.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    Hub {
        hub: Arc<str>,
        payload: Option<Map<String, Value>>,
    },
    /// No hub is linked.
    NoHub,
    /// The webhook did not answer with a linked hub.
    WebhookFailed,
}

impl Allocation {
    /// From the fields of a validated configuration.
    pub fn of(policy: AllocationPolicy, hub: Option<&str>, webhook: Option<&config::Webhook>) -> Self {
        match (policy, hub, webhook) {
            (AllocationPolicy::Static, Some(hub), _) => Self::Static(hub.into()),
            (AllocationPolicy::Custom, _, Some(webhook)) => Self::Custom(Arc::new(webhook.clone())),
            _ => Self::Hashed,
        }
    }

    /// Chooses among the linked hubs.
    pub(super) fn choose(
        &self,
        hubs: &[Arc<str>],
        registration_id: &str,
        payload: Option<&Map<String, Value>>,
    ) -> Choice {
        if hubs.is_empty() {
            return Choice::NoHub;
        }
        let linked = |wanted: &str| hubs.iter().find(|hub| ***hub == *wanted).cloned();
        match self {
            Self::Hashed => hashed(hubs, registration_id).map_or(Choice::NoHub, Choice::plain),
            Self::Static(hub) => linked(hub).map_or(Choice::NoHub, Choice::plain),
            Self::Custom(webhook) => {
                let Some(answer) = answer(webhook, payload) else {
                    return Choice::WebhookFailed;
                };
                match linked(answer.hub) {
                    Some(hub) => Choice::Hub { hub, payload: answer.payload.cloned() },
                    None => Choice::WebhookFailed,
                }
            }
        }
    }
}

impl Choice {
    fn plain(hub: Arc<str>) -> Self {
        Self::Hub { hub, payload: None }
    }
}

/// What the simulated webhook answers.
struct Answer<'w> {
    hub: &'w str,
    payload: Option<&'w Map<String, Value>>,
}

fn answer<'w>(webhook: &'w config::Webhook, payload: Option<&Map<String, Value>>) -> Option<Answer<'w>> {
    let value = payload.and_then(|payload| payload.get(&webhook.field));
    let rule = webhook.rules.iter().find(|rule| Some(&rule.value) == value);
    match (rule, &webhook.otherwise) {
        (Some(rule), _) => Some(Answer { hub: &rule.hub, payload: rule.payload.as_ref() }),
        (None, Some(otherwise)) => Some(Answer { hub: &otherwise.hub, payload: otherwise.payload.as_ref() }),
        (None, None) => None,
    }
}

/// The hub with the highest score for this device. Devices are spread evenly, the result is the same
/// on every call, and when a hub is linked or unlinked only the devices move that it gains or loses.
fn hashed(hubs: &[Arc<str>], registration_id: &str) -> Option<Arc<str>> {
    hubs.iter().max_by_key(|hub| score(hub, registration_id)).cloned()
}

fn score(hub: &str, registration_id: &str) -> u64 {
    // FNV-1a, mixed again at the end since the last bytes reach only few bits of its result.
    let bytes = hub.bytes().chain([0]).chain(registration_id.bytes().map(|b| b.to_ascii_lowercase()));
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;
    use crate::config::{Webhook, WebhookAnswer, WebhookRule};

    fn hubs(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn hub_of(choice: Choice) -> String {
        match choice {
            Choice::Hub { hub, .. } => hub.to_string(),
            other => panic!("no hub: {other:?}"),
        }
    }

    #[test]
    fn devices_are_spread_evenly() {
        let hubs = hubs(&["a.example.net", "b.example.net", "c.example.net"]);
        let mut counts: HashMap<String, usize> = HashMap::new();
        for device in 0..9_000 {
            let choice = Allocation::Hashed.choose(&hubs, &format!("device-{device}"), None);
            *counts.entry(hub_of(choice)).or_default() += 1;
        }
        assert_eq!(counts.len(), 3);
        for (hub, count) in counts {
            assert!((2_700..3_300).contains(&count), "{hub} has {count}");
        }
    }

    #[test]
    fn another_hub_takes_its_share_and_moves_no_other_device() {
        let before = hubs(&["a.example.net", "b.example.net"]);
        let after = hubs(&["a.example.net", "b.example.net", "c.example.net"]);
        for device in 0..500 {
            let id = format!("device-{device}");
            let old = hub_of(Allocation::Hashed.choose(&before, &id, None));
            let new = hub_of(Allocation::Hashed.choose(&after, &id, None));
            assert!(new == old || new == "c.example.net", "{id}: {old} -> {new}");
        }
    }

    #[test]
    fn the_case_of_an_id_does_not_matter() {
        let hubs = hubs(&["a.example.net", "b.example.net", "c.example.net"]);
        for device in 0..50 {
            let id = format!("device-{device}");
            assert_eq!(
                Allocation::Hashed.choose(&hubs, &id, None),
                Allocation::Hashed.choose(&hubs, &id.to_uppercase(), None)
            );
        }
    }

    #[test]
    fn without_a_linked_hub_there_is_no_choice() {
        let elsewhere = Allocation::Static("c.example.net".into());
        assert_eq!(Allocation::Hashed.choose(&[], "d", None), Choice::NoHub);
        let hubs = hubs(&["a.example.net"]);
        assert_eq!(elsewhere.choose(&hubs, "d", None), Choice::NoHub);
    }

    #[test]
    fn a_webhook_decides_by_the_payload() {
        let mut webhook = Webhook {
            field: "site".to_owned(),
            rules: vec![WebhookRule {
                value: json!("north"),
                hub: "b.example.net".to_owned(),
                payload: json!({"zone": 7}).as_object().cloned(),
            }],
            otherwise: None,
        };
        let hubs = hubs(&["a.example.net", "b.example.net"]);
        let north = json!({"site": "north"}).as_object().cloned();
        let south = json!({"site": "south"}).as_object().cloned();

        let custom = Allocation::Custom(Arc::new(webhook.clone()));
        assert_eq!(
            custom.choose(&hubs, "d", north.as_ref()),
            Choice::Hub { hub: "b.example.net".into(), payload: json!({"zone": 7}).as_object().cloned() }
        );
        assert_eq!(custom.choose(&hubs, "d", None), Choice::WebhookFailed);
        assert_eq!(custom.choose(&hubs, "d", south.as_ref()), Choice::WebhookFailed);

        webhook.otherwise = Some(WebhookAnswer { hub: "a.example.net".to_owned(), payload: None });
        let custom = Allocation::Custom(Arc::new(webhook));
        assert_eq!(hub_of(custom.choose(&hubs, "d", south.as_ref())), "a.example.net");
    }
}
