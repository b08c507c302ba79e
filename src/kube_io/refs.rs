//! Key Secrets and CA ConfigMaps carry no label of ours, so each is watched by its name; several
//! integrations that use one share its watch. Each watch is a stream on one connection, and the API
//! server admits some hundred of those (250 by default), beside which requests need theirs; so beyond a
//! number the rest is read once a minute instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument, info_span};
use zeroize::Zeroizing;

use super::client::ApiServer;
use super::watch::{self, Observed, WatchScope, Watched};
use crate::api::names;
use crate::api::references::{Reference, Referred, ReferredKind};

/// Objects that are watched; further ones are polled,
const WATCHES: usize = 96;
/// this many at a time.
const READS: usize = 4;
/// Longest value of a Secret that is kept: longer ones are no keys of a group.
const KEY_MAX: usize = 4 * 1024;
/// Longest value of a ConfigMap that is kept: one byte more than a CA bundle may have.
const BUNDLE_MAX: usize = 256 * 1024 + 1;

/// What is watched here, for metrics and the log.
pub const KIND: &str = "references";

/// Tells one watch of an object from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchNumber(u64);

type Keys = BTreeSet<String>;

/// The watches that run, by what they watch.
pub struct ReferenceWatches<M> {
    server: ApiServer,
    sender: Sender<M>,
    wrap: fn(Reference, WatchNumber, Observed<Referred>) -> M,
    tasks: JoinSet<Reference>,
    running: BTreeMap<Reference, (WatchNumber, AbortHandle)>,
    last: u64,
    reads: Arc<Semaphore>,
}

impl<M: Send + 'static> ReferenceWatches<M> {
    pub fn new(
        server: ApiServer,
        sender: Sender<M>,
        wrap: fn(Reference, WatchNumber, Observed<Referred>) -> M,
    ) -> Self {
        let reads = Arc::new(Semaphore::new(READS));
        Self { server, sender, wrap, tasks: JoinSet::new(), running: BTreeMap::new(), last: 0, reads }
    }

    /// Watches an object for these of its keys. One that is watched already is read once more.
    pub fn watch(&mut self, reference: Reference, keys: Keys) {
        self.unwatch(&reference);
        self.last += 1;
        let number = WatchNumber(self.last);
        let task = match reference.kind {
            ReferredKind::Secret => self.follow(reference.clone(), number, keys, secret),
            ReferredKind::ConfigMap => self.follow(reference.clone(), number, keys, config_map),
        };
        self.running.insert(reference, (number, task));
    }

    pub fn unwatch(&mut self, reference: &Reference) {
        if let Some((_, task)) = self.running.remove(reference) {
            task.abort();
        }
    }

    /// The number of the watch that runs.
    pub fn number(&self, reference: &Reference) -> Option<WatchNumber> {
        self.running.get(reference).map(|(number, _)| *number)
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

    fn follow<K: Watched>(
        &mut self,
        reference: Reference,
        number: WatchNumber,
        keys: Keys,
        read: fn(K, &Keys) -> Referred,
    ) -> AbortHandle {
        let scope = WatchScope {
            kind: KIND,
            is_part: true,
            namespace: Some(reference.namespace.clone()),
            name: Some(reference.name.clone()),
            labels: None,
            of_type: None,
        };
        let (server, sender, wrap) = (self.server.clone(), self.sender.clone(), self.wrap);
        let span = info_span!("watch", kind = %K::kind(&()), namespace = reference.namespace);
        let watched = reference.clone();
        let report = move |observed| {
            let read = |object| read(object, &keys);
            wrap(reference.clone(), number, map(observed, read))
        };
        if self.running.len() < WATCHES {
            let watch = watch::run::<K, M>(server, scope, sender, report).instrument(span);
            self.tasks.spawn(async move {
                watch.await;
                watched
            })
        } else {
            let reads = self.reads.clone();
            let poll = watch::poll::<K, M>(server, scope, reads, sender, report).instrument(span);
            self.tasks.spawn(async move {
                poll.await;
                watched
            })
        }
    }
}

