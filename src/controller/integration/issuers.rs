//! The CAs that have issued the certificates of an integration's devices: which of them DPS accepts, and which devices
//! try one that it has not accepted yet. Pure: answers and times in, what should follow out.
//!
//! A leaf without the CA above it can name any CA as its issuer. So what DPS refuses counts among the devices of one
//! namespace only, and nothing that it has accepted once is ever held back.

use std::time::Duration;

use tokio::time::Instant;

use super::health::Canary;
use super::unusable::Unusable;
use crate::api::backoff::doubling;
use crate::api::conditions::Reason;
use crate::api::integration::IssuerStatus;
use crate::controller::failure::AGAIN;
use crate::dps::attestation::certificate::CaId;
use crate::dps::call::Call;
use crate::dps::error::DpsError;
use crate::dps::tls::Handshake;
use crate::fleet::counts::CertificateCounts;
use crate::fleet::intern::Sym;
use crate::fleet::uid::Uid;

/// Devices that try a CA before others may, and that have to be refused before it is taken for unknown to DPS.
const CANARIES: usize = 3;
/// Devices that try it at a time once it is: one that was refused, and another.
const PROBES: usize = 2;
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_CAP: Duration = Duration::from_secs(3600);
/// A try that has not ended by then is none that others wait for: its device may be gone.
const TRY: Duration = Duration::from_secs(120);
/// CAs that a status names,
const SHOWN: usize = 8;
/// and that are remembered. Anybody who makes certificates can make up another one.
const REMEMBERED: usize = 64;

/// All that are known. The last one used comes last.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    id: CaId,
    subject: String,
    /// DPS has taken a certificate of it, or issued one.
    accepted: bool,
    /// What devices meet until then, by their namespace.
    trials: Vec<(Whose, Trial)>,
    /// Those that were refused until then: they try once more at once.
    again: Vec<Canary>,
}

/// The namespace of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub namespace: Sym,
    /// It is the integration's, too.
    pub own: bool,
}

/// What devices of one namespace have met.
#[derive(Debug, Default)]
struct Trial {
    /// Those that were refused, the last of them last.
    refused: Vec<Canary>,
    /// Those that try it as soon as one may.
    next: Vec<Canary>,
    /// Those that do, and until when they are waited for.
    trying: Vec<(Uid, Instant)>,
    /// Times that it was closed, and until when it is.
    closed: u32,
    opens_at: Option<Instant>,
}

/// Whether a device may try its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    Open,
    /// Others try first.
    Waits {
        /// When it is this one's turn, if that is known.
        until: Option<Instant>,
        /// Subject of the CA, if DPS has refused those of others.
        refused: Option<&'a str>,
    },
}

/// What a call has shown of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Accepted,
    Refused,
    Nothing,
}

/// What follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follows {
    /// All devices may go on.
    pub all: bool,
    /// These may.
    pub wake: Vec<Canary>,
    /// The status may have to say something else.
    pub report: bool,
}

impl Shown {
    /// By how a call with the certificate has ended.
    pub fn of(error: Option<&DpsError>) -> Self {
        match error {
            None
            | Some(
                DpsError::Disabled(_) | DpsError::AllocationFailed(_) | DpsError::AllocationInterrupted(_),
            ) => Self::Accepted,
            // A lookup may be refused for a device that DPS does not know.
            Some(DpsError::Unauthorized(refusal)) if matches!(refusal.call, Call::Register { .. }) => {
                let seen = refusal.certificate.as_ref().is_some_and(|it| it.handshake == Handshake::Sent);
                if seen { Self::Refused } else { Self::Nothing }
            }
            Some(_) => Self::Nothing,
        }
    }
}

impl Issuer {
    /// DPS refuses it for devices of the integration's own namespace.
    fn is_refused(&self) -> bool {
        self.trials.iter().any(|(whose, trial)| whose.own && trial.is_closed())
    }
}

impl Trial {
    fn is_closed(&self) -> bool {
        self.opens_at.is_some()
    }

    /// The last that were refused: they try again when one may.
    fn canaries(&self) -> &[Canary] {
        let first = self.refused.len().saturating_sub(CANARIES);
        self.refused.get(first..).unwrap_or_default()
    }

    fn is_canary(&self, uid: Uid) -> bool {
        self.canaries().iter().chain(&self.next).any(|canary| canary.uid == uid)
    }

    /// How many more may try it now.
    fn room(&self, now: Instant) -> usize {
        let trying = self.trying.iter().filter(|(_, until)| *until > now).count();
        match self.opens_at {
            Some(at) if at > now => 0,
            Some(_) => PROBES.saturating_sub(trying),
            None => CANARIES.saturating_sub(trying + self.refused.len()),
        }
    }

