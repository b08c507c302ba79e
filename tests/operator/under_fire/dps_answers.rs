//! What DPS answers is no answer: nothing of it is used, and it costs no memory.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_simulator::{Fault, FaultAction, HugeOf, OperationKind, RawBody};

use crate::world::{HUBS, Kind, World, condition};

/// What a device is answered, and words of the message that says what is wrong with it.
type Answers = Vec<(&'static str, FaultAction, &'static str)>;

const NOT_JSON: &str = "not the JSON that DPS sends";
const TOO_LARGE: &str = "larger than 256 KiB, or has more than 64 headers";

/// Each device of these is Stalled with a reason and without a Secret, others are not concerned; once DPS
/// answers as it should, they go on.
async fn are_refused(world: &World, answers: &Answers) {
    for (device, action, _) in answers {
        world.dps.inject(Fault::device(device, action.clone()).on(OperationKind::Register)).unwrap();
        world.device(device).await;
    }
    world.device("truck-1").await;

    for (device, _, words) in answers {
        let object = world.wait_reason(device, "InvalidResponse").await;
        let said = condition(&object, "Stalled").unwrap().message;
        assert!(said.contains(words), "{device}: {said}");
        assert!(object["status"]["assignedHub"].is_null(), "{device}");
        assert_eq!(world.registers_of(device), 1, "{device}: it waits before it is tried again");
    }
    world.wait_ready("truck-1").await;
    assert_eq!(world.generated_secrets().await.len(), 2, "first's and truck-1's");
}

async fn go_on(world: &World, answers: &Answers) {
    world.dps.clear_faults();
    for (device, ..) in answers {
        world.request_lookup(Kind::Device, device, "now").await;
    }
    for (device, ..) in answers {
        world.wait_ready(device).await;
    }
    assert_eq!(world.assert_secrets_accepted().await, answers.len() + 2);
}

/// JSON that a lenient reader would take for an assignment.
fn assigned_with(hub: &str, rest: &str) -> String {
    format!(
        r#"{{"operationId":"4.a.b","status":"assigned","registrationState":{{"status":"assigned",
            "assignedHub":{hub}{rest}}}}}"#
    )
}

