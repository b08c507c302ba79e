//! Whether a device is registered, who says so, and what its claim on the registration id is worth.

use super::intern::{Interner, Sym};
use super::uid::Uid;
use crate::api::device::ProvisionedDevice;

/// Whether a device is registered, and who says so. The best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registration {
    /// DPS has said so, or the Secret that was written for it is there.
    Known,
    /// Its status says so, which others may edit.
    Said,
    None,
}

/// What a device's claim on its registration id is worth: the one already registered is better, else the
/// older one, else the one with the lower uid. The better claim comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub(super) registration: Registration,
    pub(super) created: i64,
    pub(super) uid: Uid,
}

impl Claim {
    /// None comes after it.
    pub(super) const LAST: Self =
        Self { registration: Registration::None, created: i64::MAX, uid: Uid::LAST };
}

/// The id scopes, in lower case, in which a device's registration id is registered, by who says so. In
/// another one, to which it or its integration may be moved, that counts for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Registrations {
    /// Its integration's, while that is declared.
    pub here: Option<Sym>,
    /// As DPS has said.
    pub known: Option<Sym>,
    /// As its status says.
    said: Option<Sym>,
    /// As the Secret says that the watch has shown.
    pub shown: Option<Sym>,
}

impl Registrations {
    /// What the status says.
    pub fn of(device: &ProvisionedDevice, names: &mut Interner) -> Self {
        let status = device.status.as_ref().filter(|status| status.assigned_hub.is_some());
        let of_this_id = |id: &String| *id == device.registration_id();
        let said = status
            .filter(|status| status.registration_id.as_ref().is_some_and(of_this_id))
            .and_then(|status| status.id_scope.as_deref())
            .map(|scope| names.intern_scope(scope));
        Self { said, ..Self::default() }
    }

    /// What all this is worth where the device is now.
    pub fn registration(self) -> Registration {
        let is_here = |scope: Option<Sym>| scope.is_some() && scope == self.here;
        match (is_here(self.known), is_here(self.said), is_here(self.shown)) {
            (true, ..) | (_, true, true) => Registration::Known,
            (false, true, false) => Registration::Said,
            (false, false, _) => Registration::None,
        }
    }

    /// DPS has registered the device here, or its registration turned out to be none.
    pub fn set(&mut self, registration: Registration) {
        let here = |is| self.here.filter(|_| is);
        let (known, said) =
            (here(registration == Registration::Known), here(registration == Registration::Said));
        (self.known, self.said) = (known, known.or(said));
    }

    /// What is known of the object besides its status, when that changes.
    pub fn carried_to(self, next: Self, same_secret: bool) -> Self {
        Self { known: self.known, shown: self.shown.filter(|_| same_secret), ..next }
    }

    pub fn scopes(self) -> impl Iterator<Item = Sym> {
        [self.here, self.known, self.said, self.shown].into_iter().flatten()
    }
}
