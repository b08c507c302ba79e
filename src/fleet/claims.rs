//! Claims on registration ids. Most ids are claimed by one device, which costs nothing here. Those that
//! several claim may be claimed by any number, of any integration in any namespace: each event about one
//! of them costs a few steps, and at most a look at one device of each integration and namespace. All
//! devices of such a group are admitted or not together, so its best claim is the only one that can
//! matter to others.

use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use super::index::{Place, Property, Sharing};
use super::intern::Sym;
use super::record::Record;
use super::registration::{Claim, Declared, Registration, Registrations};
use super::{DeviceId, Fleet};
use crate::api::attestation::OwnCredential;

/// Devices by the registration id that they claim. One that is being deleted claims none.
#[derive(Debug)]
pub(super) struct ByRegistrationId;

/// By integration and namespace, and the better claim first.
type Rank = (Group, Claim);

/// Integration and namespace.
type Group = (Sym, Sym);

impl Property for ByRegistrationId {
    type Rank = Rank;

    fn hash(record: &Record, hasher: &RandomState) -> Option<u64> {
        (!record.deleting).then(|| hasher.hash_one(record.registration_id()))
    }

    fn is_shared_by(a: &Record, b: &Record) -> bool {
        a.registration_id() == b.registration_id()
    }

    fn rank(record: &Record) -> Rank {
        ((record.integration, record.namespace), record.claim())
    }
}

impl Fleet {
    /// The other devices of whose claims one may be better than this device's or, without it, the best:
    /// for each integration and namespace the one with the best claim on the same registration id. Their
    /// number does not depend on how many devices there are in each.
    pub fn rivals(&self, id: DeviceId) -> impl Iterator<Item = (DeviceId, &Record)> {
        let rivals = self.claims_like(id).map(|claims| best_of_each(claims, id));
        rivals.into_iter().flatten().filter_map(|id| Some((id, self.get(id)?)))
    }

    /// All other devices that claim the same registration id.
    pub fn claimants(&self, id: DeviceId) -> impl Iterator<Item = DeviceId> {
        let claims = self.claims_like(id).into_iter().flatten();
        claims.map(|place| place.id).filter(move |other| *other != id)
    }

    /// True if another device claims the same registration id and none of its integration and namespace
    /// has the better claim: what happens to this one may give the id to another or take it away.
    pub fn leads_rivals(&self, id: DeviceId) -> bool {
        self.is_first(id, |(group, _), own| *group == (own.integration, own.namespace))
    }

    /// The same for one device only, if several of an integration, in different namespaces, lead.
    pub fn stands_for_integration(&self, id: DeviceId) -> bool {
        self.is_first(id, |((integration, _), _), own| *integration == own.integration)
    }

    /// True if it is the first of those that share its registration id for which `is_of` holds; they
    /// follow one another.
    fn is_first(&self, id: DeviceId, is_of: impl Fn(&Rank, &Record) -> bool) -> bool {
        let (Some(record), Some(claims)) = (self.get(id), self.claims_like(id)) else { return false };
        let own = Place { rank: ByRegistrationId::rank(record), id };
        let before = claims.range(..own).next_back();
        claims.contains(&own) && before.is_none_or(|before| !is_of(&before.rank, record))
    }

    fn claims_like(&self, id: DeviceId) -> Option<&Sharing<ByRegistrationId>> {
        self.by_registration.sharing(self.get(id)?, &self.records, &self.hasher)
    }

    /// DPS has registered a device, or its registration turned out to be none.
    pub fn set_registered(&mut self, id: DeviceId, registration: Registration) {
        self.reranked(id, |registrations| registrations.set(registration));
    }

    /// The watch shows the Secret that was written for a device, and for which id scope.
    pub fn set_has_its_secret(&mut self, id: DeviceId, scope: &str) {
        let scope = self.names.intern_scope(scope);
        self.reranked(id, |registrations| registrations.shown = Some(scope));
    }

    /// An integration is declared for this id scope, or no longer. `proven`: DPS has accepted it there since
    /// this process leads. `certificates`: how the Secrets with its devices' certificates are named, if each has one.
    pub fn set_scope(
        &mut self,
        integration: Sym,
        scope: Option<&str>,
        proven: bool,
        certificates: Option<&str>,
    ) {
        let certificates = certificates.map(|template| self.names.intern(template));
        let declared =
            scope.map(|scope| Declared { scope: self.names.intern_scope(scope), proven, certificates });
        let before = match declared {
            Some(declared) => self.scopes.insert(integration, declared),
            None => self.scopes.remove(&integration),
        };
        if before != declared {
            for id in self.of_integration(integration).to_vec() {
                self.reranked(id, |registrations| registrations.here = declared);
                if before.and_then(|before| before.certificates) != certificates {
                    self.redeclare_source(id, certificates);
                }
            }
        }
    }

    /// The integration names the Secrets with its devices' certificates otherwise. One that its object names stays.
    fn redeclare_source(&mut self, id: DeviceId, certificates: Option<Sym>) {
        let Some(record) = self.get(id).filter(|record| !record.registrations.own) else { return };
        let template = certificates.map(|template| self.names.text(template));
        let own = OwnCredential::of(None, template, &record.name);
        let key = own.map(|own| (record.namespace, own.secret().into()));
        self.sources.redeclare(id, key);
    }

    /// Changes what its claim is worth.
    fn reranked(&mut self, id: DeviceId, change: impl FnOnce(&mut Registrations)) {
        let Some(record) = self.get(id) else { return };
        let shares = self.by_registration.sharing(record, &self.records, &self.hasher).is_some()
            || self.by_secret.sharing(record, &self.records, &self.hasher).is_some();
        if shares {
            self.unindex(id);
        }
        if let Some(record) = self.get_mut(id) {
            change(&mut record.registrations);
        }
        if shares {
            self.index(id);
        }
    }
}

/// The first of each group that is not `but`.
fn best_of_each(claims: &Sharing<ByRegistrationId>, but: DeviceId) -> impl Iterator<Item = DeviceId> {
    let mut behind = Bound::Unbounded;
    std::iter::from_fn(move || {
        let mut following = claims.range((behind, Bound::Unbounded));
        let mut best = following.next()?;
        if best.id == but {
            best = following.next()?;
        }
        let (group, _) = best.rank;
        behind = Bound::Excluded(Place { rank: (group, Claim::LAST), id: DeviceId::MAX });
        Some(best.id)
    })
}
