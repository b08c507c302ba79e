//! Names that many devices share are kept once, for as long as something is known by them.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Stands for a text in an `Interner`. None at all takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(NonZeroU32);

impl Sym {
    pub fn index(self) -> u32 {
        self.0.get()
    }

    /// The one with this index.
    pub fn at(index: u32) -> Option<Self> {
        NonZeroU32::new(index).map(Self)
    }

    /// The next one, the last being followed by the first.
    fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU32::MIN))
    }
}

/// So many names are kept without a look at whether they are still of use.
const KEPT: usize = 1024;

/// Names of namespaces, integrations and hubs: few at a time. But devices may name integrations that
/// never were, others each time.
#[derive(Debug)]
pub struct Interner {
    texts: hashbrown::HashMap<Sym, Arc<str>>,
    syms: HashMap<Arc<str>, Sym>,
    /// The next one that is given, unless it still stands for a name: one that was forgotten is not
    /// given again before all others were.
    next: Sym,
    /// So many names are kept before those that are of no use are forgotten.
    most: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            texts: hashbrown::HashMap::new(),
            syms: HashMap::new(),
            next: Sym(NonZeroU32::MIN),
            most: KEPT,
        }
    }
}

impl Interner {
    pub fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.syms.get(text) {
            return *sym;
        }
        while self.texts.contains_key(&self.next) {
            self.next = self.next.next();
        }
        let (sym, text): (Sym, Arc<str>) = (self.next, text.into());
        self.next = sym.next();
        self.texts.insert(sym, text.clone());
        self.syms.insert(text, sym);
        sym
    }

    /// An id scope's letters count in either case: DPS may take one as the other.
    pub fn intern_scope(&mut self, scope: &str) -> Sym {
        self.intern(&scope.to_ascii_lowercase())
    }

    pub fn get(&self, text: &str) -> Option<Sym> {
        self.syms.get(text).copied()
    }

    pub fn text(&self, sym: Sym) -> &str {
        self.texts.get(&sym).map_or("", |text| text)
    }

    /// True if there are so many names that most of them may be of no use any more.
    pub fn is_overgrown(&self) -> bool {
        self.texts.len() > self.most
    }

    /// Forgets all names but these. What is left stands for the same texts as before.
    pub fn keep(&mut self, used: &HashSet<Sym>) {
        self.texts.retain(|sym, _| used.contains(sym));
        self.syms.retain(|_, sym| used.contains(sym));
        self.texts.shrink_to(KEPT);
        self.syms.shrink_to(KEPT);
        self.most = KEPT + 2 * self.texts.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_text_until_it_is_of_no_use() {
        let mut names = Interner::default();
        let (a, b) = (names.intern("a"), names.intern("b"));
        assert_eq!((names.intern("a"), names.text(b), names.get("c")), (a, "b", None));

        names.keep(&[b].into());

        assert_eq!((names.text(a), names.get("a"), names.text(b), names.get("b")), ("", None, "b", Some(b)));
        assert!(![a, b].contains(&names.intern("c")), "a forgotten one is not given again");
    }

    #[test]
    fn after_the_last_number_come_those_that_are_free() {
        let mut names = Interner::default();
        let first = names.intern("first");
        names.next = Sym(NonZeroU32::MAX);

        let (last, free) = (names.intern("last"), names.intern("free"));

        assert_eq!((last.index(), free.index()), (u32::MAX, first.index() + 1));
        assert_eq!([first, last, free].map(|sym| names.text(sym)), ["first", "last", "free"]);
    }

    #[test]
    fn however_many_names_there_were_few_are_kept_of_those_in_use() {
        let mut names = Interner::default();
        let used: HashSet<Sym> = (0..10).map(|number| names.intern(&format!("used-{number}"))).collect();
        for number in 0..100_000 {
            names.intern(&format!("once-{number}"));
            if names.is_overgrown() {
                names.keep(&used);
            }
            assert!(names.texts.len() <= KEPT + 21);
        }
        assert!(used.iter().all(|sym| names.text(*sym).starts_with("used-")));
        assert!(names.texts.capacity() < 8 * KEPT && names.syms.capacity() < 8 * KEPT);
    }
}
