//! An API server that keeps its objects in memory: versions, uids and conflicts are as in the real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// An object after a change.
pub(super) struct Stored {
    pub kind: &'static str,
    pub object: Value,
    pub deleted: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(&'static str, String), Value>,
    changes: Vec<Stored>,
    version: u64,
    writes: usize,
    /// Requests whose path has one of these in it, from the kind on, are answered with 503.
    unavailable: Vec<&'static str>,
    /// How the next write that it concerns goes wrong.
    spoiled: Option<Spoiled>,
    /// How long the answer to a request takes.
    latency: Duration,
    /// Namespaces that are being deleted.
    ending: Vec<String>,
    namespace_reads: usize,
    /// Objects that were read, each time that one was.
    reads: Vec<(&'static str, String)>,
    /// Paths of requests that have come, answered or not.
    begun: Vec<String>,
}

/// A write that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoiled {
    /// In its path.
    pub part: &'static str,
    pub wrong: Wrong,
}

/// What goes wrong with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is refused, and not carried out.
    Refused,
    /// It is carried out, and the answer does not say so.
    Lost,
    /// Another writer was first.
    Conflict,
}

/// All objects as they once were.
pub(super) struct Backup {
    objects: BTreeMap<(&'static str, String), Value>,
    version: u64,
}

#[derive(Clone, Default)]
pub(super) struct Api(Arc<Mutex<State>>);

const KINDS: [&str; 5] = ["dpsintegrations", "provisioneddevices", "secrets", "certificates", "events"];

fn resource(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "dpsintegrations" => ("dps-operator.io/v1alpha1", "DpsIntegration"),
        "provisioneddevices" => ("dps-operator.io/v1alpha1", "ProvisionedDevice"),
        "secrets" => ("v1", "Secret"),
        "certificates" => ("cert-manager.io/v1", "Certificate"),
        _ => ("events.k8s.io/v1", "Event"),
    }
}

/// Namespace and name of an object; without a namespace it is in `fleet`.
fn key(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("fleet/{name}") }
}

/// `patch` laid over `object`; what is null is removed.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

impl State {
    fn store(&mut self, kind: &'static str, key: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert((kind, key.to_owned()), object.clone());
        self.changes.push(Stored { kind, object: object.clone(), deleted: false });
        object
    }

