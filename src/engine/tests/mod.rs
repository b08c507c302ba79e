//! The engine without a cluster: an API server in memory, the DPS simulator, and times that are made
//! up, so that minutes take no time.

mod answers;
mod api;
mod claims;
mod delayed;
mod displaced;
mod dps_words;
mod edits;
mod endings;
mod explore;
mod first_secret;
mod fleets;
mod forged_claims;
mod interrupted;
mod issued;
mod own;
mod prefixes;
mod refusals;
mod restored;
mod secrets;
mod situations;
mod strangers;
mod tenants;
mod vouching;
mod writers;
mod x509;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dps_simulator::config::{IdScopeCase, Quotas, Readings};
use dps_simulator::{EnrollmentGroup, IdScope as Scope, Running, Simulator};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use zeroize::Zeroizing;

use self::api::{Api, Stored};
use super::observe::sync::{SourceWatch, WatchId};
use super::{Context, Engine, MESSAGES, Message};
use crate::api::references::{Reference, Referred, ReferredKind};
use crate::cli::{Cli, Command};
use crate::clock::{self, Now};
use crate::fleet::SourceList;
use crate::kube_io::client::ApiServer;
use crate::kube_io::watch::Observed;
use crate::kube_io::write::Writer;
use crate::telemetry::Telemetry;

const KEY: &str = "ZW5naW5lLXRlc3Qta2V5LW9mLW5vLWdyb3VwLTAwMDE=";
const OTHER_KEY: &str = "ZW5naW5lLXRlc3Qta2V5LW9mLW5vLWdyb3VwLTAwMDI=";
const SCOPE: &str = "0neENGINE";
/// Of another instance, with a hub of its own.
const OTHER_SCOPE: &str = "0neOTHER";
const OTHER_HUB: &str = "hub-c.azure-devices.net";
const HUBS: [&str; 2] = ["hub-a.azure-devices.net", "hub-b.azure-devices.net"];
const WATCH: WatchId = WatchId(0);
/// Real time that a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// One engine with everything around it.
struct World {
    engine: Engine,
    messages: Receiver<Message>,
    api: Api,
    dps: Running,
    now: Now,
    /// Secrets that the watch shows, which is limited by our label.
    labelled: HashSet<String>,
}

impl World {
    /// With an integration that can be used, which DPS has not seen yet.
    async fn start(flags: &[&str]) -> Self {
        let mut world = Self::without_integration(flags).await;
        world.declare_integration(json!({}));
        world.show_keys(KEY, OTHER_KEY);
        world.complete();
        world
    }

