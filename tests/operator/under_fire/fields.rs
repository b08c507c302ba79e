//! Every field that the CRDs have, with values at the limits of its schema and beyond: what is admitted is
//! changed and changed back, and leaves no trace.

use std::time::Duration;

use serde_json::{Value, json};

use super::snapshot::{differences, snapshot};
use super::{fired_at, is_thorough};
use crate::world::commands::read;
use crate::world::objects::is_observed;
use crate::world::waiting::{until, until_true};
use crate::world::{INTEGRATION, Kind, POLL, World};

const DEVICE: &str = "first";
/// What the operator makes of a change need not be waited for to its end: it is changed back meanwhile, too.
const A_LOOK: Duration = Duration::from_secs(2);

/// A value for the field at this path of the spec.
struct Case {
    path: Vec<String>,
    value: Value,
}

/// All fields of a CRD's spec with what may be tried there.
fn cases(crd: &str) -> Vec<Case> {
    let crd: Value =
        serde_saphyr::from_str(&read(&format!("crds/{crd}.dps-operator.io.yaml"))).expect("it is YAML");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut cases = Vec::new();
    walk(spec, &[], &mut cases);
    cases
}

fn walk(schema: &Value, path: &[String], cases: &mut Vec<Case>) {
    let values = values(schema);
    cases.extend(values.into_iter().map(|value| Case { path: path.to_vec(), value }));
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        walk(schema, &[path, std::slice::from_ref(name)].concat(), cases);
    }
}

fn values(schema: &Value) -> Vec<Value> {
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().cloned().chain([json!("Other")]).collect();
    }
    match schema["type"].as_str() {
        Some("boolean") => vec![json!(true), json!(false), json!("true")],
        Some("integer") => {
            let of = |key: &str, usual: i64| schema[key].as_i64().unwrap_or(usual);
            let (least, most) = (of("minimum", 0), of("maximum", i64::from(i32::MAX)));
            vec![json!(least), json!(most), json!(least - 1), json!(most.saturating_add(1)), json!("1")]
        }
        Some("string") => {
            let longest =
                schema["maxLength"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(300);
            let texts = [
                "",
                "a",
                "a b",
                "é",
                "a\nb",
                "1h",
                "90m",
                "0s",
                "a.example",
                "a.example/b",
                "A_b:c-d.e",
                "-1",
            ];
            let long = [longest, longest + 1].map(|length| "x".repeat(length));
            texts
                .into_iter()
                .map(str::to_owned)
                .chain(long)
                .map(|text| json!(text))
                .chain([json!(1)])
                .collect()
        }
        Some("array") => {
            let items: Vec<Value> = values(&schema["items"]).into_iter().take(4).collect();
            let most = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(100);
            let many = vec![items.first().cloned().unwrap_or_default(); most + 1];
            items.iter().map(|item| json!([item])).chain([json!([]), json!(many)]).collect()
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            let values = values(&schema["additionalProperties"]);
            let names = ["a", "example.com/a", "kubernetes.io/a", "A b", ""];
            let first = values.get(1).or(values.first()).cloned().unwrap_or_default();
            let named = names.into_iter().map(|name| json!({name: first}));
            named.chain(values.iter().take(4).map(|value| json!({"a": value}))).collect()
        }
        Some("object") if schema["x-kubernetes-preserve-unknown-fields"] == true => {
            vec![
                json!({"a": 1}),
                json!({"a": {"b": [null, 1.5, "é"]}}),
                json!({"a": "x".repeat(10_000)}),
                json!([]),
            ]
        }
        _ => vec![json!({}), json!("text")],
    }
}

fn at(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |value, name| json!({name.as_str(): value}))
}

/// Without the number of changes.
fn without_generations(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| !["generation", "observedGeneration"].contains(&key.as_str()))
            .map(|(key, value)| (key, without_generations(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_generations).collect(),
        other => other,
    }
}

async fn changed_and_changed_back(kind: Kind, name: &str, crd: &str, prime: usize) {
    let world = fired_at().await;
    let before = world.get(kind, name).await["spec"].clone();
    let end = without_generations(snapshot(&world, DEVICE).await);
    let cases = cases(crd);
    let step = if is_thorough() { 1 } else { prime };
    let (mut admitted, mut refused) = (0, 0);
    for Case { path, value } in cases.iter().step_by(step) {
        let spec = json!({"spec": at(path, value.clone())});
        if let Err(error) = world.try_patch(kind, name, spec).await {
            let answer = error.to_string();
            assert!(!answer.contains("Internal error"), "{path:?} {value}: {answer}");
            refused += 1;
            continue;
        }
        admitted += 1;
        let observed = async || is_observed(&world.get(kind, name).await);
        until_true(A_LOOK, POLL, observed).await;
        put_back(&world, kind, name, &before).await;
        let differs = until(world.patience, POLL, async || {
            let found = differences(&without_generations(snapshot(&world, DEVICE).await), &end);
            if found.is_empty() { Ok(()) } else { Err(found) }
        });
        let case = format!("{} = {value}", path.join("."));
        differs.await.unwrap_or_else(|found| panic!("{case}\n{found:#?}\n{}", world.operator_log_tail()));
    }
    println!("{crd}: {admitted} values admitted, {refused} refused, of {}", cases.len());
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("cases of {test}: {}", admitted + refused);
    assert!(admitted > 0 && refused > 0);
    world.come_to_rest().await;
    world.assert_secrets_accepted().await;
}

/// Everything that is not as it was before is put back, or taken away.
async fn put_back(world: &World, kind: Kind, name: &str, before: &Value) {
    let now = world.get(kind, name).await["spec"].clone();
    world.patch(kind, name, json!({"spec": back(&now, before)})).await;
}

/// A merge patch from one to the other.
fn back(now: &Value, before: &Value) -> Value {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            let names = now.keys().chain(before.keys().filter(|name| !now.contains_key(*name)));
            names
                .map(|name| {
                    (
                        name.clone(),
                        back(
                            now.get(name).unwrap_or(&Value::Null),
                            &before.get(name).cloned().unwrap_or_default(),
                        ),
                    )
                })
                .collect()
        }
        (_, before) => before.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_device_can_be_changed_and_changed_back() {
    changed_and_changed_back(Kind::Device, DEVICE, "provisioneddevices", 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_an_integration_can_be_changed_and_changed_back() {
    changed_and_changed_back(Kind::Integration, INTEGRATION, "dpsintegrations", 11).await;
}
