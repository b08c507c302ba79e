//! Labels of namespaces, known only while an integration admits namespaces by their labels.

use std::collections::{BTreeMap, HashMap};

/// What is known of namespaces.
#[derive(Default)]
pub(super) struct Namespaces {
    /// Readings whose first answer is still to come; `None` before they were asked for.
    unread: Option<usize>,
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Namespaces {
    /// `None` while they are not known.
    pub(super) fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(namespace)
    }

    pub(super) fn are_read(&self) -> bool {
        self.unread.is_none_or(|unread| unread == 0)
    }

    /// True the first time: so many readings have to be started.
    pub(super) fn ask(&mut self, readings: usize) -> bool {
        let first = self.unread.is_none();
        self.unread.get_or_insert(readings);
        first
    }

    /// True if that is news.
    pub(super) fn observed(&mut self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let news = self.labels.get(name) != Some(labels);
        if news {
            self.labels.insert(name.to_owned(), labels.clone());
        }
        news
    }

    pub(super) fn gone(&mut self, name: &str) {
        self.labels.remove(name);
    }

    pub(super) fn read(&mut self) {
        self.unread = self.unread.map(|unread| unread.saturating_sub(1));
    }
}