    /// One that was refused may try again by itself, before so many were that it is closed.
    fn is_open_for(&self, uid: Uid, now: Instant) -> bool {
        self.room(now) > 0 || (!self.is_closed() && self.refused.iter().any(|canary| canary.uid == uid))
    }

    fn refuse(&mut self, device: Canary, now: Instant) {
        self.next.retain(|next| next.uid != device.uid);
        self.refused.retain(|canary| canary.uid != device.uid);
        self.refused.push(device);
        let surplus = self.refused.len().saturating_sub(REMEMBERED);
        self.refused.drain(..surplus);
        // Calls that were in flight together fail together: that is one refusal.
        if self.refused.len() >= CANARIES && self.opens_at.is_none_or(|at| at <= now) {
            self.closed = self.closed.saturating_add(1);
            self.opens_at = Some(now + doubling(REFUSED_FIRST, self.closed, REFUSED_CAP));
        }
    }
}

impl Issuers {
    #[cfg(test)]
    pub const NONE: Self = Self(Vec::new());

    fn find(&self, ca: CaId) -> Option<&Issuer> {
        self.0.iter().find(|issuer| issuer.id == ca)
    }

    fn trial(&self, ca: CaId, whose: Whose) -> Option<(&Issuer, &Trial)> {
        let issuer = self.find(ca).filter(|issuer| !issuer.accepted)?;
        let trial = issuer.trials.iter().find(|(of, _)| *of == whose)?;
        Some((issuer, &trial.1))
    }

    fn trial_mut(&mut self, ca: CaId, whose: Whose) -> Option<&mut Trial> {
        let issuer = self.0.iter_mut().find(|issuer| issuer.id == ca && !issuer.accepted)?;
        let place = issuer.trials.iter().position(|(of, _)| *of == whose);
        let place = place.unwrap_or_else(|| {
            issuer.trials.push((whose, Trial::default()));
            issuer.trials.len() - 1
        });
        issuer.trials.get_mut(place).map(|(_, trial)| trial)
    }

    fn add(&mut self, id: CaId, subject: &str, accepted: bool) {
        if self.0.len() == REMEMBERED {
            let unproven = self.0.iter().position(|issuer| !issuer.accepted).unwrap_or(0);
            self.0.remove(unproven);
        }
        let (subject, again, trials) = (subject.to_owned(), Vec::new(), Vec::new());
        self.0.push(Issuer { id, subject, accepted, again, trials });
    }

    /// DPS has issued a certificate, by this CA. True if it was not known.
    pub fn issues(&mut self, ca: CaId, subject: &str) -> bool {
        let is_new = self.find(ca).is_none();
        if is_new {
            self.add(ca, subject, true);
        }
        is_new
    }

    /// A device has a certificate of this CA, with which DPS is to be called.
    pub fn met(&mut self, ca: CaId, subject: &str, whose: Whose, device: Canary, now: Instant) {
        match self.0.iter().position(|issuer| issuer.id == ca) {
            Some(place) => {
                let known = self.0.remove(place);
                self.0.push(known);
            }
            None => self.add(ca, subject, false),
        }
        let Some(trial) = self.trial_mut(ca, whose) else { return };
        let waits = !trial.is_open_for(device.uid, now);
        if waits && !trial.is_canary(device.uid) && trial.next.len() < CANARIES {
            trial.next.push(device);
        }
    }

