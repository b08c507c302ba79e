//! Every state that objects were in, also those that a look now and then would miss.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use kube_runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::objects::{revision, value};
use super::waiting::until;
use super::{Kind, PATIENCE, POLL, World};

/// States of all objects of a kind in their order, from the present ones when the history began.
pub struct History {
    kind: Kind,
    states: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl World {
    /// Begins a history of this kind in the test's namespace.
    pub async fn history(&self, kind: Kind) -> History {
        let mut changes = Box::pin(watcher(self.api(kind), Config::default()));
        let mut present = Vec::new();
        loop {
            match changes.next().await.expect("a watch has no end").expect("objects can be listed") {
                Event::InitApply(object) => present.push(value(object)),
                Event::InitDone => break,
                _ => {}
            }
        }
        let states = Arc::new(Mutex::new(present));
        let seen = states.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = changes.next().await {
                match event.expect("the watch goes on") {
                    Event::Apply(object) => {
                        seen.lock().expect("no holder of the lock panics").push(value(object));
                    }
                    Event::Delete(_) => {}
                    // What was between the last state and the list would be missing.
                    _ => panic!("the watch began anew"),
                }
            }
        });
        History { kind, states, task }
    }
}

impl History {
    /// All states up to now.
    pub async fn so_far(&self, world: &World) -> Vec<Value> {
        let latest = world.list(self.kind).await;
        let complete = until(PATIENCE, POLL, async || {
            let states = self.states.lock().expect("no holder of the lock panics").clone();
            let seen: BTreeSet<_> = states.iter().map(revision).collect();
            let complete = latest.iter().all(|object| seen.contains(&revision(object)));
            assert!(complete || !self.task.is_finished(), "the watch has ended");
            complete.then_some(states).ok_or("the watch lags behind")
        });
        complete.await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}