fn bytes(body: &[u8]) -> FaultAction {
    let json = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
    FaultAction::Answer {
        status: 200,
        headers: BTreeMap::from([json]),
        body: RawBody::Base64(STANDARD.encode(body)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_valid_json_or_names_no_operation_is_refused_until_dps_answers_again() {
    let world = World::accepted().await;
    let json = |body: String| FaultAction::json(&body);
    let hub = format!("\"{}\"", HUBS[0]);
    let device = |id: &str| format!(r#","deviceId":"{id}","registrationId":"{id}""#);
    let twice = format!(r#"{},"assignedHub":"evil.azure-devices.net""#, device("twice"));
    let invalid = assigned_with("\"hub-\u{0}.azure-devices.net\"", &device("utf-8")).replace('\0', "?");
    let invalid =
        invalid.into_bytes().iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect::<Vec<u8>>();
    let utf_16: Vec<u8> =
        assigned_with(&hub, &device("utf-16")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let operation = |id: &str| json(format!(r#"{{"operationId":{id},"status":"assigning"}}"#));
    let no_operation = "names no operation";
    let answers = vec![
        ("twice", json(assigned_with(&hub, &twice)), NOT_JSON),
        (
            "operation-twice",
            json(r#"{"operationId":"4.a","operationId":"4.b","status":"assigning"}"#.to_owned()),
            NOT_JSON,
        ),
        ("utf-8", bytes(&invalid), NOT_JSON),
        ("utf-16", bytes(&utf_16), NOT_JSON),
        ("nan", json(assigned_with(&hub, &format!(r#"{},"errorCode":NaN"#, device("nan")))), NOT_JSON),
        (
            "infinite",
            json(assigned_with(&hub, &format!(r#"{},"errorCode":1e999"#, device("infinite")))),
            NOT_JSON,
        ),
        ("two-values", json(format!("{0}{0}", assigned_with(&hub, &device("two-values")))), NOT_JSON),
        ("null", json("null".to_owned()), NOT_JSON),
        ("operation-null", operation("null"), no_operation),
        ("operation-empty", operation(r#""""#), no_operation),
        ("operation-number", operation("7"), NOT_JSON),
        ("operation-long", operation(&format!("\"{}\"", "4".repeat(60_000))), no_operation),
        ("operation-path", operation(r#""..""#), no_operation),
    ];

    are_refused(&world, &answers).await;

    assert!(world.ledger().iter().all(|entry| entry.operation != OperationKind::Other));
    go_on(&world, &answers).await;
}

fn many_headers() -> FaultAction {
    let headers = (0..70).map(|number| (format!("x-filler-{number}"), "a".to_owned())).collect();
    FaultAction::Answer { status: 200, headers, body: RawBody::Text(String::new()) }
}

/// In KiB.
const MORE_MEMORY: u64 = 16 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_too_large_are_capped_and_take_no_memory() {
    let world = World::accepted().await;
    let before = world.peak_kib();
    let huge = |bytes, of| FaultAction::Huge { bytes, of };
    let answers = vec![
        ("bomb", huge(200_000, HugeOf::Gzip), NOT_JSON),
        ("large-bomb", huge(10_000_000, HugeOf::Gzip), TOO_LARGE),
        ("header", huge(1_000_000, HugeOf::Header), TOO_LARGE),
        ("small-header", huge(20_000, HugeOf::Header), TOO_LARGE),
        ("headers", many_headers(), TOO_LARGE),
        ("space", huge(100_000_000, HugeOf::Space), TOO_LARGE),
        ("levels", huge(250_000, HugeOf::Nesting), NOT_JSON),
        ("million-levels", huge(1_000_000, HugeOf::Nesting), TOO_LARGE),
        ("endless", FaultAction::Endless, TOO_LARGE),
    ];

    are_refused(&world, &answers).await;

    let more = world.peak_kib() - before;
    assert!(more <= MORE_MEMORY, "{more} KiB more than {before} KiB");
    go_on(&world, &answers).await;
    println!("{more} KiB more than {before} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_endless_answers_at_once_take_no_more_memory_than_their_caps() {
    let world = World::accepted().await;
    let before = world.peak_kib();
    world.dps.inject(Fault::global(FaultAction::Endless)).unwrap();

    world.devices("truck", 20).await;

    for number in 1..=20 {
        world.wait_reason(&format!("truck-{number}"), "InvalidResponse").await;
    }
    let more = world.peak_kib() - before;
    assert!(more <= MORE_MEMORY, "{more} KiB more than {before} KiB");
    println!("{more} KiB more than {before} KiB");
}

/// What an answer is shows its body: DPS's is read whatever stands in between calls it, and a page is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_counts_and_not_what_the_content_type_calls_it() {
    let world = World::accepted().await;
    let named = |value: Option<&str>| FaultAction::ContentType { value: value.map(str::to_owned) };
    let types = [
        ("plain", Some("text/plain")),
        ("html", Some("text/html")),
        ("none", None),
        ("odd", Some("a/b;;=\"")),
        ("encoded", Some("application/json; charset=utf-16")),
    ];
    for (device, value) in types {
        world.dps.inject(Fault::device(device, named(value))).unwrap();
        world.device(device).await;
    }
    let page = b"<html>Sign in</html>";
    let answers = vec![("portal", FaultAction::Html, NOT_JSON), ("page", bytes(page), NOT_JSON)];
    for (device, _) in types {
        world.wait_ready(device).await;
    }
    for (device, action, words) in &answers {
        world.dps.inject(Fault::device(device, action.clone())).unwrap();
        world.device(device).await;
        let said = condition(&world.wait_reason(device, "InvalidResponse").await, "Stalled").unwrap().message;
        assert!(said.contains(words) && !said.contains("Sign in"), "{device}: {said}");
    }
    assert_eq!(world.assert_secrets_accepted().await, 1 + types.len());
}