    /// Whether this device may try it.
    pub fn place(&self, ca: CaId, whose: Whose, uid: Uid, now: Instant) -> Place<'_> {
        let Some((issuer, trial)) = self.trial(ca, whose) else { return Place::Open };
        if trial.is_open_for(uid, now) {
            return Place::Open;
        }
        let until = trial.opens_at.filter(|at| *at > now && trial.is_canary(uid));
        Place::Waits { until, refused: trial.is_closed().then_some(issuer.subject.as_str()) }
    }

    /// When a device that was refused is to try again, instead of when its own wait is over; `None` for others.
    pub fn retry_at(&self, uid: Uid, now: Instant) -> Option<Instant> {
        let is_its = |canaries: &[Canary]| canaries.iter().any(|canary| canary.uid == uid);
        if self.0.iter().any(|issuer| is_its(&issuer.again)) {
            return Some(now);
        }
        let trials = self.0.iter().flat_map(|issuer| &issuer.trials).map(|(_, trial)| trial);
        let its = trials.filter(|trial| trial.is_closed()).find(|trial| is_its(trial.canaries()))?;
        its.opens_at.map(|at| at.max(now))
    }

    /// A call with a certificate of it begins.
    pub fn begun(&mut self, ca: CaId, whose: Whose, uid: Uid, now: Instant) {
        if let Some(trial) = self.trial_mut(ca, whose) {
            trial.trying.retain(|(other, until)| *other != uid && *until > now);
            trial.trying.push((uid, now + TRY));
            trial.next.retain(|next| next.uid != uid);
        }
    }

    /// Such a call has ended, or DPS has said enough of it.
    pub fn answered(
        &mut self,
        ca: CaId,
        whose: Whose,
        device: Canary,
        shown: Shown,
        now: Instant,
    ) -> Follows {
        if let Some(issuer) = self.0.iter_mut().find(|issuer| issuer.id == ca) {
            issuer.again.retain(|canary| canary.uid != device.uid);
        }
        if shown == Shown::Accepted {
            return self.accepted(ca, device.uid);
        }
        let Some(trial) = self.trial_mut(ca, whose) else { return Follows::default() };
        trial.trying.retain(|(uid, _)| *uid != device.uid);
        let was_closed = trial.is_closed();
        if shown == Shown::Refused {
            trial.refuse(device, now);
        }
        let room = trial.room(now);
        let wake = trial.next.iter().take(room).copied().collect();
        Follows { all: false, wake, report: trial.is_closed() != was_closed }
    }

    /// By a call for this device.
    fn accepted(&mut self, ca: CaId, uid: Uid) -> Follows {
        let found = self.0.iter_mut().find(|issuer| issuer.id == ca && !issuer.accepted);
        let Some(issuer) = found else { return Follows::default() };
        issuer.accepted = true;
        let trials = std::mem::take(&mut issuer.trials);
        let waited = trials.iter().any(|(_, trial)| !trial.next.is_empty() || !trial.refused.is_empty());
        let refused = trials.into_iter().flat_map(|(_, trial)| trial.refused);
        issuer.again.extend(refused.filter(|canary| canary.uid != uid));
        Follows { all: waited, wake: Vec::new(), report: true }
    }

    /// Something has changed that may have mended what was refused: all may try at once.
    pub fn reopen(&mut self) {
        self.0.iter_mut().for_each(|issuer| issuer.trials.clear());
    }

    /// A user asks for a device of this namespace.
    pub fn try_now(&mut self, namespace: Sym, now: Instant) {
        let trials = self.0.iter_mut().flat_map(|issuer| &mut issuer.trials);
        for (_, trial) in trials.filter(|(whose, _)| whose.namespace == namespace) {
            trial.opens_at = trial.opens_at.map(|at| at.min(now));
        }
    }

    /// What a status has recorded before the start.
    pub fn recall(&mut self, recorded: &[IssuerStatus]) {
        for IssuerStatus { fingerprint, subject, accepted, .. } in recorded.iter().take(SHOWN) {
            let Some(id) = CaId::parse(fingerprint).filter(|_| *accepted) else { continue };
            if self.find(id).is_none() {
                self.add(id, subject, true);
            }
        }
    }

    /// What the integration says while DPS refuses the certificates of a CA that devices of its own namespace have.
    pub fn trouble(&self) -> Option<Unusable> {
        let subject = &self.0.iter().find(|issuer| issuer.is_refused())?.subject;
        let message = format!(
            "DPS does not accept certificates that {subject} has issued: it refused those of {CANARIES} devices. Upload that \
             CA to the DPS instance and verify it there, or make an individual enrollment for each certificate. Devices that \
             have a hub keep the certificates that they have. {AGAIN}"
        );
        Some(Unusable::new(Reason::Unauthorized, message))
    }

    /// As a status names them: first those that its own devices are refused with,
    /// then those with most devices. And the number of devices of all others.
    pub fn shown(&self, counts: &CertificateCounts) -> (Vec<IssuerStatus>, i32) {
        let devices = |fingerprint: &String| counts.issuers.get(fingerprint).copied().unwrap_or(0);
        let named = self.0.iter().map(|issuer| {
            let (fingerprint, subject) = (issuer.id.to_string(), issuer.subject.clone());
            let devices = devices(&fingerprint);
            let shown = IssuerStatus { fingerprint, subject, devices, accepted: issuer.accepted };
            // What devices of other namespaces only try is not for this status to say: it is what they say.
            let is_tried = issuer.trials.iter().any(|(whose, _)| whose.own);
            (!issuer.is_refused(), is_tried, shown)
        });
        let named = named.filter(|(_, is_tried, it)| it.devices > 0 || *is_tried);
        let mut named: Vec<_> = named.map(|(works, _, it)| (works, it)).collect();
        let order = |(works, it): &(bool, IssuerStatus)| (*works, -it.devices, it.fingerprint.clone());
        named.sort_by_key(order);
        named.truncate(SHOWN);
        let named: Vec<IssuerStatus> = named.into_iter().map(|(_, issuer)| issuer).collect();
        let all: i32 = counts.issuers.values().sum();
        let others = all - named.iter().map(|issuer| issuer.devices).sum::<i32>();
        (named, others)
    }
}

#[cfg(test)]
mod tests;
