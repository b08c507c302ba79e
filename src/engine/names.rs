//! Names are forgotten that nothing is known by any more.

use super::Engine;
use crate::fleet::intern::Sym;

impl Engine {
    /// Forgets them when they may be most of those that are kept. What an owner keeps by the name of an
    /// integration or namespace has to be named here: it would not be found again. It would not be taken
    /// for another's either, since what stood for a name does not soon stand for another.
    pub(super) fn forget_names(&mut self) {
        if !self.fleet.names.is_overgrown() {
            return;
        }
        let mut used = self.fleet.names_in_use();
        used.extend(self.registry.known());
        used.extend(self.permits.tenants().filter_map(Sym::at));
        used.extend(self.endings.namespaces());
        used.extend(self.publisher.names());
        used.extend(self.issuance.names());
        self.fleet.names.keep(&used);
    }
}
