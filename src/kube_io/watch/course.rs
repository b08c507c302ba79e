//! The course of one watch: what it asks for next and when, and whether what it has shown can still be
//! relied on. Decided on what has happened and when. Pure.
//!
//! A list is read, then a watch goes on from it. Where a watch ends before its time the server is asked
//! for its present version first: one that is lower than what was seen means that the server went back
//! (a restored etcd), and a watch from there would be deaf until it has passed the old one.
//! A stream proves itself by speaking: bookmarks come every minute.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::backoff::doubling;
use crate::api::version;
use crate::kube_io::answers::LONGEST_RETRY_AFTER;
use crate::kube_io::cause::{Cause, CauseKind};
use crate::kube_io::client::WATCH_TIMEOUT;

/// Waits after failures in a row. The longest is short: an API server that is back should be seen soon.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Waits between lists while no watch comes up: a list can be large.
const FIRST_LIST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_LIST_WAIT: Duration = Duration::from_secs(60);
/// A stream that ends sooner is not worth more than a failure, unless it has said something.
pub(super) const SHORT: Duration = Duration::from_secs(5);
/// A stream that says nothing for this long is given up: bookmarks come every minute.
pub(super) const SILENT: Duration = Duration::from_secs(100);
/// What was confirmed longer ago than this is read once more while watches fail,
const TRUST: Duration = Duration::from_secs(60);
/// and than this while they end in peace but never say anything.
const TRUST_IN_PEACE: Duration = Duration::from_secs(600);
/// A failure that lasts is shown: an API server that restarts is away for less.
pub(super) const LASTS: Duration = Duration::from_secs(15);
/// The same for streams that are open and say nothing.
pub(super) const LASTS_SILENT: Duration = Duration::from_secs(200);
/// An API server that starts may refuse what it admits a little later: a refusal counts once it lasts,
const REFUSAL: Duration = Duration::from_secs(15);
/// for longer where it was admitted before.
const REFUSAL_AFTER_ALL: Duration = Duration::from_secs(60);
/// Between two lines of the log about one failure whose cause changes.
const LINES_APART: Duration = Duration::from_secs(60);

/// What to ask the API server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Everything.
    List,
    /// Its present version only.
    Check,
    /// What has changed since.
    Watch,
}

/// What somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Fails { cause: Cause, lasted: Duration },
    Recovered { lasted: Duration },
}

/// A failure that goes on.
#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    cause: Cause,
    /// Since when the server has refused it.
    refused: Option<Instant>,
    reported_refusal: bool,
    /// What was shown of it, and when.
    shown: Option<(CauseKind, Instant)>,
}

/// A stream that is open.
#[derive(Clone, Copy, Debug)]
struct Stream {
    opened: Instant,
    /// When it said something last.
    word: Option<Instant>,
    proven: bool,
}

/// Where one watch stands.
#[derive(Debug)]
pub(super) struct Course {
    next: Next,
    /// resourceVersion to go on from.
    position: String,
    /// The highest version seen; 0 where versions are no numbers.
    highest: u64,
    /// When the server last showed or confirmed what is known.
    confirmed: Option<Instant>,
    /// When the last list ended, and lists since a stream has proven itself.
    listed: Option<Instant>,
    lists: u32,
    /// Failures and short streams in a row; whether the last step was one.
    failures: u32,
    rests: bool,
    stream: Option<Stream>,
    trouble: Option<Trouble>,
    /// Trouble that was shown and is over: since when it lasted.
    over: Option<Instant>,
}

impl Course {
    pub fn new() -> Self {
        Self {
            next: Next::List,
            position: String::new(),
            highest: 0,
            confirmed: None,
            listed: None,
            lists: 0,
            failures: 0,
            rests: false,
            stream: None,
            trouble: None,
            over: None,
        }
    }

    pub fn next(&self) -> Next {
        self.next
    }

    pub fn position(&self) -> &str {
        &self.position
    }

    // What the server has answered.

    /// A list of this version begins. Returns the version up to which it is the truth: what is known up
    /// to there gives way to it.
    pub fn list_begins(&self, version: &str) -> u64 {
        let version = version::parse(Some(version));
        if version < self.highest { u64::MAX } else { version }
    }

    pub fn listed(&mut self, version: &str, now: Instant) {
        version.clone_into(&mut self.position);
        self.highest = version::parse(Some(version));
        self.lists = self.lists.saturating_add(1);
        self.listed = Some(now);
        self.confirmed = Some(now);
        self.rests = false;
        self.next = Next::Watch;
    }

    /// What is read again and again instead of being watched was read.
    pub fn polled(&mut self, now: Instant) {
        self.listed("", now);
        self.next = Next::List;
        (self.failures, self.lists) = (0, 0);
        self.end_trouble();
    }

    /// The server's present version.
    pub fn checked(&mut self, version: &str) {
        let went_back = version::parse(Some(version)) < self.highest;
        self.rests = false;
        self.next = if went_back { Next::List } else { Next::Watch };
    }

    pub fn opened(&mut self, now: Instant) {
        self.stream = Some(Stream { opened: now, word: None, proven: false });
    }

    /// The stream has said something, which was of this version.
    pub fn spoke(&mut self, version: &str, now: Instant) {
        version.clone_into(&mut self.position);
        self.highest = self.highest.max(version::parse(Some(version)));
        self.confirmed = Some(now);
        if let Some(stream) = &mut self.stream {
            stream.word = Some(now);
        }
        self.end_trouble();
    }