    async fn without_integration(flags: &[&str]) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dps = simulator().await;
        let (engine, messages, api) = Self::engine(&dps, Api::default(), flags);
        let mut world = Self { engine, messages, api, dps, now: clock::now(), labelled: HashSet::new() };
        world.engine.take_over(world.now);
        world
    }

    fn engine(dps: &Running, api: Api, flags: &[&str]) -> (Engine, Receiver<Message>, Api) {
        let host = format!("--allowed-dps-hosts=localhost:{}", dps.address().port());
        let arguments = ["dps-operator", "run", "--watch-namespaces=fleet", &host];
        let arguments = arguments.into_iter().chain(flags.iter().copied());
        let Command::Run(arguments) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        let config = Arc::new(arguments.config().unwrap());
        let (sender, messages) = channel(MESSAGES);
        let client = api.client();
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let (writer, server) = (Writer::new(client.clone()), ApiServer::of(client, telemetry.clone()));
        (Engine::new(Context { config, server, writer, sender, telemetry }), messages, api)
    }

    /// Time goes on, for the engine alone.
    fn pass(&mut self, time: Duration) {
        self.now = Now { wall: self.now.wall.checked_add(time).unwrap(), mono: self.now.mono + time };
    }

    fn take(&mut self, message: Message) {
        self.engine.take(message, self.now);
    }

    /// Another process takes over, which knows what the API server has and nothing else.
    fn restart(&mut self) {
        self.engine.active.abort_all();
        let (sender, messages) = channel(MESSAGES);
        let Context { config, server, writer, sender: _, telemetry: _ } = self.engine.context.clone();
        let telemetry = Arc::new(Telemetry::new().unwrap());
        let engine = Engine::new(Context { config, server, writer, sender, telemetry });
        let mut before = std::mem::replace(&mut self.engine, engine);
        self.engine.registry.inherit_connections(&mut before.registry);
        self.messages = messages;
        self.engine.take_over(self.now);
        self.api.show_all();
        self.deliver_only("dpsintegrations");
        self.complete();
    }

    // What watches show.

    /// Everything has been read for the first time.
    fn complete(&mut self) {
        self.take(Message::Integration(WATCH, Observed::Listed));
        self.show_keys(KEY, OTHER_KEY);
        self.take(Message::Device(WATCH, Observed::Listing(0)));
        self.deliver_only("provisioneddevices");
        self.take(Message::Device(WATCH, Observed::Listed));
        self.take(Message::Secret(WATCH, Observed::Listing(0)));
        self.deliver();
        self.take(Message::Secret(WATCH, Observed::Listed));
        assert!(self.engine.sync.is_complete());
    }

    fn declare_integration(&mut self, change: Value) {
        self.declare_integration_named("factory", change);
    }

    fn declare_integration_named(&mut self, name: &str, change: Value) {
        let symmetric = json!({
            "primaryKeyRef": {"name": "group", "key": "primaryKey"},
            "secondaryKeyRef": {"name": "group", "key": "secondaryKey"},
        });
        let mut spec = json!({
            "idScope": SCOPE, "hostname": format!("localhost:{}", self.dps.address().port()),
            "caBundleRef": {"name": "ca", "key": "ca.crt"}, "attestation": {"symmetricKey": symmetric},
            "deviceDefaults": {"driftCheck": {"interval": "0s"}},
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.api.apply("dpsintegrations", name, json!({"spec": spec}));
        self.deliver();
    }

    fn show_keys(&mut self, primary: &str, secondary: &str) {
        self.show_secret("group", &[("primaryKey", primary), ("secondaryKey", secondary)]);
        let ca = self.dps.ca_pem().to_owned();
        self.show_referred(ReferredKind::ConfigMap, "ca", &[("ca.crt", &ca)]);
    }

    fn show_secret(&mut self, name: &str, data: &[(&str, &str)]) {
        self.show_referred(ReferredKind::Secret, name, data);
    }

    fn show_referred(&mut self, kind: ReferredKind, name: &str, data: &[(&str, &str)]) {
        let entry =
            |(name, text): &(&str, &str)| ((*name).to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
        let reference = Reference { kind, namespace: "fleet".to_owned(), name: name.to_owned() };
        // Of other data it is another one.
        let version = data.iter().flat_map(|(key, text)| [*key, *text]).collect();
        let referred =
            Referred::Present { data: data.iter().map(entry).collect(), generated: false, version };
        let number = self.engine.watches.number(&reference).unwrap_or_default();
        self.take(Message::Referred(reference, number, Observed::Present(referred)));
    }

    fn declare(&mut self, device: &str, change: Value) {
        let mut spec = json!({"integrationRef": {"name": "factory"}});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.api.apply("provisioneddevices", device, json!({"spec": spec}));
        self.deliver();
    }

    fn delete(&mut self, kind: &'static str, name: &str) {
        self.api.delete(kind, name);
        self.deliver();
    }

    /// Shows the engine what has changed in the API server.
    fn deliver(&mut self) {
        let changes = self.api.changes();
        self.show(changes);
    }

    /// Of one kind; the others are shown later.
    fn deliver_only(&mut self, kind: &str) {
        let (now, later) = self.api.changes().into_iter().partition(|stored| stored.kind == kind);
        self.api.put_back(later);
        self.show(now);
    }

    fn show(&mut self, changes: Vec<Stored>) {
        for Stored { kind, object, deleted } in changes {
            let message = match kind {
                "dpsintegrations" => Message::Integration(WATCH, seen(object, deleted)),
                "provisioneddevices" => Message::Device(WATCH, seen(object, deleted)),
                "secrets" => {
                    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                    let labels = &object["metadata"]["labels"];
                    let lists = [
                        (SourceList::Labelled, labels["dps-operator.io/watch"] == "true"),
                        (SourceList::Certificates, object["type"] == "kubernetes.io/tls"),
                    ];
                    for (list, _) in lists.into_iter().filter(|(_, shows)| *shows) {
                        let watch = SourceWatch::Listed(list, WATCH);
                        self.take(Message::Source(watch, seen(object.clone(), deleted)));
                    }
                    let shown = !deleted && labels["app.kubernetes.io/managed-by"] == "dps-operator";
                    let was_shown = self.labelled.remove(&name);
                    if shown {
                        self.labelled.insert(name);
                    } else if !was_shown {
                        continue;
                    }
                    Message::Secret(WATCH, seen(object, !shown))
                }
                "certificates"
                    if object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dps-operator" =>
                {
                    Message::Certificate(WATCH, seen(object, deleted))
                }
                _ => continue,
            };
            self.take(message);
        }
    }

    /// Lets the engine go on until the condition holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = std::time::Instant::now();
        loop {
            self.engine.turn(true, self.now);
            self.deliver();
            if holds(self) && self.messages.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not reached: {what}\n{}", self.api.dump());
            let soon = Duration::from_millis(20);
            let first = tokio::time::timeout(soon, self.messages.recv()).await.ok().flatten();
            self.engine.take_all(first, &mut self.messages, self.now);
        }
    }

    /// Lets the engine go on until nothing is left to do but `calls` to DPS that do not end.
    async fn until_idle(&mut self, calls: usize) {
        self.until("nothing to do", |world| {
            let engine = &world.engine;
            engine.active.going_on() == calls
                && !engine.registry.is_writing()
                && !engine.ready.has_ready()
                && !engine.endings.is_asking()
                && !engine.issuance.is_writing()
                && engine.issuance.next_at(world.now.mono).is_none_or(|at| at > world.now.mono)
                && engine.active.next_turn_at(world.now.mono).is_none_or(|at| at > world.now.mono)
                && engine.ready.next_due().is_none_or(|at| at > world.now.mono)
        })
        .await;
    }

    async fn until_reason(&mut self, device: &str, reason: &str) {
        self.until(&format!("{device} says {reason}"), |world| world.reason(device) == reason).await;
    }

    async fn until_ready(&mut self, device: &str) {
        self.until_reason(device, "Provisioned").await;
    }

    // What a user sees.

    fn status(&self, device: &str) -> Value {
        self.api.get("provisioneddevices", device).map_or(Value::Null, |object| object["status"].clone())
    }

    /// Reason of the device's Ready condition; empty while there is none.
    fn reason(&self, device: &str) -> String {
        condition(&self.status(device), "Ready")["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn integration(&self) -> Value {
        self.api.get("dpsintegrations", "factory").unwrap()["status"].clone()
    }

    fn integration_reason(&self) -> String {
        condition(&self.integration(), "Ready")["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Registrations that DPS has seen.
    fn registers(&self) -> usize {
        let ledger = self.dps.control().ledger();
        ledger.iter().filter(|entry| entry.operation == dps_simulator::OperationKind::Register).count()
    }

    /// Writes that the API server has taken.
    fn writes(&self) -> usize {
        self.api.writes()
    }
}

fn seen<K: serde::de::DeserializeOwned>(object: Value, deleted: bool) -> Observed<K> {
    let object = serde_json::from_value(object).unwrap();
    if deleted { Observed::Gone(object) } else { Observed::Present(object) }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

async fn simulator() -> Running {
    let config = dps_simulator::Config {
        think_time: Duration::ZERO,
        retry_after: Some(Duration::ZERO),
        quotas: Quotas { registrations_per_minute: None, polls_per_ten_seconds: None },
        id_scopes: vec![scope(SCOPE, &HUBS), scope(OTHER_SCOPE, &[OTHER_HUB])],
        readings: Readings { id_scope_case: IdScopeCase::Ignored, ..Readings::default() },
        ..dps_simulator::Config::default()
    };
    Simulator::start(config).await.unwrap()
}

fn scope(id_scope: &str, hubs: &[&str]) -> Scope {
    Scope {
        id_scope: id_scope.to_owned(),
        hubs: hubs.iter().map(|hub| (*hub).to_owned()).collect(),
        enrollment_groups: vec![EnrollmentGroup::new("fleet", KEY, OTHER_KEY).unwrap()],
        ..Scope::default()
    }
}
