//! Names that many devices share are kept once.

use std::collections::HashMap;
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
}

/// Grows only: namespaces, integrations and hubs are few.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Vec<Arc<str>>,
    syms: HashMap<Arc<str>, Sym>,
}

impl Interner {
    pub fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.syms.get(text) {
            return *sym;
        }
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        let number = u32::try_from(self.texts.len()).ok().and_then(NonZeroU32::new);
        let sym = Sym(number.unwrap_or(NonZeroU32::MAX));
        self.syms.insert(text, sym);
        sym
    }

    pub fn get(&self, text: &str) -> Option<Sym> {
        self.syms.get(text).copied()
    }

    pub fn text(&self, sym: Sym) -> &str {
        self.texts.get(sym.index() as usize - 1).map_or("", |text| text)
    }
}
