//! What integrations refer to: who refers to what, and what of it is kept. An event of one integration
//! costs as much as it refers to, however many others there are.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use sha2::{Digest, Sha256};

use crate::api::references::{Reference, Referred, ReferredKind};
use crate::fleet::intern::Sym;

/// CA bundles may come to this with their clients: beyond it, further ones are not kept.
const KEPT_MAX: usize = 64 * 1024 * 1024;
/// Those of one namespace may come to this, so that no tenant takes all of it.
const KEPT_OF_NAMESPACE: usize = 8 * 1024 * 1024;
/// A client with roots of its own, which each other CA bundle needs.
const CLIENT: usize = 128 * 1024;

/// Keys of an object, by its name.
pub(super) type Wanted = BTreeMap<Reference, BTreeSet<String>>;

struct Known {
    referred: Referred,
    /// Who refers to it, and to which of its keys.
    users: BTreeMap<Sym, BTreeSet<String>>,
    /// If it is a CA bundle that is kept: what it is and its size.
    bundle: Option<(Bundle, usize)>,
}

/// Stands for the bytes of a CA bundle: equal ones need one client.
type Bundle = [u8; 32];

impl Known {
    fn keys(&self) -> BTreeSet<String> {
        self.users.values().flatten().cloned().collect()
    }
}

/// What should be watched from now on, and what no longer.
#[derive(Debug, Default, PartialEq)]
pub(in crate::engine) struct ReferenceChanges {
    /// With the keys that are kept of it. One that is watched already is read once more.
    pub begin: BTreeMap<Reference, BTreeSet<String>>,
    pub end: BTreeSet<Reference>,
}

/// All that integrations refer to.
#[derive(Default)]
pub(super) struct References {
    known: HashMap<Reference, Known>,
    of: HashMap<Sym, Wanted>,
    unread: usize,
    kept: usize,
    kept_of_namespace: HashMap<String, usize>,
    bundles: HashMap<Bundle, usize>,
    bundles_of_namespace: HashMap<(String, Bundle), usize>,
    changes: ReferenceChanges,
}

impl References {
    /// An integration refers to these now.
    pub fn set(&mut self, sym: Sym, wanted: Wanted) {
        if self.of.get(&sym) == Some(&wanted) || (wanted.is_empty() && !self.of.contains_key(&sym)) {
            return;
        }
        for (reference, keys) in &wanted {
            self.refer(sym, reference, keys);
        }
        let before = self.of.remove(&sym).unwrap_or_default();
        for reference in before.keys().filter(|reference| !wanted.contains_key(*reference)) {
            self.no_longer_refers(sym, reference);
        }
        if !wanted.is_empty() {
            self.of.insert(sym, wanted);
        }
    }

    fn refer(&mut self, sym: Sym, reference: &Reference, keys: &BTreeSet<String>) {
        let known = self.known.get(reference).map(Known::keys);
        if known.as_ref().is_none_or(|known| !keys.is_subset(known)) {
            // What is not kept has to be read.
            self.replace(reference, Referred::Unread);
        }
        if let Some(found) = self.known.get_mut(reference) {
            found.users.insert(sym, keys.clone());
            if known.as_ref() != Some(&found.keys()) {
                self.changes.end.remove(reference);
                self.changes.begin.insert(reference.clone(), found.keys());
            }
        }
    }

    fn no_longer_refers(&mut self, sym: Sym, reference: &Reference) {
        let Some(known) = self.known.get_mut(reference) else { return };
        known.users.remove(&sym);
        if known.users.is_empty() {
            self.replace(reference, Referred::Missing);
            self.known.remove(reference);
            self.changes.begin.remove(reference);
            self.changes.end.insert(reference.clone());
        }
    }

    /// What has come up since this was asked last.
    pub fn take_changes(&mut self) -> ReferenceChanges {
        std::mem::take(&mut self.changes)
    }

    pub fn find(&self, reference: &Reference) -> &Referred {
        self.known.get(reference).map_or(&Referred::Unread, |known| &known.referred)
    }

    pub fn contains(&self, reference: &Reference) -> bool {
        self.known.contains_key(reference)
    }

    pub fn are_read(&self) -> bool {
        self.unread == 0
    }

    /// Takes in an object that has been read or has changed; returns who refers to it.
    pub fn observed(&mut self, reference: &Reference, referred: Referred) -> Vec<Sym> {
        if !self.contains(reference) {
            return Vec::new();
        }
        self.replace(reference, referred);
        self.known.get(reference).map(|known| known.users.keys().copied().collect()).unwrap_or_default()
    }

