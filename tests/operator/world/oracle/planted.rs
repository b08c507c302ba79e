//! The oracle sees: each of these defects is planted in the story of a run in which nothing was wrong.

use dps_dev::audit;
use dps_dev::pki::Identity;
use dps_simulator::OperationKind;
use serde_json::{Value, json};

use super::breaches;
use super::story::{Process, Story};
use super::telling::tell;
use crate::world::certificates;
use crate::world::keys::{NEW_KEY, fingerprint};
use crate::world::scanner::{base64, bytes_of, device_key};
use crate::world::{HUBS, INTEGRATION, Kind, OTHER_HUB, PRIMARY_KEY, SECONDARY_KEY, World, condition};

type Plant = fn(&mut Story);

/// What is planted, and the invariant that it breaks.
const DEFECTS: [(&str, &str, Plant); 42] = [
    ("another group key", WHOLE, |story| data(story, "sharedAccessKey", &key_of(SECONDARY_KEY))),
    ("another key in the connection string", WHOLE, |story| {
        let text = format!("HostName={};DeviceId=truck-1;SharedAccessKey={}", hub(story), key_of(NEW_KEY));
        data(story, "connectionString", &text);
    }),
    ("another hub", WHOLE, |story| data(story, "iotHubHostname", OTHER_HUB)),
    ("another hub in the connection string", WHOLE, |story| {
        data(story, "connectionString", &format!("HostName={OTHER_HUB};DeviceId=truck-1"));
    }),
    ("another device id", WHOLE, |story| data(story, "deviceId", "truck-2")),
    ("another registration id", WHOLE, |story| data(story, "registrationId", "truck-2")),
    ("a part is missing", WHOLE, |story| {
        secret(story)["data"].as_object_mut().unwrap().remove("deviceId");
    }),
    ("the name of another key", WHOLE, |story| {
        secret(story)["metadata"]["annotations"]["dps-operator.io/credential-fingerprint"] =
            json!(fingerprint(SECONDARY_KEY));
    }),
    ("a Secret of others is written", "only its own Secrets", |story| {
        let metadata = &mut secret(story)["metadata"];
        for marks in ["labels", "annotations", "ownerReferences"] {
            metadata[marks].take();
        }
    }),
    ("a reason of a device that nobody knows", DOCUMENTED, |story| {
        ready(device(story))["reason"] = json!("Whatever");
    }),
    ("a reason of an integration that nobody knows", DOCUMENTED, |story| {
        ready(last(story, Kind::Integration))["reason"] = json!("Whatever");
    }),
    ("a generation goes back", "observedGeneration goes forward", |story| {
        device(story)["status"]["observedGeneration"] = json!(0);
    }),
    ("a generation of an integration goes back", "observedGeneration goes forward", |story| {
        last(story, Kind::Integration)["status"]["observedGeneration"] = json!(0);
    }),
    ("a transition without one", "transition times change with the status only", |story| {
        ready(device(story))["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
    }),
    ("Ready without a Secret", MATCHES, |story| story.states.retain(|state| state.kind != Kind::Secret)),
    ("Ready with another hub than the Secret's", MATCHES, |story| {
        device(story)["status"]["assignedHub"] = json!(OTHER_HUB);
        changed(device(story));
    }),
    ("Ready with another key than the Secret's", MATCHES, |story| {
        device(story)["status"]["credential"]["fingerprint"] = json!(fingerprint(NEW_KEY));
        changed(device(story));
    }),
    ("Ready with another device id than the Secret's", MATCHES, |story| {
        device(story)["status"]["deviceId"] = json!("truck-2");
        changed(device(story));
    }),
    ("a state of the Secret that never was", MATCHES, |story| {
        device(story)["status"]["secret"]["resourceVersion"] = json!("1");
    }),
    ("a deletion in DPS", "only device calls", |story| {
        let mut entry = story.ledger[0].clone();
        (entry.method, entry.operation) = ("DELETE".to_owned(), OperationKind::Other);
        story.ledger.push(entry);
    }),
    ("registrations without a cause", "registrations are bounded", |story| {
        let register = story.ledger.iter().find(|entry| entry.operation == OperationKind::Register);
        let register = register.unwrap().clone();
        story.ledger.extend(std::iter::repeat_n(register, 12));
    }),
    ("more registrations in a minute than there may be", "rates are kept", |story| {
        story.most_a_minute = 2;
        let lookup = story.ledger.iter().find(|entry| entry.operation == OperationKind::Lookup);
        let lookup = lookup.unwrap().clone();
        story.ledger.extend([lookup.clone(), lookup]);
    }),
    ("an operation beside another one", "operations do not overlap", |story| {
        story.ledger.last_mut().unwrap().status = Some(409);
    }),
    ("a Secret is deleted", ITS_WRITES, |story| asked(story, "delete", "secrets")),
    ("a Secret is replaced", ITS_WRITES, |story| asked(story, "update", "secrets")),
    ("a device is patched", ITS_WRITES, |story| asked(story, "patch", "provisioneddevices")),
    ("a status is written for ever", "writes are bounded", |story| {
        for _ in 0..80 {
            asked(story, "update", "provisioneddevices/status");
        }
    }),
    ("a status that says the same once more", NEWS, |story| again(story, "update provisioneddevices/status")),
    ("a Secret that is patched into what it was", NEWS, |story| again(story, "patch secrets")),
    ("a panic", "no panic", |story| story.log.push_str("\nthread 'main' panicked at src/main.rs:1:1\n")),
    ("a panic in the middle of a long log", "no panic", |story| {
        let more = "\n2026 TRACE dps_operator: on and on".repeat(40_000);
        story.log = format!("{more}\nthread 'main' panicked at src/main.rs:1:1\n{more}");
    }),
    ("a flood of lines", "bounded self", |story| {
        story.log.push_str(&"\n2026 INFO dps_operator: again".repeat(2000));
    }),
    ("a flood in the middle of a long log", "bounded self", |story| {
        let more = "\n2026 TRACE dps_operator: on and on".repeat(40_000);
        story.log = [more.clone(), "\n2026 WARN dps_operator: again".repeat(2000), more].concat();
    }),
    ("memory", "bounded self", |story| {
        story.process = Some(Process { peak_kib: 300 * 1024, descriptors: 10 });
    }),
    ("descriptors", "bounded self", |story| {
        story.process = Some(Process { peak_kib: 1024, descriptors: 900 });
    }),
    ("a key in the log", SECRET, |story| story.log.push_str(PRIMARY_KEY)),
    ("a piece of a key in the log", SECRET, |story| story.log.push_str(&PRIMARY_KEY[9..21])),
    ("the key of a device in the log", SECRET, |story| story.log.push_str(&key_of(PRIMARY_KEY))),
    ("a piece of the key of a device in a status", SECRET, |story| {
        ready(device(story))["message"] = json!(key_of(PRIMARY_KEY)[7..19]);
    }),
    ("the end of a token in the log", SECRET, |story| story.log.push_str("…truck-1&sig=x&se=1")),
    ("a key in hexadecimal in an event", SECRET, |story| {
        let hex: String = bytes_of(PRIMARY_KEY).iter().map(|byte| format!("{byte:02x}")).collect();
        story.events.push(json!({"note": hex}));
    }),
    ("a token in a message", SECRET, |story| {
        ready(device(story))["message"] =
            json!("SharedAccessSignature sr=0ne%2Fregistrations%2Ftruck-1&sig=x");
    }),
];

/// The same for a device with a certificate, and one that has nothing to do with it.
type PlantCertificate = fn(&mut Story, &Identity);

const DEFECTS_OF_CERTIFICATES: [(&str, &str, PlantCertificate); 7] = [
    ("another certificate", WHOLE, |story, other| data(story, "tls.crt", &other.pem)),
    ("another certificate's key", WHOLE, |story, other| data(story, "tls.key", &other.key_pem())),
    ("a certificate's connection string without its mark", WHOLE, |story, _| {
        let text = format!("HostName={};DeviceId=truck-1", hub(story));
        data(story, "connectionString", &text);
    }),
    ("a certificate that DPS has never seen", REGISTERED, |story, other| {
        data(story, "tls.crt", &other.pem);
        data(story, "tls.key", &other.key_pem());
        secret(story)["metadata"]["annotations"]["dps-operator.io/credential-fingerprint"] =
            json!(certificates::fingerprint(&other.pem));
    }),
    ("a certificate that DPS has only looked up", REGISTERED, |story, _| {
        let registers = story.ledger.iter_mut().filter(|entry| entry.operation == OperationKind::Register);
        registers.for_each(|entry| entry.operation = OperationKind::Lookup);
    }),
    ("a certificate that DPS has refused", REGISTERED, |story, _| {
        story.ledger.iter_mut().for_each(|entry| entry.key = None);
    }),
    ("the key of a certificate in the log", SECRET, |story, _| {
        let key = story.private_keys[0].clone();
        story.log.push_str(&base64(&key)[20..60]);
    }),
];

const REGISTERED: &str = "a certificate is registered before it is published";
const WHOLE: &str = "credentials are whole";
const DOCUMENTED: &str = "reasons are documented";
const MATCHES: &str = "Ready means a Secret that matches";
const ITS_WRITES: &str = "only its own writes";
const NEWS: &str = "each write changes something";
const SECRET: &str = "nothing secret is shown";

fn key_of(group_key: &str) -> String {
    base64(&device_key(group_key, "truck-1"))
}

fn last(story: &mut Story, kind: Kind) -> &mut Value {
    let of_kind = |state: &&mut super::watching::State| state.kind == kind && !state.deleted;
    &mut story.states.iter_mut().rev().find(of_kind).expect("there is one").object
}

fn device(story: &mut Story) -> &mut Value {
    last(story, Kind::Device)
}

/// The first state of the generated Secret.
fn secret(story: &mut Story) -> &mut Value {
    let generated = |state: &&mut super::watching::State| {
        state.kind == Kind::Secret && state.object["metadata"]["name"] == "truck-1-hub"
    };
    &mut story.states.iter_mut().find(generated).expect("there is one").object
}

fn data(story: &mut Story, key: &str, value: &str) {
    secret(story)["data"][key] = json!(base64(value.as_bytes()));
}

fn hub(story: &mut Story) -> String {
    device(story)["status"]["assignedHub"].as_str().expect("it is assigned").to_owned()
}

fn ready(object: &mut Value) -> &mut Value {
    let conditions = object["status"]["conditions"].as_array_mut().expect("it has a status");
    conditions.iter_mut().find(|condition| condition["type"] == "Ready").expect("it has one")
}

/// What the status says is news.
fn changed(device: &mut Value) {
    ready(device)["message"] = json!("Assigned.");
}

fn asked(story: &mut Story, verb: &str, resource: &str) {
    let request = audit::Request::new(verb, resource);
    let event = audit::Event { request, ..story.requests[0].clone() };
    story.requests.push(event);
}

fn again(story: &mut Story, request: &str) {
    let last = story.requests.iter().rev().find(|event| event.request.to_string() == request);
    let last = last.expect("there is one").clone();
    story.requests.push(last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_defect_is_noticed() {
    let world = World::start().await;
    world.device("truck-1").await;
    let device = world.wait_ready("truck-1").await;
    let other = HUBS.into_iter().find(|hub| device["status"]["assignedHub"] != *hub).unwrap();
    world.dps.move_device(crate::world::SCOPE, "truck-1", other).unwrap();
    world.request_lookup(Kind::Device, "truck-1", "now").await;
    world.wait(Kind::Device, "truck-1", "moved", |d| d["status"]["assignedHub"] == other).await;
    world.wait(Kind::Integration, INTEGRATION, "available", |i| condition(i, "Ready").is_some()).await;
    let story = world.story().await;
    assert_eq!(breaches(&story), []);

    for (defect, invariant, plant) in DEFECTS {
        let mut planted = story.clone();
        plant(&mut planted);
        let found = breaches(&planted);
        assert!(found.iter().any(|breach| breach.invariant == invariant), "{defect}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_defect_of_a_certificate_is_noticed() {
    let root = certificates::root("fleet-root");
    let world = World::with_certificates(&root).await;
    world.certified(&root, "truck-1").await;
    world.wait_ready("truck-1").await;
    world.wait_integration(INTEGRATION, "Available").await;
    let other = certificates::device(&root, "truck-1");
    let story = world.story().await;
    assert_eq!(breaches(&story), []);

    for (defect, invariant, plant) in DEFECTS_OF_CERTIFICATES {
        let mut planted = story.clone();
        plant(&mut planted, &other);
        let found = breaches(&planted);
        assert!(found.iter().any(|breach| breach.invariant == invariant), "{defect}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_is_told_with_what_led_to_it_and_with_nothing_secret() {
    let world = World::start().await;
    world.device("truck-1").await;
    world.device("truck-2").await;
    world.wait_all_ready(2).await;
    let mut story = world.story().await;
    data(&mut story, "iotHubHostname", OTHER_HUB);

    let told = tell(&story, &breaches(&story));

    for part in ["credentials are whole", "Register", "create secrets truck-1-hub", "Ready=True Provisioned"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("truck-2") && !told.contains(&key_of(PRIMARY_KEY)[..12]), "{told}");
}
