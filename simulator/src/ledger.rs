//! The ledger: every request that the simulator received, and its outcome.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificate::{CertificateShown, Chain, Thumbprint};
use crate::keys::KeySlot;
use crate::peer::Peer;
use crate::route::{OperationKind, Route};

/// One request, without keys, token and body.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The number of the request in the order of arrival, from 1. It is never used again.
    pub sequence: u64,
    /// When the request's head had arrived.
    pub time: Timestamp,
    pub method: String,
    /// The path as sent, without its query.
    pub path: String,
    pub operation: OperationKind,
    pub id_scope: Option<String>,
    pub registration_id: Option<String>,
    /// The number of its connection, from 1. Each began with a handshake of its own,
    pub connection: u64,
    /// which resumed a session of before, or did not.
    pub resumed: bool,
    /// Whether an `Authorization` header came with it.
    pub authorized: bool,
    /// What the device proves itself with.
    pub credential: Credential,
    /// The certificate that was presented on its connection.
    pub certificate: Option<PresentedCertificate>,
    /// The enrollment's key or certificate that verified the token or the device's certificate.
    pub key: Option<KeyUsed>,
    /// Whether its body has a signing request, which DPS may refuse or ignore.
    pub csr: bool,
    /// The certificate that register had issued, and that the poll which ends the operation is answered with.
    pub issued: Option<Thumbprint>,
    /// The HTTP status of the answer; none before the answer, or if there was none.
    pub status: Option<u16>,
    /// The DPS error code in the answer, in an error body or in a failed registration.
    pub error_code: Option<u32>,
    /// The id of the fault that was applied.
    pub fault: Option<u64>,
    pub outcome: Outcome,
}

/// The result of a request at DPS, before a fault changed the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Not decided yet: the request is still being read, or a fault holds it.
    Pending,
    /// The client disconnected before that.
    Abandoned,
    /// An operation was started.
    Started,
    /// The operation is in progress.
    Assigning,
    Assigned,
    Failed,
    Disabled,
    Unassigned,
    Refused,
    Throttled,
    /// A fault was answered in place of DPS, which did not see the request.
    Faulted,
}

/// What a device proves itself with. A token decides where there is a certificate as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Credential {
    Token,
    Certificate,
    None,
}

/// A certificate that was presented in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PresentedCertificate {
    #[serde(flatten)]
    pub leaf: CertificateShown,
    /// How many certificates came with it, itself included.
    pub chain_length: usize,
}

impl PresentedCertificate {
    fn of(chain: &Chain) -> Self {
        Self { leaf: chain.leaf.shown(), chain_length: 1 + chain.others.len() }
    }
}

/// The enrollment, and which of its two keys or certificates it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyUsed {
    pub kind: EnrollmentKind,
    /// The id of the group, or the registration id of the individual enrollment.
    pub enrollment: String,
    pub slot: KeySlot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EnrollmentKind {
    Group,
    Individual,
}

/// Counts, which are kept when entries are dropped or cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub register: u64,
    pub poll: u64,
    pub lookup: u64,
    pub other: u64,
    /// Answers by HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Entries that were dropped for newer ones.
    pub dropped: u64,
}

/// What is known when a request has arrived.
#[derive(Debug)]
pub(crate) struct Opening<'r> {
    pub time: Timestamp,
    pub method: String,
    pub path: String,
    pub authorized: bool,
    pub peer: &'r Peer,
    pub route: &'r Route,
}

/// What becomes known when a request is answered.
#[derive(Debug)]
pub(crate) struct Closing {
    pub status: Option<u16>,
    pub error_code: Option<u32>,
    pub key: Option<KeyUsed>,
    pub issued: Option<Thumbprint>,
    pub fault: Option<u64>,
    pub outcome: Outcome,
}

