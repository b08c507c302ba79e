//! The watches: each a task of its own, and all supervised. One that ends ends the process, since what
//! is known would grow old unnoticed.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;

use k8s_openapi::api::core::v1::Secret;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument, info_span};

use super::sync::{SourceWatch, WatchId, WatchedKind};
use crate::api::cert_manager::Certificate;
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::names;
use crate::api::references::Reference;
use crate::engine::{Context, Message};
use crate::fleet::{SourceKey, SourceList};
use crate::kube_io::client::ApiServer;
use crate::kube_io::refs::{self, ReferenceWatches, WatchNumber};
use crate::kube_io::watch::{self, WatchScope};

/// All that run.
pub(in crate::engine) struct Watches {
    tasks: JoinSet<&'static str>,
    refs: ReferenceWatches<Message>,
    /// Of Secrets that devices' own keys are read from, by name.
    sources: HashMap<SourceKey, AbortHandle>,
    source_tasks: JoinSet<()>,
}

impl Watches {
    pub fn new(server: ApiServer, sender: Sender<Message>) -> Self {
        let refs = ReferenceWatches::new(server, sender, Message::Referred);
        Self { tasks: JoinSet::new(), refs, sources: HashMap::new(), source_tasks: JoinSet::new() }
    }

    pub fn start_integrations(&mut self, context: &Context) {
        for (watch, namespace) in scopes(context) {
            let wrap = move |observed| Message::Integration(watch, observed);
            let kind = WatchedKind::Integrations.as_str();
            let scope = WatchScope { kind, namespace: namespace.clone(), ..WatchScope::default() };
            let (server, sender) = context.connection();
            self.spawn(
                WatchedKind::Integrations.as_str(),
                namespace,
                watch::run::<DpsIntegration, _>(server, scope, sender, wrap),
            );
        }
    }

    pub fn start_devices(&mut self, context: &Context) {
        for (watch, namespace) in scopes(context) {
            let wrap = move |observed| Message::Device(watch, observed);
            let kind = WatchedKind::Devices.as_str();
            let scope = WatchScope { kind, namespace: namespace.clone(), ..WatchScope::default() };
            let (server, sender) = context.connection();
            let devices = watch::run::<ProvisionedDevice, _>(server, scope, sender, wrap);
            self.spawn(WatchedKind::Devices.as_str(), namespace, devices);
        }
    }

    /// Begun once devices are known: what none of them names is remembered, up to a bound.
    pub fn start_secrets(&mut self, context: &Context) {
        for (watch, namespace) in scopes(context) {
            let wrap = move |observed| Message::Secret(watch, observed);
            let labels = Some(format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
            let kind = WatchedKind::Secrets.as_str();
            let scope = WatchScope { kind, namespace: namespace.clone(), labels, ..WatchScope::default() };
            let (server, sender) = context.connection();
            self.spawn(
                WatchedKind::Secrets.as_str(),
                namespace,
                watch::run_metadata::<Secret, _>(server, scope, sender, wrap),
            );
        }
    }

    /// Secrets that devices' own keys or certificates are read from: those that have our label, or all with a
    /// certificate.
    pub fn start_sources(&mut self, list: SourceList, context: &Context) {
        for (watch, namespace) in scopes(context) {
            let wrap = move |observed| Message::Source(SourceWatch::Listed(list, watch), observed);
            let (labels, of_type) = match list {
                SourceList::Labelled => (Some(format!("{}=true", names::WATCH_LABEL)), None),
                SourceList::Certificates => (None, Some("kubernetes.io/tls")),
            };
            let scope = WatchScope {
                kind: refs::KIND,
                namespace: namespace.clone(),
                labels,
                of_type,
                is_part: true,
                ..WatchScope::default()
            };
            let (server, sender) = context.connection();
            self.spawn(refs::KIND, namespace, watch::run_metadata::<Secret, _>(server, scope, sender, wrap));
        }
    }

    /// Certificates that the operator has cert-manager issue. Whole ones: what others change about them is put back.
    pub fn start_certificates(&mut self, context: &Context) {
        for (watch, namespace) in scopes(context) {
            let wrap = move |observed| Message::Certificate(watch, observed);
            let scope = WatchScope {
                kind: "certificates",
                namespace: namespace.clone(),
                labels: Some(format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY)),
                is_part: true,
                ..WatchScope::default()
            };
            let (server, sender) = context.connection();
            self.spawn("certificates", namespace, watch::run::<Certificate, _>(server, scope, sender, wrap));
        }
    }

