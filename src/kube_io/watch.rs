//! One task for each watch, with its own back-off: a watch that fails never delays another.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Client, Resource, ResourceExt};
use kube_runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::client::WATCH_TIMEOUT;
use super::guard::Guarded;
use crate::schedule::backoff::doubling;

/// Small pages cost little and halve what a re-list needs in memory.
const PAGE_SIZE: u32 = 100;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two readings of an object that is not watched.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Failures that lie further apart are not in a row: a quiet watch shows nothing when it comes up.
const APART: Duration = Duration::from_secs(120);
/// One failure is not worth a warning: a CRD upgrade ends every watch, and an API server that restarts
/// answers 429 for a while. From this many on, a person may have to act.
const WORTH_A_WARNING: u32 = 8;

/// Where to watch and what.
#[derive(Clone, Debug, Default)]
pub struct WatchScope {
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    pub labels: Option<String>,
    pub name: Option<String>,
}

impl WatchScope {
    fn config(&self) -> watcher::Config {
        let timeout = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(200);
        let mut config = watcher::Config::default().timeout(timeout).page_size(PAGE_SIZE);
        if let Some(labels) = &self.labels {
            config = config.labels(labels);
        }
        if let Some(name) = &self.name {
            config = config.fields(&format!("metadata.name={name}"));
        }
        config
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
pub enum Observed<K> {
    /// A list begins; what is not seen before `Listed` is gone.
    Listing,
    /// An object of the list, or a change.
    Present(K),
    Gone(K),
    Listed,
    /// The API server refuses the watch (403), or what is asked for makes no sense to it (400).
    Forbidden,
}

/// Watches whole objects for as long as the receiver is there. Objects that cannot be read are skipped
/// and logged: one bad object never harms another.
pub async fn run<K, M>(client: Client, scope: WatchScope, sender: Sender<M>, wrap: impl Fn(Observed<K>) -> M)
where
    K: Watched,
{
    follow(scope.api::<Guarded<K>>(client), &scope, sender, wrap, readable).await;
}

/// Watches only the metadata of objects, in the same way. Not guarded: the guard would have the API
/// server send whole objects.
pub async fn run_metadata<K, M>(
    client: Client,
    scope: WatchScope,
    sender: Sender<M>,
    wrap: impl Fn(Observed<PartialObjectMeta<K>>) -> M,
) where
    K: Watched,
{
    follow(scope.api::<PartialObjectMeta<K>>(client), &scope, sender, wrap, Some).await;
}

/// Reads one object by its name again and again and reports what a watch would show.
pub(super) async fn poll<K, M>(
    client: Client,
    scope: WatchScope,
    sender: Sender<M>,
    wrap: impl Fn(Observed<K>) -> M,
) where
    K: Watched,
{
    poll_api(scope.api::<K>(client), scope.name.as_deref().unwrap_or_default(), sender, wrap).await;
}

async fn poll_api<K, M>(api: Api<K>, name: &str, sender: Sender<M>, wrap: impl Fn(Observed<K>) -> M)
where
    K: Clone + Debug + DeserializeOwned,
{
    loop {
        let seen = match api.get_opt(name).await {
            Ok(Some(object)) => vec![Observed::Listing, Observed::Present(object), Observed::Listed],
            Ok(None) => vec![Observed::Listing, Observed::Listed],
            Err(kube::Error::Api(status)) if status.code == 403 => vec![Observed::Forbidden],
            Err(_) => Vec::new(),
        };
        for seen in seen {
            if sender.send(wrap(seen)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Watches the metadata of all namespaces.
pub async fn run_namespaces<M>(
    client: Client,
    sender: Sender<M>,
    wrap: impl Fn(Observed<PartialObjectMeta<Namespace>>) -> M,
) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    follow(api, &WatchScope::default(), sender, wrap, Some).await;
}

/// Reads the metadata of one namespace again and again: a right that a Role in it can give.
pub async fn poll_namespace<M>(
    client: Client,
    name: String,
    sender: Sender<M>,
    wrap: impl Fn(Observed<PartialObjectMeta<Namespace>>) -> M,
) {
    poll_api(Api::all(client), &name, sender, wrap).await;
}

async fn follow<W, K, M>(
    api: Api<W>,
    scope: &WatchScope,
    sender: Sender<M>,
    wrap: impl Fn(Observed<K>) -> M,
    open: fn(W) -> Option<K>,
) where
    W: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    K: Resource<DynamicType = ()>,
{
    let kind = W::kind(&());
    let mut events = Box::pin(watcher(api.clone(), scope.config()));
    let mut failures = 0_u32;
    let mut failed_at: Option<Instant> = None;
    loop {
        let seen = match events.next().await {
            Some(Ok(event)) => {
                // A list that begins has not succeeded yet.
                if !matches!(event, Event::Init) {
                    failures = 0;
                }
                present(event, open)
            }
            Some(Err(error)) => {
                let in_a_row = failed_at.is_some_and(|at| at.elapsed() < APART);
                failures = if in_a_row { failures + 1 } else { 1 };
                failed_at = Some(Instant::now());
                let code = answered(&error);
                report(&kind, code, failures);
                if matches!(code, Some(400 | 403)) {
                    if sender.send(wrap(Observed::Forbidden)).await.is_err() {
                        return;
                    }
                    // A watch that resumes would not show again what was there all the time.
                    events = Box::pin(watcher(api.clone(), scope.config()));
                }
                tokio::time::sleep(wait(failures)).await;
                None
            }
            None => return,
        };
        if let Some(seen) = seen
            && sender.send(wrap(seen)).await.is_err()
        {
            return;
        }
    }
}

fn present<W, K: Resource>(event: Event<W>, open: fn(W) -> Option<K>) -> Option<Observed<K>> {
    let read = |object| {
        let mut object = open(object)?;
        // Three quarters of an object's memory, and nothing reads them.
        object.managed_fields_mut().clear();
        Some(object)
    };
    match event {
        Event::Init => Some(Observed::Listing),
        Event::InitApply(object) | Event::Apply(object) => read(object).map(Observed::Present),
        Event::Delete(object) => read(object).map(Observed::Gone),
        Event::InitDone => Some(Observed::Listed),
    }
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

/// HTTP status that the API server answered a list or watch with.
fn answered(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => Some(status.code),
        WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Logs a failure at once if a person has to act, otherwise once it lasts; after that seldom.
fn report(kind: &str, code: Option<u16>, failures: u32) {
    let seldom = failures.is_power_of_two();
    match code {
        Some(404) if seldom => {
            warn!(
                kind,
                failures,
                "the API server does not know this kind; install the CRDs: dps-operator crds | kubectl apply --server-side -f -"
            );
        }
        Some(403) if seldom => {
            warn!(
                kind,
                failures,
                "the operator may not list and watch this kind; check the RBAC rules of its ServiceAccount"
            );
        }
        _ if seldom && failures >= WORTH_A_WARNING => {
            warn!(kind, failures, code, "the watch does not come up; it is tried again");
        }
        _ => debug!(kind, failures, code, "a watch ended and is started again"),
    }
}

fn wait(failures: u32) -> Duration {
    doubling(FIRST_WAIT, failures, LONGEST_WAIT)
}