    /// The stream is still open; to be called when `look_at` says. True if it is to be given up.
    pub fn still_open(&mut self, now: Instant) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        if !stream.proven && stream.opened + SHORT <= now {
            stream.proven = true;
            (self.failures, self.lists) = (0, 0);
            // One that is silent has to speak first.
            if self.trouble.as_ref().is_some_and(|trouble| trouble.cause.kind != CauseKind::Silent) {
                self.end_trouble();
            }
        }
        self.stream.is_some_and(|stream| silent_at(&stream) <= now)
    }

    /// When the open stream has to be looked at.
    pub fn look_at(&self) -> Option<Instant> {
        let stream = self.stream.as_ref()?;
        let proven = Some(stream.opened + SHORT).filter(|_| !stream.proven);
        proven.into_iter().chain([silent_at(stream)]).chain(self.show_at()).min()
    }

    /// The server has ended the stream.
    pub fn ended(&mut self, now: Instant) {
        let Some(Stream { opened, word, .. }) = self.stream.take() else { return };
        let lived = now.saturating_duration_since(opened);
        if lived < SHORT {
            if word.is_none() {
                return self.fail(Cause::of(CauseKind::ClosedAtOnce), opened, now);
            }
            self.failures = self.failures.saturating_add(1);
        }
        self.rests = true;
        let in_time = lived + Duration::from_secs(20) >= WATCH_TIMEOUT;
        self.next = match word {
            Some(_) if in_time => Next::Watch,
            None if self.unconfirmed_for(TRUST_IN_PEACE, now) => Next::List,
            _ => Next::Check,
        };
    }

    /// A request that was begun at `begun`, or the open stream, has failed.
    pub fn failed(&mut self, cause: Cause, begun: Instant, now: Instant) {
        let since = match self.stream.take() {
            Some(stream) if cause.kind == CauseKind::Silent => stream.opened,
            // It was well up to now.
            Some(_) => now,
            None => begun,
        };
        self.fail(cause, since, now);
    }

    fn fail(&mut self, cause: Cause, since: Instant, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.rests = true;
        self.next = match (self.next, cause.kind) {
            (Next::List, _) => Next::List,
            (_, kind) if kind.needs_a_list() => Next::List,
            (Next::Watch, _) if self.unconfirmed_for(TRUST, now) => Next::List,
            _ => Next::Check,
        };
        let refused = cause.kind == CauseKind::Refused;
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since,
            cause: cause.clone(),
            refused: None,
            reported_refusal: false,
            shown: None,
        });
        trouble.refused = if refused { trouble.refused.or(Some(since)) } else { None };
        trouble.cause = cause;
    }

    fn unconfirmed_for(&self, time: Duration, now: Instant) -> bool {
        self.confirmed.is_none_or(|at| at + time <= now)
    }

    fn end_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take()
            && trouble.shown.is_some()
        {
            self.over = Some(trouble.since);
        }
    }

    // What follows.

    /// When to ask next; `spread`, from 0 to 1, keeps watches from asking in step.
    pub fn ask_at(&self, spread: f64, now: Instant) -> Instant {
        if !self.rests {
            return now;
        }
        let wait = doubling(FIRST_WAIT, self.failures, LONGEST_WAIT).mul_f64(0.5 + spread / 2.0);
        let asked = self.trouble.as_ref().and_then(|trouble| trouble.cause.retry_after);
        let asked = asked.map(|time| time.min(LONGEST_RETRY_AFTER) + FIRST_WAIT.mul_f64(spread));
        let at = now + asked.map_or(wait, |asked| asked.max(wait));
        let next_list = self.listed.filter(|_| self.next == Next::List && self.lists > 0);
        next_list
            .map_or(at, |listed| at.max(listed + doubling(FIRST_LIST_WAIT, self.lists, LONGEST_LIST_WAIT)))
    }

    /// A server that answers again to anything need not be waited for any longer.
    pub fn may_hurry(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.cause.kind.is_outage())
    }

    /// True once when the server has refused it for long enough to be believed.
    pub fn is_refused(&mut self, now: Instant) -> bool {
        let patience = if self.confirmed.is_some() { REFUSAL_AFTER_ALL } else { REFUSAL };
        let Some(trouble) = &mut self.trouble else { return false };
        let lasts = trouble.refused.is_some_and(|since| since + patience <= now);
        let news = lasts && !trouble.reported_refusal;
        trouble.reported_refusal |= lasts;
        news
    }

    /// What is known may be out of date, and has been for so long that it is shown.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.show_at().is_some_and(|at| at <= now) || self.was_shown()
    }

    fn was_shown(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.shown.is_some())
    }

    /// When trouble that is not shown yet has to be.
    fn show_at(&self) -> Option<Instant> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.shown.is_none())?;
        let silent = matches!(trouble.cause.kind, CauseKind::Silent);
        Some(trouble.since + if silent { LASTS_SILENT } else { LASTS })
    }

    /// What should be shown now: once when a failure lasts, when its cause changes, and when it is over.
    pub fn transition(&mut self, now: Instant) -> Option<Transition> {
        if let Some(since) = self.over.take() {
            return Some(Transition::Recovered { lasted: now.saturating_duration_since(since) });
        }
        let first = self.show_at();
        let trouble = self.trouble.as_mut()?;
        let due = match (first, trouble.shown) {
            (Some(at), _) => at <= now,
            (None, Some((kind, at))) => kind != trouble.cause.kind && at + LINES_APART <= now,
            (None, None) => false,
        };
        due.then(|| {
            trouble.shown = Some((trouble.cause.kind, now));
            let lasted = now.saturating_duration_since(trouble.since);
            Transition::Fails { cause: trouble.cause.clone(), lasted }
        })
    }
}

/// When a stream has said nothing for too long.
fn silent_at(stream: &Stream) -> Instant {
    stream.word.unwrap_or(stream.opened) + SILENT
}