fn map<K>(seen: Observed<K>, read: impl Fn(K) -> Referred) -> Observed<Referred> {
    match seen {
        Observed::Listing(version) => Observed::Listing(version),
        Observed::Present(object) => Observed::Present(read(object)),
        Observed::Gone(_) => Observed::Gone(Referred::Missing),
        Observed::Listed => Observed::Listed,
        Observed::Forbidden => Observed::Forbidden,
    }
}

/// What is kept of a value. The rest is wiped.
fn kept(bytes: Vec<u8>, most: usize) -> Zeroizing<Vec<u8>> {
    let whole = Zeroizing::new(bytes);
    if whole.len() <= most { whole } else { Zeroizing::new(whole[..most].to_vec()) }
}

/// True if the operator has written the Secret.
pub fn is_generated(meta: &ObjectMeta) -> bool {
    let labels = meta.labels.as_ref();
    labels.and_then(|labels| labels.get(names::MANAGED_BY_LABEL)).is_some_and(|by| by == names::MANAGED_BY)
}

/// What is kept of a Secret that is referred to for these of its keys.
pub fn secret(secret: Secret, keys: &BTreeSet<String>) -> Referred {
    let generated = is_generated(&secret.metadata);
    let version = secret.metadata.resource_version.clone().unwrap_or_default();
    let wipe = |(key, ByteString(bytes))| (key, kept(bytes, KEY_MAX));
    let data = secret.data.into_iter().flatten().map(wipe).filter(|(key, _)| keys.contains(key)).collect();
    Referred::Present { data, generated, version }
}

fn config_map(config_map: ConfigMap, keys: &Keys) -> Referred {
    let version = config_map.metadata.resource_version.unwrap_or_default();
    let texts = config_map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
    // What is no UTF-8: DER, and PEM with comments in another encoding.
    let others = config_map.binary_data.into_iter().flatten().map(|(key, ByteString(bytes))| (key, bytes));
    let named = texts.chain(others).filter(|(key, _)| keys.contains(key));
    let data = named.map(|(key, bytes)| (key, kept(bytes, BUNDLE_MAX))).collect();
    Referred::Present { data, generated: false, version }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(names: &[&str]) -> Keys {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Keys and lengths of what is kept.
    fn lengths(referred: Referred) -> Vec<(String, usize)> {
        let Referred::Present { data, .. } = referred else { panic!("it is there") };
        data.into_iter().map(|(key, value)| (key, value.len())).collect()
    }

    #[test]
    fn of_a_secret_only_named_keys_are_kept_and_of_a_long_one_no_more_than_a_key_can_have() {
        let long = "QUFB".repeat(100_000);
        let object = json!({"data": {"primaryKey": "QUFB", "password": "QUFB", "long": long}});
        let object: Secret = serde_json::from_value(object).unwrap();
        let found = lengths(secret(object, &keys(&["primaryKey", "long", "missing"])));
        assert_eq!(found, [("long".to_owned(), KEY_MAX), ("primaryKey".to_owned(), 3)]);
    }

    #[test]
    fn of_a_config_map_only_the_named_bundle_is_kept_and_one_that_is_too_long_stays_too_long() {
        let text = |length: usize| "x".repeat(length);
        let object = json!({"data": {"ca.crt": text(900_000), "other": text(10), "small": text(20)}});
        let object: ConfigMap = serde_json::from_value(object).unwrap();
        let found = lengths(config_map(object, &keys(&["ca.crt", "small"])));
        assert_eq!(found, [("ca.crt".to_owned(), BUNDLE_MAX), ("small".to_owned(), 20)]);
    }

    #[test]
    fn a_bundle_that_is_no_utf_8_is_kept_too() {
        let object = json!({"data": {"text": "x"}, "binaryData": {"ca.crt": "MIIB6A==", "other": "AA=="}});
        let object: ConfigMap = serde_json::from_value(object).unwrap();
        let found = lengths(config_map(object, &keys(&["ca.crt", "text"])));
        assert_eq!(found, [("ca.crt".to_owned(), 4), ("text".to_owned(), 1)]);
    }
}