    /// Puts it in the place of what was known, if there is room for it.
    fn replace(&mut self, reference: &Reference, referred: Referred) {
        let empty = || Known { referred: Referred::Missing, users: BTreeMap::new(), bundle: None };
        let known = self.known.entry(reference.clone()).or_insert_with(empty);
        self.unread -= usize::from(matches!(known.referred, Referred::Unread));
        known.referred = Referred::Missing;
        if let Some((bundle, size)) = known.bundle.take() {
            self.drop_bundle(&reference.namespace, bundle, size);
        }
        let kept = match &referred {
            Referred::Present { data, .. } if reference.kind == ReferredKind::ConfigMap => {
                let size = data.iter().map(|(key, value)| key.len() + value.len()).sum();
                let bundle = digest(data.values());
                Some(self.keep_bundle(&reference.namespace, bundle, size).then_some((bundle, size)))
            }
            _ => None,
        };
        let Some(known) = self.known.get_mut(reference) else { return };
        known.bundle = kept.flatten();
        known.referred = if kept == Some(None) { Referred::TooMuch } else { referred };
        self.unread += usize::from(matches!(known.referred, Referred::Unread));
    }

    /// True if there is room for it.
    fn keep_bundle(&mut self, namespace: &str, bundle: Bundle, size: usize) -> bool {
        let client = |is_new: bool| if is_new { CLIENT } else { 0 };
        let of_its = (namespace.to_owned(), bundle);
        let kept = self.kept_of_namespace.get(namespace).copied().unwrap_or_default();
        let of_namespace = kept + size + client(!self.bundles_of_namespace.contains_key(&of_its));
        let all = self.kept + size + client(!self.bundles.contains_key(&bundle));
        if all > KEPT_MAX || of_namespace > KEPT_OF_NAMESPACE {
            return false;
        }
        self.kept = all;
        self.kept_of_namespace.insert(namespace.to_owned(), of_namespace);
        *self.bundles.entry(bundle).or_default() += 1;
        *self.bundles_of_namespace.entry(of_its).or_default() += 1;
        true
    }

    fn drop_bundle(&mut self, namespace: &str, bundle: Bundle, size: usize) {
        let last = release(&mut self.bundles, bundle);
        self.kept -= size + if last { CLIENT } else { 0 };
        let last_of_its = release(&mut self.bundles_of_namespace, (namespace.to_owned(), bundle));
        let gone = size + if last_of_its { CLIENT } else { 0 };
        let left = self.kept_of_namespace.remove(namespace).map_or(0, |kept| kept - gone);
        if left > 0 {
            self.kept_of_namespace.insert(namespace.to_owned(), left);
        }
    }
}

/// Counts one user down; true if it was the last.
fn release<K: Eq + Hash>(users: &mut HashMap<K, usize>, key: K) -> bool {
    let Entry::Occupied(mut found) = users.entry(key) else { return false };
    *found.get_mut() -= 1;
    let last = *found.get() == 0;
    if last {
        found.remove();
    }
    last
}

