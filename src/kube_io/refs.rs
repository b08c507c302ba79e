//! Key Secrets and CA ConfigMaps carry no label of ours, so each is watched by its name; several
//! integrations that use one share its watch. Each watch is a stream on one connection, and the API
//! server admits some hundred of those, so beyond a number the rest is read once a minute instead.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument, info_span};
use zeroize::Zeroizing;

use super::client::ApiServer;
use super::watch::{self, Observed, WatchScope, Watched};
use crate::api::names;
use crate::api::references::{Reference, Referred, ReferredKind};

/// Objects that are watched; further ones are polled.
const WATCHES: usize = 128;
/// What is watched here, for metrics and the log.
const KIND: &str = "references";

/// The watches that run, by what they watch.
pub struct ReferenceWatches<M> {
    server: ApiServer,
    sender: Sender<M>,
    wrap: fn(Reference, Observed<Referred>) -> M,
    tasks: JoinSet<Reference>,
    running: BTreeMap<Reference, AbortHandle>,
}

impl<M: Send + 'static> ReferenceWatches<M> {
    pub fn new(server: ApiServer, sender: Sender<M>, wrap: fn(Reference, Observed<Referred>) -> M) -> Self {
        Self { server, sender, wrap, tasks: JoinSet::new(), running: BTreeMap::new() }
    }

    /// Starts the watches that are wanted and not running, and ends those that are not wanted any more.
    pub fn watch_exactly(&mut self, wanted: &BTreeSet<Reference>) {
        self.running.retain(|reference, task| {
            let keep = wanted.contains(reference);
            if !keep {
                task.abort();
            }
            keep
        });
        for reference in wanted {
            if !self.running.contains_key(reference) {
                let task = self.spawn(reference.clone());
                self.running.insert(reference.clone(), task);
            }
        }
    }

    /// Waits until a watch ends that is still wanted, which none should; returns what it watched.
    pub async fn ended(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Reference { kind: _, namespace, name })) => return format!("{namespace}/{name}"),
                Some(Err(error)) if !error.is_cancelled() => return error.to_string(),
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&mut self, reference: Reference) -> AbortHandle {
        match reference.kind {
            ReferredKind::Secret => self.follow(reference, secret),
            ReferredKind::ConfigMap => self.follow(reference, config_map),
        }
    }

    fn follow<K: Watched>(&mut self, reference: Reference, read: fn(K) -> Referred) -> AbortHandle {
        let scope = WatchScope {
            kind: KIND,
            is_part: true,
            namespace: Some(reference.namespace.clone()),
            name: Some(reference.name.clone()),
            labels: None,
        };
        let (server, sender, wrap) = (self.server.clone(), self.sender.clone(), self.wrap);
        let span = info_span!("watch", kind = %K::kind(&()), namespace = reference.namespace);
        let watched = reference.clone();
        let report = move |observed| wrap(reference.clone(), map(observed, read));
        if self.running.len() < WATCHES {
            let watch = watch::run::<K, M>(server, scope, sender, report).instrument(span);
            self.tasks.spawn(async move {
                watch.await;
                watched
            })
        } else {
            let poll = watch::poll::<K, M>(server, scope, sender, report).instrument(span);
            self.tasks.spawn(async move {
                poll.await;
                watched
            })
        }
    }
}

fn map<K>(seen: Observed<K>, read: fn(K) -> Referred) -> Observed<Referred> {
    match seen {
        Observed::Listing(version) => Observed::Listing(version),
        Observed::Present(object) => Observed::Present(read(object)),
        Observed::Gone(_) => Observed::Gone(Referred::Missing),
        Observed::Listed => Observed::Listed,
        Observed::Forbidden => Observed::Forbidden,
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
