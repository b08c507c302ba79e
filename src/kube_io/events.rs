//! Events, sent from a queue of their own: they never delay a device, and when the API server is
//! slow they are dropped, not collected.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

use super::error::ApiError;
use crate::api::names::FIELD_MANAGER;

/// Events that may wait.
const WAITING: usize = 256;
/// Longest note that the API server takes.
const NOTE_MAX: usize = 1024;

/// One event, ready to be sent.
pub struct Note {
    pub regarding: ObjectReference,
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
    pub time: Timestamp,
}

/// Takes events and sends them in the background.
pub struct Events {
    sender: Sender<Note>,
    dropped: u64,
}

impl Events {
    pub fn new(client: Client) -> Self {
        let (sender, receiver) = channel(WAITING);
        tokio::spawn(send_all(client, receiver));
        Self { sender, dropped: 0 }
    }

    /// True while fewer than half of those wait that may.
    pub fn has_room(&self) -> bool {
        self.sender.capacity() > WAITING / 2
    }

    /// Hands an event over, or drops it when too many wait; false if it was dropped.
    pub fn publish(&mut self, note: Note) -> bool {
        let taken = self.sender.try_send(note).is_ok();
        if !taken {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                warn!(dropped = self.dropped, "events are dropped, the API server takes them too slowly");
            }
        }
        taken
    }
}

/// The object that an event is about.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

async fn send_all(client: Client, mut receiver: Receiver<Note>) {
    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| FIELD_MANAGER.to_owned());
    let (mut refusals, mut last) = (0_u64, 0_i128);
    while let Some(note) = receiver.recv().await {
        let api: Api<Event> =
            Api::namespaced(client.clone(), note.regarding.namespace.as_deref().unwrap_or("default"));
        // Several events of one moment need different names.
        last = note.time.as_nanosecond().max(last + 1);
        let created = api.create(&PostParams::default(), &event(note, last, &instance)).await;
        let Err(error) = created else { continue };
        match ApiError::from(&error) {
            ApiError::Forbidden(why) => {
                refusals += 1;
                if refusals.is_power_of_two() {
                    warn!(refusals, why, "the operator may not create events; they are given up");
                }
            }
            // Nothing is created in a namespace that is being deleted, and nothing else is wrong.
            error => debug!(%error, "an event was not taken"),
        }
    }
}

fn event(note: Note, number: i128, instance: &str) -> Event {
    let Note { regarding, warning, reason, note, time } = note;
    Event {
        metadata: ObjectMeta {
            // As client-go names them: the object and the time in nanoseconds.
            name: Some(format!(
                "{}.{number:x}",
                regarding.name.as_deref().unwrap_or_default().chars().take(200).collect::<String>(),
            )),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(time)),
        note: Some(note.chars().take(NOTE_MAX).collect()),
        reason: Some(reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some("dps-operator.io/dps-operator".to_owned()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}