fn digest<'a>(values: impl Iterator<Item = &'a zeroize::Zeroizing<Vec<u8>>>) -> [u8; 32] {
    let mut digest = Sha256::new();
    values.for_each(|value| digest.update(value.as_slice()));
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::fleet::intern::Interner;

    fn config_map(name: &str) -> Reference {
        Reference { kind: ReferredKind::ConfigMap, namespace: "fleet".to_owned(), name: name.to_owned() }
    }

    fn wanted(names: &[(&str, &[&str])]) -> Wanted {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        names.iter().map(|(name, of)| (config_map(name), keys(of))).collect()
    }

    fn bytes(key: &str, filler: u8, size: usize) -> Referred {
        let data = [(key.to_owned(), Zeroizing::new(vec![filler; size]))].into();
        Referred::Present { data, generated: false, version: String::new() }
    }

    fn syms() -> [Sym; 2] {
        let mut names = Interner::default();
        ["fleet/a", "fleet/b"].map(|name| names.intern(name))
    }

    #[test]
    fn only_what_is_new_or_no_longer_referred_to_is_a_change() {
        let ([a, b], mut references) = (syms(), References::default());
        references.set(a, wanted(&[("one", &["k"]), ("two", &["k"])]));
        references.set(b, wanted(&[("two", &["k"])]));
        let changes = references.take_changes();
        assert_eq!(changes.begin, wanted(&[("one", &["k"]), ("two", &["k"])]));
        assert!(changes.end.is_empty() && !references.are_read());

        references.set(a, wanted(&[("one", &["k"]), ("two", &["k"])]));
        references.set(b, wanted(&[("one", &["k"]), ("two", &["k"])]));
        assert_eq!(references.take_changes(), ReferenceChanges::default(), "it is watched for another one");
        references.set(b, wanted(&[("two", &["k"])]));
        references.set(a, wanted(&[("three", &["k"])]));
        let changes = references.take_changes();
        assert_eq!(changes.begin, wanted(&[("three", &["k"])]));
        assert_eq!(changes.end, [config_map("one")].into());
        references.set(b, Wanted::new());
        references.set(a, Wanted::new());
        assert_eq!(references.take_changes().end, [config_map("three"), config_map("two")].into());
        assert!(references.are_read() && references.known.is_empty() && references.of.is_empty());
    }

    #[test]
    fn a_key_that_is_named_later_has_the_object_read_once_more_and_one_fewer_does_not() {
        let ([a, b], mut references) = (syms(), References::default());
        references.set(a, wanted(&[("one", &["k"])]));
        references.observed(&config_map("one"), bytes("k", 1, 10));
        references.take_changes();

        references.set(b, wanted(&[("one", &["other"])]));

        assert_eq!(references.take_changes().begin, wanted(&[("one", &["k", "other"])]));
        assert!(!references.are_read());
        references.observed(&config_map("one"), bytes("k", 1, 10));
        references.set(b, Wanted::new());
        assert!(references.take_changes() == ReferenceChanges::default() && references.are_read());
    }

    #[test]
    fn who_refers_to_an_object_is_known_without_asking_the_others() {
        let ([a, b], mut references) = (syms(), References::default());
        references.set(a, wanted(&[("one", &["k"])]));
        references.set(b, wanted(&[("one", &["k"]), ("two", &["k"])]));
        assert_eq!(references.observed(&config_map("one"), Referred::Missing), [a, b]);
        assert_eq!(references.observed(&config_map("two"), Referred::Missing), [b]);
        assert_eq!(references.observed(&config_map("three"), Referred::Missing), []);
    }

    fn too_much(references: &References, reference: &Reference) -> bool {
        matches!(references.find(reference), Referred::TooMuch)
    }

    #[test]
    fn one_namespace_keeps_no_more_than_its_share_and_has_room_again_when_others_go() {
        let ([a, b], mut references) = (syms(), References::default());
        let names: Vec<String> = (0..40).map(|number| format!("ca-{number}")).collect();
        let all = names.iter().map(|name| (config_map(name), BTreeSet::from(["k".to_owned()]))).collect();
        references.set(a, all);
        for (number, name) in (0..).zip(&names) {
            references.observed(&config_map(name), bytes("k", number, 262_144));
        }
        let [first, last] = ["ca-0", "ca-39"].map(config_map);
        assert!(!too_much(&references, &first) && too_much(&references, &last));
        assert!(references.kept <= KEPT_OF_NAMESPACE);
        let elsewhere = Reference { namespace: "tenant".to_owned(), ..config_map("ca") };
        references.set(b, [(elsewhere.clone(), BTreeSet::from(["k".to_owned()]))].into());
        references.observed(&elsewhere, bytes("k", 99, 262_144));
        assert!(!too_much(&references, &elsewhere), "another tenant has its own");

        references.set(a, wanted(&[("ca-39", &["k"])]));
        references.set(b, Wanted::new());
        references.observed(&last, bytes("k", 1, 1000));

        assert!(!too_much(&references, &last));
        assert_eq!(references.kept, 1001 + CLIENT);
        references.set(a, Wanted::new());
        assert_eq!(
            (references.kept, references.bundles.len(), references.kept_of_namespace.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn equal_bundles_of_one_namespace_need_one_client() {
        let ([a, _], mut references) = (syms(), References::default());
        let names: Vec<String> = (0..200).map(|number| format!("ca-{number}")).collect();
        let all = names.iter().map(|name| (config_map(name), BTreeSet::from(["k".to_owned()]))).collect();
        references.set(a, all);
        names.iter().for_each(|name| drop(references.observed(&config_map(name), bytes("k", 7, 999))));

        assert!(names.iter().all(|name| !too_much(&references, &config_map(name))));

        assert_eq!(references.kept_of_namespace["fleet"], 200 * 1000 + CLIENT);
        references.set(a, Wanted::new());
        assert!(references.kept_of_namespace.is_empty() && references.bundles_of_namespace.is_empty());
    }

    #[test]
    fn all_namespaces_together_keep_no_more_than_the_bound() {
        let ([a, _], mut references) = (syms(), References::default());
        let mut of = |number: u8| {
            let namespace = format!("tenant-{}", number % 20);
            Reference { namespace, ..config_map(&format!("ca-{number}")) }
        };
        let all: Vec<Reference> = (0..240).map(&mut of).collect();
        references.set(a, all.iter().map(|reference| (reference.clone(), BTreeSet::new())).collect());
        for (number, reference) in (0..).zip(&all) {
            references.observed(reference, bytes("k", number, 262_144));
        }
        let refused = all.iter().filter(|reference| too_much(&references, reference)).count();
        assert!(references.kept <= KEPT_MAX && (60..100).contains(&refused), "{refused}");
    }

    #[test]
    fn equal_bundles_in_many_namespaces_need_one_client() {
        let ([a, _], mut references) = (syms(), References::default());
        references.set(a, wanted(&[("one", &["k"]), ("two", &["k"]), ("three", &["k"])]));
        for name in ["one", "two", "three"] {
            references.observed(&config_map(name), bytes("k", 7, 1000));
        }
        assert_eq!(references.kept, 3 * 1001 + CLIENT);
    }
}
