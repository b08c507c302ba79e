//! Whether a device is registered, who says so, and what its claim on the registration id is worth.

use super::intern::{Interner, Sym};
use super::uid::Uid;
use crate::api::device::ProvisionedDevice;

/// Whether a device is registered, and who says so. The best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registration {
    /// DPS has said so, or a Secret that was read has its seal; and DPS has accepted the integration since
    /// this process leads.
    Known,
    /// Its status says so, and that the Secret that was written for it is there, as far as can be seen
    /// without reading it.
    Shown,
    /// Its status says so, which others may edit.
    Said,
    None,
}

/// What a device's claim on its registration id is worth: the one already registered is better, else the
/// one of an integration that DPS has accepted since this process leads, else the older one, else the one
/// with the lower uid. The better claim comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub(super) registration: Registration,
    pub(super) is_unproven: bool,
    pub(super) created: i64,
    pub(super) uid: Uid,
}

impl Claim {
    /// None comes after it.
    pub(super) const LAST: Self =
        Self { registration: Registration::None, is_unproven: true, created: i64::MAX, uid: Uid::LAST };
}

/// The id scope that an integration is declared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// In lower case.
    pub scope: Sym,
    /// DPS has accepted the integration there since this process leads.
    pub proven: bool,
    /// How the Secrets with its devices' certificates are named, if each has one.
    pub certificates: Option<Sym>,
}

/// The id scopes, in lower case, in which a device's registration id is registered, by who says so. In
/// another one, to which it or its integration may be moved, that counts for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registrations {
    /// Its integration's, while that is declared.
    pub here: Option<Declared>,
    /// As DPS has said, or a Secret that was read and has its seal.
    pub known: Option<Sym>,
    /// As its status says.
    said: Option<Sym>,
    /// As the Secret says that the watch has shown.
    pub shown: Option<Sym>,
    /// Its object says that it has a credential of its own.
    pub own: bool,
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
        Self { said, own: device.spec.attestation.is_some(), ..Self::default() }
    }

    /// What all this is worth where the device is now.
    pub fn registration(self) -> Registration {
        let here = self.here.map(|declared| declared.scope);
        let is_here = |scope: Option<Sym>| scope.is_some() && scope == here;
        let said = is_here(self.said);
        if self.is_known() && self.is_proven() {
            Registration::Known
        } else if self.is_known() || (said && is_here(self.shown)) {
            Registration::Shown
        } else if said {
            Registration::Said
        } else {
            Registration::None
        }
    }

    /// True if its Secret was read here and has its seal, or DPS has said so.
    pub fn is_known(self) -> bool {
        self.known.is_some() && self.known == self.here.map(|declared| declared.scope)
    }

    /// It has a credential of its own, of which what DPS says of others proves nothing.
    pub fn is_alone(self) -> bool {
        self.own || self.here.is_some_and(|declared| declared.certificates.is_some())
    }

    pub fn is_proven(self) -> bool {
        if self.is_alone() { self.is_known() } else { self.here.is_some_and(|declared| declared.proven) }
    }

    /// DPS has registered the device here, or its Secret was read: then it shows what it is.
    pub fn set(&mut self, registration: Registration) {
        let here = self.here.map(|declared| declared.scope);
        self.known = here.filter(|_| registration == Registration::Known);
        self.said = here.filter(|_| registration != Registration::None);
        self.shown = self.shown.filter(|_| registration == Registration::Known);
    }

    /// What is known of the object besides its status, when that changes.
    pub fn carried_to(self, next: Self, same_secret: bool) -> Self {
        Self { known: self.known, shown: self.shown.filter(|_| same_secret), ..next }
    }

    pub fn scopes(self) -> impl Iterator<Item = Sym> {
        let here = self.here.map(|declared| declared.scope);
        let certificates = self.here.and_then(|declared| declared.certificates);
        [here, certificates, self.known, self.said, self.shown].into_iter().flatten()
    }
}
