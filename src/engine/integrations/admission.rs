//! Which devices an integration admits: by their namespace, and those of other namespaces by their
//! registration id. The others count for nothing: not in its status, its plans, its events, and not
//! for a registration id.

use super::{Registry, is_of_namespace};
use crate::controller::integration::consent::{self, Consent};
use crate::fleet::Fleet;
use crate::fleet::intern::{Interner, Sym};
use crate::fleet::record::Record;

impl Registry {
    /// True if the integration is declared and is for devices of this namespace, whether it can be
    /// used or not.
    pub fn serves(&self, sym: Sym, namespace: Sym, names: &Interner) -> bool {
        let declared = self.integrations.get(&sym).filter(|found| found.object.is_some());
        declared.is_some_and(|found| {
            is_of_namespace(sym, namespace, names) || self.consents(&found.consent, namespace, names)
        })
    }

    /// True if this consent is for devices of the namespace.
    pub fn consents(&self, consent: &Consent, namespace: Sym, names: &Interner) -> bool {
        consent.admits(self.namespaces.labels(names.text(namespace))) == Some(true)
    }

    /// True if the device counts for its integration.
    pub fn admits(&self, record: &Record, names: &Interner) -> bool {
        self.serves(record.integration, record.namespace, names) && self.is_not_foreign(record, names)
    }

    /// The same for one device after the other: most are judged like the one before.
    pub fn admission<'a>(&'a self, fleet: &'a Fleet) -> impl FnMut(&Record) -> bool + 'a {
        let mut judged = None;
        move |record| {
            let pair = (record.integration, record.namespace);
            let served = match judged {
                Some((last, served)) if last == pair => served,
                _ => self.serves(record.integration, record.namespace, &fleet.names),
            };
            judged = Some((pair, served));
            served && self.is_not_foreign(record, &fleet.names)
        }
    }

    /// True if the device may claim its registration id against others.
    pub fn may_claim(&self, record: &Record, names: &Interner) -> bool {
        self.serves(record.integration, record.namespace, names) && self.allows_id(record, names)
    }

    /// It is of the integration's own namespace, or has an id that others may have.
    fn is_not_foreign(&self, record: &Record, names: &Interner) -> bool {
        is_of_namespace(record.integration, record.namespace, names) || self.allows_id(record, names)
    }

    fn allows_id(&self, record: &Record, names: &Interner) -> bool {
        let Some(object) = self.object(record.integration) else { return false };
        let allowed = object.spec.allowed_namespaces.as_ref();
        let foreign = allowed.map_or(&[][..], |allowed| &allowed.registration_id_prefixes[..]);
        let own = is_of_namespace(record.integration, record.namespace, names);
        consent::allows_id(
            &object.spec.registration_id_prefixes,
            (!own).then_some(foreign),
            record.registration_id(),
            names.text(record.namespace),
        )
    }
}