    /// `key`: its namespace and name.
    fn create(&mut self, kind: &'static str, key: &str, change: &Value) -> Value {
        let (version, kind_name) = resource(kind);
        let (namespace, name) = key.split_once('/').unwrap();
        let uid = format!("00000000-0000-4000-8000-{:012}", self.version + 1);
        let mut object = json!({
            "apiVersion": version, "kind": kind_name,
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1,
                "creationTimestamp": "2026-11-27T00:00:00Z"},
        });
        merge(&mut object, change);
        self.store(kind, key, object)
    }

    fn respond(&mut self, method: &Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let parts: Vec<&str> = path.split('/').collect();
        if let ["", "api", "v1", "namespaces", name] = parts[..] {
            self.namespace_reads += 1;
            let ends = self.ending.iter().any(|ending| ending == name);
            let since = ends.then_some("2026-11-27T00:00:00Z");
            let kind = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"});
            let mut namespace = json!({"metadata": {"name": name, "deletionTimestamp": since}});
            merge(&mut namespace, &kind);
            return (StatusCode::OK, namespace);
        }
        let Some(at) = parts.iter().position(|part| KINDS.contains(part)) else {
            return (StatusCode::NOT_FOUND, json!({}));
        };
        let kind = KINDS.into_iter().find(|kind| *kind == parts[at]).unwrap();
        if self.unavailable.iter().any(|part| parts[at..].join("/").contains(part)) {
            return (StatusCode::SERVICE_UNAVAILABLE, json!({}));
        }
        let name = parts.get(at + 1).copied().or(body["metadata"]["name"].as_str()).unwrap_or_default();
        let key = format!("{}/{name}", parts[at - 1]);
        self.writes += usize::from(*method != Method::GET && kind != "events");
        match self.spoiled.take_if(|spoiled| *method != Method::GET && path.contains(spoiled.part)) {
            None => self.carry_out(method, kind, &key, body),
            Some(Spoiled { wrong: Wrong::Refused, .. }) => (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
            Some(Spoiled { wrong: Wrong::Lost, .. }) => {
                self.carry_out(method, kind, &key, body);
                (StatusCode::GATEWAY_TIMEOUT, json!({}))
            }
            Some(Spoiled { wrong: Wrong::Conflict, .. }) => {
                if let Some(mut object) = self.objects.get(&(kind, key.clone())).cloned() {
                    let mark = json!({"metadata": {"annotations": {"example.com/edited": path}}});
                    merge(&mut object, &mark);
                    self.store(kind, &key, object);
                }
                (StatusCode::CONFLICT, json!({}))
            }
        }
    }

    fn carry_out(
        &mut self,
        method: &Method,
        kind: &'static str,
        key: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let name = key.split_once('/').map_or("", |(_, name)| name);
        let stored = self.objects.get(&(kind, key.to_owned())).cloned();
        match (method.as_str(), stored) {
            // Lists and watches: the test says what they show.
            ("GET", _) if name.is_empty() => (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
            ("GET", found) => {
                self.reads.push((kind, key.to_owned()));
                let missing = (StatusCode::NOT_FOUND, json!({}));
                found.map_or(missing, |object| (StatusCode::OK, object))
            }
            ("POST", None) => (StatusCode::CREATED, self.create(kind, key, body)),
            ("POST", Some(_)) => (StatusCode::CONFLICT, json!({})),
            (_, None) => (StatusCode::NOT_FOUND, json!({})),
            (_, Some(mut object)) => {
                let meta = &body["metadata"];
                let same = |field: &str| meta[field].is_null() || meta[field] == object["metadata"][field];
                if !same("uid") || !same("resourceVersion") {
                    return (StatusCode::CONFLICT, json!({}));
                }
                if method == Method::PUT {
                    object["status"] = body["status"].clone();
                } else {
                    merge(&mut object, body);
                }
                (StatusCode::OK, self.store(kind, key, object))
            }
        }
    }
}

impl Api {
    pub(super) fn client(&self) -> Client {
        let state = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let latency = {
                    let mut state = state.lock().unwrap();
                    state.begun.push(parts.uri.path().to_owned());
                    state.latency
                };
                if !latency.is_zero() {
                    tokio::time::sleep(latency).await;
                }
                let (status, answer) = state.lock().unwrap().respond(&parts.method, parts.uri.path(), &body);
                let answer = if status.is_success() {
                    answer
                } else {
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "",
                        "reason": status.canonical_reason().map(|reason| reason.replace(' ', "")), "code": status.as_u16()})
                };
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        });
        Client::new(service, "fleet")
    }

    /// Creates the object, or changes it and counts its generation up.
    pub(super) fn apply(&self, kind: &'static str, name: &str, change: Value) {
        let mut state = self.0.lock().unwrap();
        let key = key(name);
        match state.objects.get(&(kind, key.clone())).cloned() {
            None => drop(state.create(kind, &key, &change)),
            Some(mut object) => {
                merge(&mut object, &change);
                if !change["spec"].is_null() {
                    let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
                    object["metadata"]["generation"] = json!(generation + 1);
                }
                state.store(kind, &key, object);
            }
        }
    }

    pub(super) fn delete(&self, kind: &'static str, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let version = state.version.to_string();
        let mut object = state.objects.remove(&(kind, key(name))).unwrap();
        object["metadata"]["resourceVersion"] = json!(version);
        state.changes.push(Stored { kind, object, deleted: true });
    }

    pub(super) fn get(&self, kind: &'static str, name: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(&(kind, key(name))).cloned()
    }

    /// Namespaces and names of all objects of a kind.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.objects.keys().filter(|(of, _)| *of == kind).map(|(_, key)| key.clone()).collect()
    }

    /// How many objects of a kind are like this.
    pub(super) fn count(&self, kind: &str, like: impl Fn(&Value) -> bool) -> usize {
        let state = self.0.lock().unwrap();
        state.objects.iter().filter(|((of, _), object)| *of == kind && like(object)).count()
    }

    /// resourceVersion of the last change.
    pub(super) fn version(&self) -> u64 {
        self.0.lock().unwrap().version
    }

    /// What has changed since this was asked last.
    pub(super) fn changes(&self) -> Vec<Stored> {
        std::mem::take(&mut self.0.lock().unwrap().changes)
    }

    /// Changes that are to be shown later.
    pub(super) fn put_back(&self, changes: Vec<Stored>) {
        self.0.lock().unwrap().changes.splice(0..0, changes);
    }

    /// Everything is shown as if it were new.
    pub(super) fn show_all(&self) {
        let mut state = self.0.lock().unwrap();
        let shown = |((kind, _), object): (&(&'static str, String), &Value)| Stored {
            kind,
            object: object.clone(),
            deleted: false,
        };
        state.changes = state.objects.iter().map(shown).collect();
    }

    /// What a backup of etcd holds.
    pub(super) fn backup(&self) -> Backup {
        let state = self.0.lock().unwrap();
        Backup { objects: state.objects.clone(), version: state.version }
    }

    /// Goes back to a backup; further versions begin `bump` above its own.
    pub(super) fn restore(&self, backup: &Backup, bump: u64) {
        let mut state = self.0.lock().unwrap();
        state.objects = backup.objects.clone();
        state.version = backup.version + bump;
        state.changes.clear();
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    /// The namespace is being deleted; its objects are still there.
    pub(super) fn end_namespace(&self, name: &str) {
        self.0.lock().unwrap().ending.push(name.to_owned());
    }

    /// How often an object was read, there or not.
    pub(super) fn reads(&self, kind: &'static str, name: &str) -> usize {
        self.0.lock().unwrap().reads.iter().filter(|read| **read == (kind, key(name))).count()
    }

    /// Requests with a path that ends like this, answered or not.
    pub(super) fn begun(&self, end: &str) -> usize {
        self.0.lock().unwrap().begun.iter().filter(|path| path.ends_with(end)).count()
    }

    pub(super) fn namespace_reads(&self) -> usize {
        self.0.lock().unwrap().namespace_reads
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.0.lock().unwrap().latency = latency;
    }

    /// Removes all statuses, as a restored backup does.
    pub(super) fn forget_statuses(&self) {
        let mut state = self.0.lock().unwrap();
        let devices: Vec<_> = state
            .objects
            .iter()
            .filter(|((kind, _), _)| *kind == "provisioneddevices")
            .map(|(key, _)| key.1.clone())
            .collect();
        for key in devices {
            let mut object = state.objects[&("provisioneddevices", key.clone())].clone();
            object["status"] = json!({"observedGeneration": -1});
            state.store("provisioneddevices", &key, object);
        }
    }

    /// The next write that this concerns goes wrong; `None`: none does.
    pub(super) fn spoil(&self, spoiled: Option<Spoiled>) {
        self.0.lock().unwrap().spoiled = spoiled;
    }

    pub(super) fn set_unavailable(&self, parts: &[&'static str]) {
        self.0.lock().unwrap().unavailable = parts.to_vec();
    }

    /// Everything but Secrets, for a test that fails.
    pub(super) fn dump(&self) -> String {
        let state = self.0.lock().unwrap();
        let shown = state.objects.iter().filter(|((kind, _), _)| *kind != "secrets");
        shown.map(|((kind, name), object)| format!("{kind}/{name}: {}\n", object["status"])).collect()
    }
}
