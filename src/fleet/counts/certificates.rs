//! How the certificates of devices stand, in numbers.

use std::collections::BTreeMap;

use crate::api::conditions::Reason;
use crate::fleet::certificate::{Age, Certificate};
use crate::fleet::intern::{Interner, Sym};
use crate::fleet::record::Record;

/// How the certificates of an integration's devices stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificateCounts {
    /// When the first of them expires that a hub knows, in seconds since 1970.
    pub earliest: Option<u32>,
    /// Devices by the state of theirs; one that waits for its first registration is in none.
    pub current: i32,
    /// A newer one is in its source.
    pub unregistered: i32,
    pub overdue: i32,
    pub expired: i32,
    pub missing: i32,
    pub invalid: i32,
    /// Registered devices by the CA that has issued theirs.
    pub issuers: BTreeMap<String, i32>,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct CertificateTally {
    counts: CertificateCounts,
    issuers: BTreeMap<Sym, i32>,
    /// Devices whose next certificate is of another CA, by that one.
    moving: BTreeMap<Sym, i32>,
    any: bool,
}

impl CertificateTally {
    /// Adds a device that has a certificate or is to have one. `newer`: its source has another one; `next_ca`: and that is
    /// of this CA, which is another one; `now` in seconds since 1970.
    pub fn add(&mut self, record: &Record, newer: bool, next_ca: Option<Sym>, now: i64) {
        self.any = true;
        let age = record.certificate_age(now);
        let counts = &mut self.counts;
        let state = match (age, record.reason) {
            (Some(Age::Expired), _) => &mut counts.expired,
            (_, Some(Reason::CertificateInvalid)) => &mut counts.invalid,
            (Some(_), _) if newer => &mut counts.unregistered,
            (Some(Age::Overdue), _) => &mut counts.overdue,
            (_, Some(Reason::CertificateNotFound)) => &mut counts.missing,
            (Some(Age::Current), _) => &mut counts.current,
            (None, _) => return,
        };
        *state += 1;
        let Some(Certificate { not_after: until, ca, .. }) = record.certificate.as_deref().copied() else {
            return;
        };
        counts.earliest = Some(counts.earliest.map_or(until, |earliest| earliest.min(until)));
        if let Some(ca) = ca {
            *self.issuers.entry(ca).or_default() += 1;
        }
        if let Some(next) = next_ca.filter(|_| newer) {
            *self.moving.entry(next).or_default() += 1;
        }
    }

    /// Devices that a change of CAs concerns and that are registered with the new one already.
    pub fn moved(&self) -> i32 {
        self.moving.keys().filter_map(|ca| self.issuers.get(ca)).sum()
    }

    /// `None` if no device has a certificate.
    pub fn finish(self, names: &Interner) -> Option<CertificateCounts> {
        // That time stands for all later ones.
        let earliest = self.counts.earliest.filter(|at| *at != u32::MAX);
        let shown = |(ca, devices): (Sym, i32)| (names.text(ca).to_owned(), devices);
        let issuers = self.issuers.into_iter().map(shown).collect();
        self.any.then_some(CertificateCounts { earliest, issuers, ..self.counts })
    }
}
