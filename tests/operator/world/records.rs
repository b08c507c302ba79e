//! What others saw: DPS's ledger and the API server's audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};

use dps_dev::audit::Event;
use dps_simulator::{LedgerEntry, OperationKind};
use jiff::Timestamp;
use serde_json::Value;

use super::certificates::certificate;
use super::objects::data;
use super::operator::ACCOUNTS;
use super::waiting::until;
use super::{Kind, POLL, SCOPE, World};

const READS: [&str; 3] = ["get", "list", "watch"];

/// A moment in both records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    sequence: u64,
    requests: usize,
}

/// How often DPS was called for each registration id.
#[derive(Debug, PartialEq, Eq)]
pub struct Calls(BTreeMap<String, usize>);

impl Calls {
    pub fn of(&self, id: &str) -> usize {
        self.0.get(id).copied().unwrap_or_default()
    }

    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    pub fn devices(&self) -> usize {
        self.0.len()
    }

    /// How often for the device with most calls.
    pub fn most(&self) -> usize {
        self.0.values().max().copied().unwrap_or_default()
    }
}

impl FromIterator<String> for Calls {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Self {
        let mut calls = BTreeMap::new();
        for id in ids {
            *calls.entry(id).or_default() += 1;
        }
        Self(calls)
    }
}

impl World {
    /// Now, to look at what came later.
    pub async fn mark(&self) -> Mark {
        self.wait_audit().await;
        let sequence = self.dps.ledger().last().map_or(0, |entry| entry.sequence);
        Mark { sequence, requests: self.audit().len() }
    }

