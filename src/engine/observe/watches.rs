//! The watches: each a task of its own, and all supervised. One that ends ends the process, since what
//! is known would grow old unnoticed.

use std::collections::BTreeSet;
use std::future::Future;

use k8s_openapi::api::core::v1::Secret;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tracing::{Instrument, info_span};

use super::sync::{WatchId, WatchedKind};
use crate::api::device::ProvisionedDevice;
use crate::api::integration::DpsIntegration;
use crate::api::names;
use crate::api::references::Reference;
use crate::engine::{Context, Message};
use crate::kube_io::client::ApiServer;
use crate::kube_io::refs::{ReferenceWatches, WatchNumber};
use crate::kube_io::watch::{self, WatchScope};

/// All that run.
pub(in crate::engine) struct Watches {
    tasks: JoinSet<&'static str>,
    refs: ReferenceWatches<Message>,
}

impl Watches {
    pub fn new(server: ApiServer, sender: Sender<Message>) -> Self {
        Self { tasks: JoinSet::new(), refs: ReferenceWatches::new(server, sender, Message::Referred) }
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
        tokio::select! {
            Some(ended) = self.tasks.join_next() => ended.map_or_else(|error| error.to_string(), str::to_owned),
            ended = self.refs.ended() => ended,
            else => std::future::pending().await,
        }
    }
}

/// One watch for each of these: `None` is all namespaces.
fn scopes(context: &Context) -> Vec<(WatchId, Option<String>)> {
    context.config.namespaces().into_iter().enumerate().map(|(place, name)| (WatchId(place), name)).collect()
}
