//! What should follow from a change of an integration. The registry only says so: the permits and the
//! devices are others'.

use jiff::Timestamp;

use crate::controller::integration::consent::Consent;
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
    /// Until when DPS asked to wait, as the status has recorded it before the start.
    pub recall_pause: Option<Timestamp>,
    /// The devices that were refused should try once more as soon as they may.
    pub retry: bool,
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