    /// Requests that DPS saw.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.dps.ledger()
    }

    pub fn ledger_since(&self, mark: Mark) -> Vec<LedgerEntry> {
        self.dps.ledger_since(mark.sequence)
    }

    /// Devices that DPS was asked about, by registration id, sorted.
    pub fn devices_asked(&self) -> Vec<String> {
        self.devices_asked_since(Mark::default())
    }

    pub fn devices_asked_since(&self, mark: Mark) -> Vec<String> {
        let ids = self.ledger_since(mark).into_iter().map(|entry| entry.registration_id.unwrap_or_default());
        ids.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Register calls for this registration id.
    pub fn registers_of(&self, id: &str) -> usize {
        self.calls(OperationKind::Register).of(id)
    }

    /// Register calls for all of them.
    pub fn registers(&self) -> usize {
        self.calls(OperationKind::Register).total()
    }

    pub fn registers_since(&self, mark: Mark) -> usize {
        self.calls_since(mark, OperationKind::Register).total()
    }

    /// Calls of this kind.
    pub fn calls(&self, operation: OperationKind) -> Calls {
        self.calls_since(Mark::default(), operation)
    }

    pub fn calls_since(&self, mark: Mark, operation: OperationKind) -> Calls {
        self.ids_since(mark, operation).into_iter().collect()
    }

    /// Registration ids of calls of this kind in the order in which DPS saw them.
    pub fn ids_since(&self, mark: Mark, operation: OperationKind) -> Vec<String> {
        let entries = self.ledger_since(mark).into_iter().filter(|entry| entry.operation == operation);
        entries.map(|entry| entry.registration_id.unwrap_or_default()).collect()
    }

    /// Whether the device's hub accepts the key in this Secret.
    pub async fn hub_accepts(&self, id: &str, secret: &str) -> bool {
        self.dps.accepts_device_key(SCOPE, id, &self.secret(secret).await["sharedAccessKey"])
    }

    /// Fails if a hub does not accept the key in one of the Secrets that the operator has written; returns
    /// how many these are.
    pub async fn assert_secrets_accepted(&self) -> usize {
        let secrets = self.generated_secrets().await;
        for values in secrets.iter().map(data) {
            let id = &values["registrationId"];
            let accepted = match values.get("tls.crt") {
                Some(pem) => self.dps.accepts_device_certificate(SCOPE, id, &certificate(pem)),
                None => self.dps.accepts_device_key(SCOPE, id, &values["sharedAccessKey"]),
            };
            let has = values.get("tls.crt").map(|pem| certificate(pem).thumbprint());
            let hub_has = self.dps.hub_thumbprints(SCOPE, id);
            assert!(accepted, "the hub does not accept what {id} has: {has:?}, and it has {hub_has:?}");
        }
        secrets.len()
    }

    /// Nothing but what a device may do ever left the operator: DPS records are never deleted.
    pub fn assert_only_device_calls(&self) {
        for entry in self.ledger() {
            let expected = match entry.operation {
                OperationKind::Register => "PUT",
                OperationKind::Poll => "GET",
                OperationKind::Lookup => "POST",
                OperationKind::Other => "nothing",
            };
            assert_eq!(entry.method, expected, "{entry:?}");
        }
    }

    /// Waits for a state of the ledger.
    pub async fn wait_ledger(&self, what: &str, fits: impl Fn(&[LedgerEntry]) -> bool) {
        let shown = until(self.patience, POLL / 4, async || fits(&self.ledger()).then_some(()).ok_or(()));
        let never = format!("the ledger never showed: {what}");
        shown.await.unwrap_or_else(|()| self.give_up(&never, &Value::Null));
    }

    /// Requests of the operator's ServiceAccount, each once, in their order.
    fn audit(&self) -> Vec<Event> {
        self.stages().into_iter().filter(|event| event.stage == "ResponseComplete").collect()
    }

    /// What its requests have come to so far; a watch that goes on has begun only.
    pub fn stages(&self) -> Vec<Event> {
        let user = format!("\"system:serviceaccount:{ACCOUNTS}:{}\"", self.namespace);
        let log = self.audit_text();
        // The log holds every test's requests: only ours are worth parsing.
        let mine = log.lines().filter(|line| line.contains(&user));
        mine.map(|line| serde_json::from_str::<Event>(line).expect("an audit event")).collect()
    }

    /// The audit log since this world began, up to its last complete line.
    pub fn audit_text(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.control_plane.audit_log()).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.audit_start))?;
            file.read_to_end(&mut bytes)
        });
        read.expect("the audit log can be read");
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An entry is written shortly after its answer: a request of our own shows how far the log is.
    async fn wait_audit(&self) {
        static MARKERS: AtomicUsize = AtomicUsize::new(1);
        let marker = format!("marker-{}", MARKERS.fetch_add(1, Ordering::Relaxed));
        self.find(Kind::ConfigMap, &marker).await;
        let line = format!("configmaps/{marker}\"");
        let written =
            until(self.patience, POLL, async || self.audit_text().contains(&line).then_some(()).ok_or(()));
        written.await.unwrap_or_else(|()| panic!("{marker} never appeared in the audit log"));
    }

    /// The operator's requests to the API server since then.
    pub async fn events_since(&self, mark: Mark) -> Vec<Event> {
        self.wait_audit().await;
        self.audit().split_off(mark.requests)
    }

    /// How often the operator wrote what since then, as `create secrets`. Without events, which are sent a moment
    /// after what they tell of.
    pub async fn writes_since(&self, mark: Mark) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in self.events_since(mark).await {
            let request = &event.request;
            if !READS.contains(&request.verb.as_str()) && request.resource != "events" {
                *counts.entry(event.request.to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// When this status was written, or that was tried, by all operators of this world: in their order.
    pub async fn status_writes(&self, kind: Kind, name: &str) -> Vec<Timestamp> {
        let resource = match kind {
            Kind::Integration => "update dpsintegrations/status",
            _ => "update provisioneddevices/status",
        };
        let events = self.events_since(Mark::default()).await.into_iter();
        let writes = events.filter(|event| event.name == name && event.request.to_string() == resource);
        let mut times: Vec<Timestamp> =
            writes.map(|event| event.received.parse().expect("the time of a request")).collect();
        times.sort();
        times
    }

    /// Ends the operator, and starts it again as `assert_quiet_start` does.
    pub async fn assert_quiet_restart(&mut self) {
        assert!(self.stop_operator().await.success());
        self.assert_quiet_start().await;
    }

    /// Starts the operator and fails if it then calls DPS, or writes or reads any object. Until when:
    /// it counts the devices of an integration that it did not know once it has looked at every device.
    pub async fn assert_quiet_start(&mut self) {
        self.integration("witness").await;
        let before = self.mark().await;
        self.start_operator().await;
        self.wait_counters("witness", |devices| devices["total"] == 0).await;
        assert_eq!(self.ledger_since(before), []);
        let events = self.events_since(before).await;
        let changes = events.iter().filter(|event| !READS.contains(&event.request.verb.as_str()));
        let changes: BTreeSet<_> = changes.map(|e| (e.request.to_string(), e.name.clone())).collect();
        let expected = ("update dpsintegrations/status".to_owned(), "witness".to_owned());
        assert_eq!(changes, BTreeSet::from([expected]));
        assert_eq!(self.gets_since(before).await, 0);
    }

    /// How often the operator read single objects since then.
    pub async fn gets_since(&self, mark: Mark) -> usize {
        self.events_since(mark).await.iter().filter(|event| event.request.verb == "get").count()
    }

    /// Fails the test with everything that could explain why.
    pub fn give_up(&self, what: &str, object: &Value) -> ! {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let ledger = self.ledger();
        let tail: Vec<String> = ledger.iter().rev().take(30).rev().map(shown).collect();
        panic!(
            "{what}\n--- object\n{object:#}\n--- last {} of {} requests to DPS\n{}\n--- end of the operator's log\n{}",
            tail.len(),
            ledger.len(),
            tail.join("\n"),
            self.operator_log_tail()
        );
    }
}

fn shown(entry: &LedgerEntry) -> String {
    format!(
        "{} {} {} {:?} {:?} {:?}",
        entry.time, entry.method, entry.path, entry.status, entry.error_code, entry.outcome
    )
}
