//! What should follow from a change of an integration. The registry only says so: the permits and the
//! devices are others'.

use std::time::Duration;

use jiff::Timestamp;

use crate::controller::integration::consent::Consent;
use crate::controller::integration::health::Canary;
use crate::dps::ids::IdScope;
use crate::schedule::permits::{Gate, Group, Limits};

/// What should follow for an integration.
#[derive(Debug, Default, PartialEq)]
pub(in crate::engine) struct Change {
    pub permits: Option<PermitChange>,
    /// All its devices have to be reconciled, and those of others that may have a registration id now, or no
    /// longer.
    pub wake_devices: bool,
    /// Only whose claims on registration ids count has changed: the devices that lead have to be reconciled.
    pub claims: bool,
    /// Trouble has begun or ended: devices that wait for a permit have to be reconciled.
    pub wake_waiting: bool,
    /// Which other namespaces it admitted before, if it admits others now.
    pub before: Option<Consent>,
    /// A device that was registered with this credential should be looked up.
    pub ask_another: bool,
    /// DPS asked to wait, as the status has recorded it before the start.
    pub recall_pause: Option<RecordedPause>,
    /// The devices that were refused should try once more as soon as they may.
    pub retry: bool,
    /// Devices that may try a CA now.
    pub try_next: Vec<Canary>,
    /// DPS has accepted a CA: devices that wait for that may go on.
    pub ca_accepted: bool,
}

/// A wait that another process has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct RecordedPause {
    pub until: Timestamp,
    /// From when that was said, if the status says that: both times are of the clock of the process that wrote them.
    pub length: Option<Duration>,
}

impl RecordedPause {
    /// The longest that DPS is waited for.
    const LONGEST: Duration = Duration::from_secs(3600);
    /// Times in a status are whole seconds.
    const SECOND: Duration = Duration::from_secs(1);

    /// What is left of it. The clock of the one that wrote it may have been another one.
    pub fn left(&self, now: Timestamp) -> Duration {
        let left = Duration::try_from(self.until.duration_since(now)).unwrap_or_default();
        left.min(self.length.map_or(Self::LONGEST, |length| length + Self::SECOND)).min(Self::LONGEST)
    }
}

/// What should follow for its permits.
#[derive(Debug, PartialEq)]
pub(in crate::engine) enum PermitChange {
    /// `group`: the namespace, as `schedule::permits` counts newcomers.
    Admit {
        group: Group,
        scope: IdScope,
        gate: Gate,
        limits: Limits,
    },
    Limit(Limits),
    Gate(Gate),
    Dismiss,
}
