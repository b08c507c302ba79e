//! One task for each watch, with its own back-off: a watch that fails never delays another. What comes
//! next is decided in `course.rs`, what is asked for it is in `follow.rs`.

mod course;
mod follow;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use self::follow::{Follower, Wrap};
use super::client::{ApiServer, WATCH_TIMEOUT};
use super::guard::Guarded;

/// Between two readings of an object that is not watched.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Where to watch and what.
#[derive(Clone, Debug, Default)]
pub struct WatchScope {
    /// What is watched, as metrics and the log name it.
    pub kind: &'static str,
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    pub labels: Option<String>,
    /// By their type, of Secrets.
    pub of_type: Option<&'static str>,
    pub name: Option<String>,
    /// Its failures concern a part only: the process is ready all the same.
    pub is_part: bool,
}

impl WatchScope {
    fn fields(&self) -> Option<String> {
        let name = self.name.as_ref().map(|name| format!("metadata.name={name}"));
        name.or_else(|| self.of_type.map(|of_type| format!("type={of_type}")))
    }

    fn list(&self, page: u32, go_on: Option<String>) -> ListParams {
        let labels = self.labels.clone();
        ListParams {
            label_selector: labels,
            field_selector: self.fields(),
            limit: Some(page),
            continue_token: go_on,
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields(),
            timeout: u32::try_from(WATCH_TIMEOUT.as_secs()).ok(),
            bookmarks: true,
            send_initial_events: false,
        }
    }

    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

/// Kinds that can be watched: namespaced, and known at compile time.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// What a watch shows.
#[derive(Debug)]
pub enum Observed<K> {
    /// A list begins; what is not seen before `Listed` is gone. It is the truth about everything that is
    /// known up to this version: the server may have gone back to an earlier state.
    Listing(u64),
    /// An object of the list, or a change.
    Present(K),
    Gone(K),
    Listed,
    /// The API server refuses the watch (403), or what is asked for makes no sense to it (400), and has
    /// done so for long enough to be believed.
    Forbidden,
}

/// Watches whole objects for as long as the receiver is there. Objects that cannot be read are skipped
/// and logged: one bad object never harms another.
pub async fn run<K, M>(server: ApiServer, scope: WatchScope, sender: Sender<M>, wrap: impl Wrap<K, M>)
where
    K: Watched,
{
    let api = scope.api::<Guarded<K>>(server.client.clone());
    Follower::new(server, scope, sender, wrap).watch(&api, readable).await;
}

/// Watches only the metadata of objects, in the same way. Not guarded: the guard would have the API
/// server send whole objects.
pub async fn run_metadata<K, M>(
    server: ApiServer,
    scope: WatchScope,
    sender: Sender<M>,
    wrap: impl Wrap<PartialObjectMeta<K>, M>,
) where
    K: Watched,
{
    let api = scope.api::<PartialObjectMeta<K>>(server.client.clone());
    Follower::new(server, scope, sender, wrap).watch(&api, Some).await;
}

/// Reads one object by its name again and again and reports what a watch would show. Of those that share
/// `slots` no more are read at a time.
pub(super) async fn poll<K, M>(
    server: ApiServer,
    scope: WatchScope,
    slots: Arc<Semaphore>,
    sender: Sender<M>,
    wrap: impl Wrap<K, M>,
) where
    K: Watched,
{
    let api = scope.api::<K>(server.client.clone());
    Follower::new(server, scope, sender, wrap).poll(&api, &slots).await;
}

/// What is watched of namespaces, for metrics and the log.
const NAMESPACES: &str = "namespaces";

/// Watches the metadata of all namespaces.
pub async fn run_namespaces<M>(
    server: ApiServer,
    sender: Sender<M>,
    wrap: impl Wrap<PartialObjectMeta<Namespace>, M>,
) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(server.client.clone());
    let scope = WatchScope { kind: NAMESPACES, is_part: true, ..WatchScope::default() };
    Follower::new(server, scope, sender, wrap).watch(&api, Some).await;
}

/// Reads the metadata of one namespace again and again: a right that a Role in it can give.
pub async fn poll_namespace<M>(
    server: ApiServer,
    name: String,
    sender: Sender<M>,
    wrap: impl Wrap<PartialObjectMeta<Namespace>, M>,
) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(server.client.clone());
    let scope = WatchScope { kind: NAMESPACES, name: Some(name), is_part: true, ..WatchScope::default() };
    Follower::new(server, scope, sender, wrap).poll(&api, &Semaphore::new(1)).await;
}

fn readable<K: Resource<DynamicType = ()>>(object: Guarded<K>) -> Option<K> {
    match object {
        Guarded::Read(object) => Some(object),
        Guarded::Unreadable(meta) => {
            warn!(
                kind = %K::kind(&()),
                namespace = meta.namespace,
                name = meta.name,
                "an object cannot be read and is skipped; is the CRD older or newer than the operator?"
            );
            None
        }
    }
}
