//! Names that many devices share are kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// Stands for a text in an `Interner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(u32);

impl Sym {
    pub fn index(self) -> u32 {
        self.0
    }

    /// The one with this index.
    pub fn at(index: u32) -> Self {
        Self(index)
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
        let sym = Sym(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.syms.insert(text, sym);
        sym
    }

    pub fn get(&self, text: &str) -> Option<Sym> {
        self.syms.get(text).copied()
    }

    pub fn text(&self, sym: Sym) -> &str {
        self.texts.get(sym.0 as usize).map_or("", |text| text)
    }
}
