//! Every state that the objects of a world were in, as another client of the API server sees them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use kube::Client;
use kube::api::Api;
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::world::Kind;
use crate::world::objects::value;

/// What is watched.
pub const KINDS: [Kind; 3] = [Kind::Device, Kind::Integration, Kind::Secret];

/// One state of an object, or its end.
#[derive(Clone, Debug)]
pub struct State {
    pub kind: Kind,
    pub object: Value,
    pub deleted: bool,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub states: Vec<State>,
    /// A watch has begun anew: what was between is not known.
    pub gaps: usize,
    pub failures: usize,
}

/// Ends with the value.
pub struct Watching {
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

impl Watching {
    pub fn nothing() -> Self {
        Self { seen: Arc::default(), tasks: JoinSet::new() }
    }

    /// Watches a namespace from now on, too.
    pub fn add(&mut self, client: &Client, namespace: &str) {
        for kind in KINDS {
            let api = Api::namespaced_with(client.clone(), namespace, &kind.resource());
            let seen = Arc::clone(&self.seen);
            self.tasks.spawn(async move {
                let mut changes = Box::pin(watcher(api, Config::default()).default_backoff());
                let mut lists = 0;
                while let Some(change) = changes.next().await {
                    let mut seen = lock(&seen);
                    let (object, deleted) = match change {
                        Ok(Event::Init) => {
                            lists += 1;
                            seen.gaps += usize::from(lists > 1);
                            continue;
                        }
                        Ok(Event::InitDone) => continue,
                        Err(_) => {
                            seen.failures += 1;
                            continue;
                        }
                        Ok(Event::InitApply(object) | Event::Apply(object)) => (object, false),
                        Ok(Event::Delete(object)) => (object, true),
                    };
                    seen.states.push(State { kind, object: value(object), deleted });
                }
            });
        }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
