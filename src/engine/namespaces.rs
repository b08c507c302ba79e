//! Labels of namespaces, watched only while an integration admits namespaces by their labels.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::{Engine, Message};
use crate::kube_io::watch::{self, Seen};

/// What is known of namespaces.
#[derive(Default)]
pub(super) struct Namespaces {
    watched: bool,
    /// Watches whose first answer is still to come.
    unread: usize,
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Namespaces {
    /// `None` while they are not known.
    pub(super) fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(namespace)
    }

    pub(super) fn are_read(&self) -> bool {
        self.unread == 0
    }
}

impl Engine {
    /// One watch over all namespaces, or one reading for each that is watched: a right that a Role
    /// can give.
    pub(super) fn watch_namespaces(&mut self) {
        if std::mem::replace(&mut self.namespaces.watched, true) {
            return;
        }
        let scopes = self.config.namespaces();
        self.namespaces.unread = scopes.len();
        for name in scopes {
            let (client, sender) = (self.client.clone(), self.sender.clone());
            match name {
                None => tokio::spawn(watch::run_namespaces(client, sender, Message::Namespace)),
                Some(name) => tokio::spawn(watch::poll_namespace(client, name, sender, Message::Namespace)),
            };
        }
    }

    pub(super) fn namespace_seen(&mut self, seen: Seen<PartialObjectMeta<Namespace>>) {
        match seen {
            Seen::Listing => {}
            Seen::Present(namespace) => {
                let (name, labels) = (namespace.name_any(), namespace.labels().clone());
                if self.namespaces.labels.get(&name) != Some(&labels) {
                    self.namespaces.labels.insert(name.clone(), labels);
                    self.wake_guests(&name);
                }
            }
            Seen::Gone(namespace) => {
                self.namespaces.labels.remove(&namespace.name_any());
            }
            Seen::Listed | Seen::Forbidden => {
                self.namespaces.unread = self.namespaces.unread.saturating_sub(1);
                self.advance();
            }
        }
    }

    /// Devices of a namespace that refer to another one's integration.
    fn wake_guests(&mut self, namespace: &str) {
        let Some(sym) = self.fleet.names.get(namespace) else { return };
        let is_guest = |integration| {
            let key: &str = self.fleet.names.text(integration);
            key.split_once('/').is_some_and(|(other, _)| other != namespace)
        };
        let of_it = self.fleet.iter().filter(|(_, record)| record.namespace == sym);
        let guests: Vec<_> =
            of_it.filter(|(_, record)| is_guest(record.integration)).map(|(id, _)| id).collect();
        for id in guests {
            self.tell_at.remove(&id);
            self.runner.wake_later(id);
        }
    }
}
