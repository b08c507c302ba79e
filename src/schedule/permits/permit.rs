//! Permits and what limits them, as the rest of the operator sees them.

use std::time::Duration;

use tokio::time::Instant;

use super::slots::Kind;
use super::{ScopeKey, Tenant};
use crate::schedule::Waiter;

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The device was never provisioned.
    New,
    /// A user changed it or asked for it.
    Changed,
    /// It concerns a whole fleet: a rotated key, changed defaults, checks.
    Fleet,
    /// It concerns a whole fleet and can wait longest: the device has a key that DPS still takes.
    Last,
}

impl Lane {
    pub(super) const COUNT: usize = 4;
    /// Most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::New, Self::Changed, Self::Fleet, Self::Last];

    /// Work that a rollout may hold or slow down.
    pub(super) fn is_rollout(self) -> bool {
        self >= Self::Fleet
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Fleet => "fleet",
            Self::Last => "last",
        }
    }

    /// Its place among `ALL`.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// What a user lets an integration use of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls a minute in all.
    pub share: Option<u32>,
    /// Calls a minute for work of the fleet.
    pub rollout: Option<u32>,
    /// Work of the fleet is held.
    pub paused: bool,
}

/// The right to make one register or lookup call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub tenant: Tenant,
    pub waiter: Waiter,
    pub(super) lane: Lane,
    pub(super) number: u64,
    pub(super) granted: Instant,
    pub(super) waited: Duration,
    pub(super) scope: ScopeKey,
    pub(super) kind: Kind,
    /// The device has credentials of its own.
    pub(super) alone: bool,
}

impl Permit {
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// How long the device had waited for it.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Paid from the small budget of an integration that DPS has not accepted. What DPS says to such a
    /// call concerns that integration alone: its host need not be that of the others.
    pub fn is_newcomers(&self) -> bool {
        self.kind != Kind::Accepted
    }
}

/// The device whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub tenant: Tenant,
    pub waiter: Waiter,
    pub lane: Lane,
    pub kind: Kind,
}

/// What the end of a call says about the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// DPS admitted it.
    Admitted,
    /// DPS answered, and not that it throttles.
    Answered,
    /// 429.
    Throttled { retry_after: Option<Duration> },
    /// DPS has not answered it, or was not able to.
    Unanswered,
}

/// How the calls of an integration are limited beyond its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The next call waits for the end of the one in flight.
    pub one_at_a_time: bool,
    /// DPS has not accepted it: its calls are paid from a small budget of its own, and from a small part
    /// of the scope's rate that all such integrations share.
    pub own_budget: bool,
    /// No call before this time,
    pub not_before: Option<Instant>,
    /// none before this one but for devices with credentials of their own,
    pub shared_not_before: Option<Instant>,
    /// and before this one, of the others, only for devices that were put first in line.
    pub others_not_before: Option<Instant>,
}

impl Gate {
    /// As for an integration of which nothing is known.
    pub const NEWCOMER: Self = Self {
        one_at_a_time: true,
        own_budget: true,
        not_before: None,
        shared_not_before: None,
        others_not_before: None,
    };
    #[cfg(test)]
    pub(crate) const OPEN: Self = Self { one_at_a_time: false, own_budget: false, ..Self::NEWCOMER };

    /// Until when it is closed to devices that share a credential.
    #[cfg(test)]
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        self.not_before.max(self.shared_not_before)
    }
}
