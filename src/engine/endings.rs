//! Which namespaces are going away. The collector takes their objects in any order: a Secret or a device
//! that is gone may be the first sign of it. Until that is known no call is made for a device there, and
//! once it is nothing is done for it at all.

use std::collections::{BTreeSet, HashMap};

use crate::fleet::DeviceId;
use crate::fleet::intern::Sym;

/// What is known of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing says that it goes away.
    Stays,
    /// Something of it is gone, and it has not been looked at since.
    Doubted,
    /// It is being deleted.
    Ends,
}

/// A namespace of which something is gone.
#[derive(Debug, Default)]
struct Doubt {
    /// It is being looked at.
    asked: bool,
    /// Something more was gone since it was last looked at.
    again: bool,
    ends: bool,
    /// Devices that wait for the answer.
    waiting: BTreeSet<DeviceId>,
}

/// Only of those namespaces of which something is gone.
#[derive(Debug, Default)]
pub(super) struct Endings(HashMap<Sym, Doubt>);

impl Endings {
    pub fn standing(&self, namespace: Sym) -> Standing {
        match self.0.get(&namespace) {
            None => Standing::Stays,
            Some(doubt) if doubt.ends => Standing::Ends,
            Some(_) => Standing::Doubted,
        }
    }

    /// Namespaces that something is known of here.
    pub fn namespaces(&self) -> impl Iterator<Item = Sym> {
        self.0.keys().copied()
    }

    /// Something of the namespace is gone.
    pub fn doubt(&mut self, namespace: Sym) {
        let doubt = self.0.entry(namespace).or_default();
        doubt.again = doubt.asked;
    }

    /// The namespace has a new device: one that was going away has gone, and this is another of its name.
    pub fn has_a_new_device(&mut self, namespace: Sym) {
        if let Some(doubt) = self.0.get_mut(&namespace) {
            doubt.ends = false;
            doubt.again = doubt.asked;
        }
    }

    /// A device waits to know; true if the namespace has to be looked at for that.
    pub fn wait(&mut self, namespace: Sym, id: DeviceId) -> bool {
        let Some(doubt) = self.0.get_mut(&namespace) else { return false };
        doubt.waiting.insert(id);
        !std::mem::replace(&mut doubt.asked, true)
    }

    /// True if the device waits to know.
    pub fn awaits(&self, namespace: Sym, id: DeviceId) -> bool {
        self.0.get(&namespace).is_some_and(|doubt| doubt.waiting.contains(&id))
    }

    /// Namespaces are being looked at.
    #[cfg(test)]
    pub fn is_asking(&self) -> bool {
        self.0.values().any(|doubt| doubt.asked)
    }

    /// The namespace was looked at; `ends`: `None` if it could not be. Returns the devices that waited.
    pub fn answered(&mut self, namespace: Sym, ends: Option<bool>) -> BTreeSet<DeviceId> {
        let Some(doubt) = self.0.get_mut(&namespace) else { return BTreeSet::new() };
        let waiting = std::mem::take(&mut doubt.waiting);
        doubt.asked = false;
        let is_certain = !std::mem::take(&mut doubt.again);
        match ends {
            Some(true) => doubt.ends = true,
            Some(false) if is_certain => drop(self.0.remove(&namespace)),
            Some(false) | None => {}
        }
        waiting
    }

    /// A write was refused because the namespace is being deleted.
    pub fn ends(&mut self, namespace: Sym) {
        self.0.entry(namespace).or_default().ends = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::intern::Interner;

    fn namespace() -> Sym {
        Interner::default().intern("fleet")
    }

    #[test]
    fn a_namespace_is_doubted_until_it_was_looked_at_after_what_is_gone() {
        let (mut endings, fleet) = (Endings::default(), namespace());
        assert_eq!(endings.standing(fleet), Standing::Stays);
        endings.doubt(fleet);
        assert_eq!(endings.standing(fleet), Standing::Doubted);
        assert_eq!(
            [endings.wait(fleet, 1), endings.wait(fleet, 2), endings.wait(fleet, 1)],
            [true, false, false]
        );
        // The answer may be older than this.
        endings.doubt(fleet);
        assert_eq!(endings.answered(fleet, Some(false)), BTreeSet::from([1, 2]));
        assert_eq!(endings.standing(fleet), Standing::Doubted);
        assert!(endings.wait(fleet, 1) && endings.awaits(fleet, 1));
        assert_eq!((endings.answered(fleet, Some(false)), endings.0.len()), (BTreeSet::from([1]), 0));
        assert_eq!(endings.standing(fleet), Standing::Stays);
    }

    #[test]
    fn one_that_could_not_be_looked_at_stays_doubted() {
        let (mut endings, fleet) = (Endings::default(), namespace());
        endings.doubt(fleet);
        endings.wait(fleet, 1);
        assert_eq!(endings.answered(fleet, None), BTreeSet::from([1]));
        assert_eq!(endings.standing(fleet), Standing::Doubted);
        assert!(endings.wait(fleet, 1), "it is looked at once more");
    }

    #[test]
    fn one_that_ends_does_so_until_another_of_its_name_has_devices() {
        let (mut endings, fleet) = (Endings::default(), namespace());
        endings.ends(fleet);
        endings.doubt(fleet);
        assert_eq!(endings.standing(fleet), Standing::Ends);
        endings.has_a_new_device(fleet);
        assert_eq!(endings.standing(fleet), Standing::Doubted);
        endings.wait(fleet, 1);
        endings.answered(fleet, Some(true));
        assert_eq!(endings.standing(fleet), Standing::Ends);
    }
}
