//! Random fleets in which devices share registration ids, integrations and Secrets: what the index finds
//! is what a look at all devices finds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::device;
use crate::fleet::record::Record;
use crate::fleet::registration::Registration;
use crate::fleet::{DeviceId, Fleet};

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
/// The first is also a device's by default.
const SECRETS: [&str; 2] = ["a-hub", "shared"];
const SCOPES: [&str; 2] = ["A", "B"];
const NAMESPACES: [&str; 2] = ["fleet", "other"];

#[derive(Clone, Debug)]
enum Event {
    /// Shown by a watch, whatever it was before.
    Shown {
        namespace: usize,
        name: usize,
        created: u8,
        spec: Spec,
    },
    Gone(usize),
    Registered(usize, Registration),
    SecretShown(usize, usize),
    Declared(u8, Option<usize>, bool),
}

#[derive(Clone, Debug)]
struct Spec {
    registration_id: Option<u8>,
    integration: u8,
    secret: Option<u8>,
    deleting: bool,
    registered: bool,
    replaced: bool,
}

fn event() -> impl Strategy<Value = Event> {
    let spec = (
        prop::option::weighted(0.8, 0..3_u8),
        0..3_u8,
        prop::option::of(0..2_u8),
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    let spec = spec.prop_map(|(registration_id, integration, secret, deleting, registered, replaced)| Spec {
        registration_id,
        integration,
        secret,
        deleting,
        registered,
        replaced,
    });
    prop_oneof![
        6 => (0..NAMESPACES.len(), 0..NAMES.len(), 0..4_u8, spec)
            .prop_map(|(namespace, name, created, spec)| Event::Shown { namespace, name, created, spec }),
        2 => any::<prop::sample::Index>().prop_map(|place| Event::Gone(place.index(usize::MAX))),
        2 => (any::<prop::sample::Index>(), registration())
            .prop_map(|(place, registration)| Event::Registered(place.index(usize::MAX), registration)),
        1 => (any::<prop::sample::Index>(), 0..SCOPES.len())
            .prop_map(|(place, scope)| Event::SecretShown(place.index(usize::MAX), scope)),
        2 => (0..3_u8, prop::option::weighted(0.9, 0..SCOPES.len()), any::<bool>())
            .prop_map(|(integration, scope, proven)| Event::Declared(integration, scope, proven)),
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    prop::sample::select(vec![Registration::Known, Registration::Said, Registration::None])
}

fn happen(fleet: &mut Fleet, event: Event, version: u64) {
    let ids: Vec<DeviceId> = fleet.iter().map(|(id, _)| id).collect();
    let at = |place: usize| ids.get(place % ids.len().max(1)).copied();
    match event {
        Event::Shown { namespace, name, created, spec } => {
            let mut extra = json!({
                "metadata": {
                    "namespace": NAMESPACES[namespace],
                    "creationTimestamp": format!("2026-01-01T00:00:0{created}Z"),
                },
                "spec": {"integrationRef": {"name": format!("factory-{}", spec.integration)}},
            });
            if let Some(id) = spec.registration_id {
                extra["spec"]["registrationId"] = json!(format!("id-{id}"));
            }
            if let Some(secret) = spec.secret {
                extra["spec"]["secret"]["name"] = json!(SECRETS[usize::from(secret)]);
            }
            if spec.deleting {
                extra["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
            }
            if spec.registered {
                let id = extra["spec"]["registrationId"].clone();
                extra["status"] = json!({"assignedHub": "hub-a", "registrationId": id, "idScope": "a"});
            }
            let uid = u8::try_from(100 * usize::from(spec.replaced) + 50 * namespace + name).unwrap();
            fleet.upsert(&device(NAMES[name], uid, version, &extra), Some(1));
        }
        Event::Gone(place) => {
            at(place).map(|id| fleet.remove(id));
        }
        Event::Registered(place, registration) => {
            at(place).map(|id| fleet.set_registered(id, registration)).unwrap_or_default();
        }
        Event::SecretShown(place, scope) => {
            at(place).map(|id| fleet.set_has_its_secret(id, SCOPES[scope])).unwrap_or_default();
        }
        Event::Declared(integration, scope, proven) => {
            let integration = fleet.names.intern(&format!("fleet/factory-{integration}"));
            fleet.set_scope(integration, scope.map(|scope| SCOPES[scope]), proven, None);
        }
    }
}

fn all_but(fleet: &Fleet, id: DeviceId) -> impl Iterator<Item = (DeviceId, &Record)> {
    fleet.iter().filter(move |(other, _)| *other != id)
}

/// The others that claim the same id.
fn others(fleet: &Fleet, id: DeviceId) -> Vec<(DeviceId, &Record)> {
    let record = fleet.get(id).unwrap();
    let claims_it = |other: &Record| {
        !other.deleting && !record.deleting && other.registration_id() == record.registration_id()
    };
    all_but(fleet, id).filter(|(_, other)| claims_it(other)).collect()
}

fn check(fleet: &Fleet) -> Result<(), TestCaseError> {
    for (id, record) in fleet.iter() {
        let others = others(fleet, id);
        let mut best: BTreeMap<_, (DeviceId, &Record)> = BTreeMap::new();
        for (other, claim) in others.iter().copied() {
            let best = best.entry((claim.integration, claim.namespace)).or_insert((other, claim));
            if claim.has_better_claim_than(best.1) {
                *best = (other, claim);
            }
        }
        let best: BTreeSet<DeviceId> = best.into_values().map(|(id, _)| id).collect();
        prop_assert_eq!(fleet.rivals(id).map(|(id, _)| id).collect::<BTreeSet<_>>(), best);

        let of_integration = |other: &Record| other.integration == record.integration;
        let of_group = |other: &Record| of_integration(other) && other.namespace == record.namespace;
        let is_behind = |other: &Record| of_group(other) && other.has_better_claim_than(record);
        let leads = !others.is_empty() && !others.iter().any(|(_, other)| is_behind(other));
        prop_assert_eq!(fleet.leads_rivals(id), leads);
        if fleet.stands_for_integration(id) {
            prop_assert!(leads);
            let stand = others.iter().filter(|(id, _)| fleet.stands_for_integration(*id));
            prop_assert!(!stand.clone().any(|(_, other)| of_integration(other)));
        } else if leads {
            let stands = |id: DeviceId| fleet.stands_for_integration(id);
            prop_assert!(others.iter().any(|(id, other)| of_integration(other) && stands(*id)));
        }

        let same: BTreeSet<_> =
            fleet.iter().filter(|(_, other)| of_integration(other)).map(|(id, _)| id).collect();
        prop_assert_eq!(
            fleet.of_integration(record.integration).iter().copied().collect::<BTreeSet<_>>(),
            same
        );

        let secret = record.secret_name();
        let names_it = |other: &Record| other.namespace == record.namespace && other.secret_name() == secret;
        let users: BTreeSet<_> =
            fleet.iter().filter(|(_, other)| names_it(other)).map(|(id, _)| id).collect();
        let namespace = fleet.names.text(record.namespace);
        let found: Vec<_> = fleet.devices_of_secret(namespace, &secret).collect();
        prop_assert_eq!(found.len(), users.len());
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), users.clone());
        prop_assert_eq!(fleet.has_its_secret_alone(id), users.len() == 1);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_index_finds_what_a_look_at_all_devices_finds(events in prop::collection::vec(event(), 1..80)) {
        let mut fleet = Fleet::default();
        for (version, event) in (1..).zip(events) {
            happen(&mut fleet, event, version);
            check(&fleet)?;
        }
        let ids: Vec<DeviceId> = fleet.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| drop(fleet.remove(id)));
        prop_assert!(fleet.is_empty_everywhere());
    }
}
