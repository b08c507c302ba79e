//! Key Secrets and CA ConfigMaps carry no label of ours, so each is watched by its name; several
//! integrations that use one share its watch. Each watch is a stream on one connection, and the API
//! server admits some hundred of those, so beyond a number the rest is read once a minute instead.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Client, Resource};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::watch::{self, Scope, Seen, Watched};
use crate::api::names;
use crate::api::references::{Reference, Referred, ReferredKind};

/// So many objects are watched; further ones are polled.
const WATCHES: usize = 128;

/// Running watches, by what they watch.
pub struct Refs<M> {
    client: Client,
    sender: Sender<M>,
    wrap: fn(Reference, Seen<Referred>) -> M,
    tasks: BTreeMap<Reference, JoinHandle<()>>,
}

impl<M: Send + 'static> Refs<M> {
    pub fn new(client: Client, sender: Sender<M>, wrap: fn(Reference, Seen<Referred>) -> M) -> Self {
        Self { client, sender, wrap, tasks: BTreeMap::new() }
    }

    /// Starts the watches that are wanted and not running, ends those that are not wanted any more;
    /// returns the latter.
    pub fn watch_exactly(&mut self, wanted: &BTreeSet<Reference>) -> Vec<Reference> {
        for reference in wanted {
            if !self.tasks.contains_key(reference) {
                let task = self.spawn(reference.clone());
                self.tasks.insert(reference.clone(), task);
            }
        }
        let unwanted: Vec<_> =
            self.tasks.keys().filter(|reference| !wanted.contains(reference)).cloned().collect();
        for reference in &unwanted {
            if let Some(task) = self.tasks.remove(reference) {
                task.abort();
            }
        }
        unwanted
    }

    fn spawn(&self, reference: Reference) -> JoinHandle<()> {
        let scope = Scope {
            namespace: Some(reference.namespace.clone()),
            name: Some(reference.name.clone()),
            labels: None,
        };
        match reference.kind {
            ReferredKind::Secret => self.follow(scope, reference, secret),
            ReferredKind::ConfigMap => self.follow(scope, reference, config_map),
        }
    }

    fn follow<K>(&self, scope: Scope, reference: Reference, read: fn(K) -> Referred) -> JoinHandle<()>
    where
        K: Watched,
    {
        let (client, sender, wrap) = (self.client.clone(), self.sender.clone(), self.wrap);
        let tell = move |seen| wrap(reference.clone(), map(seen, read));
        if self.tasks.len() < WATCHES {
            tokio::spawn(watch::run::<K, M>(client, scope, sender, tell))
        } else {
            tokio::spawn(watch::poll::<K, M>(client, scope, sender, tell))
        }
    }
}

fn map<K>(seen: Seen<K>, read: fn(K) -> Referred) -> Seen<Referred> {
    match seen {
        Seen::Listing => Seen::Listing,
        Seen::Present(object) => Seen::Present(read(object)),
        Seen::Gone(_) => Seen::Gone(Referred::Missing),
        Seen::Listed => Seen::Listed,
        Seen::Forbidden => Seen::Forbidden,
    }
}

fn secret(secret: Secret) -> Referred {
    let labels = secret.meta().labels.as_ref();
    let generated = labels
        .and_then(|labels| labels.get(names::MANAGED_BY_LABEL))
        .is_some_and(|by| by == names::MANAGED_BY);
    let wipe = |(key, ByteString(bytes))| (key, Zeroizing::new(bytes));
    Referred::Present { data: secret.data.into_iter().flatten().map(wipe).collect(), generated }
}

fn config_map(config_map: ConfigMap) -> Referred {
    let bytes = |(key, text): (String, String)| (key, Zeroizing::new(text.into_bytes()));
    Referred::Present { data: config_map.data.into_iter().flatten().map(bytes).collect(), generated: false }
}