impl Closing {
    /// That of a request whose client went away.
    pub fn unanswered() -> Self {
        Self {
            status: None,
            error_code: None,
            key: None,
            issued: None,
            fault: None,
            outcome: Outcome::Abandoned,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    entries: VecDeque<LedgerEntry>,
    capacity: usize,
    /// The sequence number of the next entry.
    next: u64,
    kinds: [u64; OperationKind::ALL.len()],
    by_status: BTreeMap<u16, u64>,
    dropped: u64,
}

impl Ledger {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            capacity,
            next: 1,
            kinds: [0; OperationKind::ALL.len()],
            by_status: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// Enters a request that has just arrived and returns its sequence number.
    pub fn open(&mut self, opening: Opening<'_>) -> u64 {
        let Opening { time, method, path, authorized, peer, route } = opening;
        let certificate = peer.chain.as_ref().map(PresentedCertificate::of);
        let credential = match (authorized, &certificate) {
            (true, _) => Credential::Token,
            (false, Some(_)) => Credential::Certificate,
            (false, None) => Credential::None,
        };
        let sequence = self.next;
        self.next += 1;
        self.kinds[route.kind as usize] += 1;
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(LedgerEntry {
            sequence,
            time,
            method,
            path,
            operation: route.kind,
            id_scope: route.id_scope.clone(),
            registration_id: route.registration_id.clone(),
            connection: peer.connection,
            resumed: peer.resumed,
            authorized,
            credential,
            certificate,
            key: None,
            csr: false,
            issued: None,
            status: None,
            error_code: None,
            fault: None,
            outcome: Outcome::Pending,
        });
        sequence
    }

    /// Notes that the body of a request has a signing request.
    pub fn note_csr(&mut self, sequence: u64) {
        if let Some(entry) = self.find(sequence) {
            entry.csr = true;
        }
    }

    /// Completes an entry, if it is still there.
    pub fn close(&mut self, sequence: u64, closing: Closing) {
        if let Some(status) = closing.status {
            *self.by_status.entry(status).or_default() += 1;
        }
        let Some(entry) = self.find(sequence) else {
            return;
        };
        entry.status = closing.status;
        entry.error_code = closing.error_code;
        entry.key = closing.key;
        entry.issued = closing.issued;
        entry.fault = closing.fault;
        entry.outcome = closing.outcome;
    }

    /// The entries after a sequence number.
    pub fn since(&self, sequence: u64) -> impl Iterator<Item = &LedgerEntry> {
        let skip = self.entries.partition_point(|entry| entry.sequence <= sequence);
        self.entries.range(skip..)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes the entries; sequence numbers and totals continue.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn totals(&self) -> Totals {
        let count = |kind: OperationKind| self.kinds[kind as usize];
        Totals {
            register: count(OperationKind::Register),
            poll: count(OperationKind::Poll),
            lookup: count(OperationKind::Lookup),
            other: count(OperationKind::Other),
            by_status: self.by_status.clone(),
            dropped: self.dropped,
        }
    }

    fn find(&mut self, sequence: u64) -> Option<&mut LedgerEntry> {
        let first = self.entries.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.entries.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn opened(ledger: &mut Ledger, path: &str) -> u64 {
        let route = Route::of(&Method::PUT, path);
        ledger.open(Opening {
            time: Timestamp::UNIX_EPOCH,
            method: "PUT".to_owned(),
            path: path.to_owned(),
            authorized: true,
            peer: &Peer { connection: 1, resumed: false, chain: None },
            route: &route,
        })
    }

    fn answered(status: u16) -> Closing {
        Closing { status: Some(status), outcome: Outcome::Started, ..Closing::unanswered() }
    }

    #[test]
    fn a_request_is_seen_before_it_is_answered() {
        let mut ledger = Ledger::new(10);
        let sequence = opened(&mut ledger, "/s/registrations/d/register");
        assert_eq!(ledger.since(0).next().unwrap().outcome, Outcome::Pending);
        ledger.close(sequence, answered(202));
        let entry = ledger.since(0).next().unwrap();
        assert_eq!(entry.status, Some(202));
        assert_eq!(entry.operation, OperationKind::Register);
    }

    #[test]
    fn a_full_ledger_drops_its_oldest_entries_and_counts_them() {
        let mut ledger = Ledger::new(2);
        let first = opened(&mut ledger, "/s/registrations/a/register");
        opened(&mut ledger, "/s/registrations/b/register");
        opened(&mut ledger, "/s/registrations/c/register");
        ledger.close(first, answered(202));
        let sequences: Vec<u64> = ledger.since(0).map(|entry| entry.sequence).collect();
        assert_eq!(sequences, [2, 3]);
        assert_eq!(ledger.since(2).count(), 1);
        let totals = ledger.totals();
        assert_eq!((totals.register, totals.dropped), (3, 1));
        assert_eq!(totals.by_status, BTreeMap::from([(202, 1)]));
    }

    #[test]
    fn clearing_keeps_totals_and_sequence_numbers() {
        let mut ledger = Ledger::new(10);
        opened(&mut ledger, "/");
        ledger.clear();
        assert_eq!(ledger.len(), 0);
        assert_eq!(ledger.totals().other, 1);
        assert_eq!(opened(&mut ledger, "/"), 2);
    }
}