    /// Watches one of them by its name.
    pub fn watch_source(&mut self, namespace: &str, key: &SourceKey, context: &Context) {
        let scope = WatchScope {
            kind: refs::KIND,
            is_part: true,
            namespace: Some(namespace.to_owned()),
            name: Some(key.1.to_string()),
            labels: None,
            of_type: None,
        };
        let (server, sender) = context.connection();
        let named = key.clone();
        let wrap = move |observed| Message::Source(SourceWatch::Named(named.clone()), observed);
        let watch = watch::run_metadata::<Secret, _>(server, scope, sender, wrap);
        let span = info_span!("watch", kind = refs::KIND, namespace);
        self.sources.insert(key.clone(), self.source_tasks.spawn(watch.instrument(span)));
    }

    /// It need not be followed any more.
    pub fn unwatch_source(&mut self, key: &SourceKey) {
        if let Some(task) = self.sources.remove(key) {
            task.abort();
        }
    }

    /// One watch over all namespaces, or one reading for each that is watched: a right that a Role
    /// can give.
    pub fn start_namespaces(&mut self, context: &Context) {
        for (_, namespace) in scopes(context) {
            let (server, sender) = context.connection();
            match namespace {
                None => {
                    self.spawn("namespaces", None, watch::run_namespaces(server, sender, Message::Namespace));
                }
                Some(name) => {
                    let poll = watch::poll_namespace(server, name.clone(), sender, Message::Namespace);
                    self.spawn("namespaces", Some(name), poll);
                }
            }
        }
    }

    /// Watches an object that integrations refer to, for these of its keys.
    pub fn watch(&mut self, reference: Reference, keys: BTreeSet<String>) {
        self.refs.watch(reference, keys);
    }

    /// No integration refers to it any more.
    pub fn unwatch(&mut self, reference: &Reference) {
        self.refs.unwatch(reference);
    }

    /// False for what a watch has shown that was ended since.
    pub fn is_current(&self, reference: &Reference, number: WatchNumber) -> bool {
        self.number(reference) == Some(number)
    }

    /// The number of the watch that runs.
    pub fn number(&self, reference: &Reference) -> Option<WatchNumber> {
        self.refs.number(reference)
    }

    fn spawn(
        &mut self,
        kind: &'static str,
        namespace: Option<String>,
        watch: impl Future<Output = ()> + Send + 'static,
    ) {
        let span = info_span!("watch", kind, namespace);
        self.tasks.spawn(async move {
            watch.instrument(span).await;
            kind
        });
    }

    /// Waits until one ends, which none should; returns what it watched.
    pub async fn ended(&mut self) -> String {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => {
                    return ended.map_or_else(|error| error.to_string(), str::to_owned);
                }
                ended = self.refs.ended() => return ended,
                Some(ended) = self.source_tasks.join_next() => match ended {
                    // No device names its Secret any more.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return error.to_string(),
                    Ok(()) => return refs::KIND.to_owned(),
                },
                else => std::future::pending().await,
            }
        }
    }
}

/// One watch for each of these: `None` is all namespaces.
fn scopes(context: &Context) -> Vec<(WatchId, Option<String>)> {
    context.config.namespaces().into_iter().enumerate().map(|(place, name)| (WatchId(place), name)).collect()
}
