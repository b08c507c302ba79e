//! Every state that objects were in, also those that a look now and then would miss.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
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
        let api = self.api(kind);
        let now = api.list(&ListParams::default()).await.expect("objects can be listed");
        let version = now.metadata.resource_version.expect("a list has a version");
        let states = Arc::new(Mutex::new(now.items.into_iter().map(value).collect::<Vec<_>>()));
        let seen = states.clone();
        let task = tokio::spawn(async move {
            let watch = api.watch(&WatchParams::default(), &version).await.expect("objects can be watched");
            let mut watch = std::pin::pin!(watch);
            while let Some(event) = watch.next().await {
                match event.expect("the watch goes on") {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        seen.lock().expect("no holder of the lock panics").push(value(object));
                    }
                    _ => {}
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
