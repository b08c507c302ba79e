//! Whether DPS may hold something else than what is known of a device.

use super::registered::Registered;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::device::ProvisionedDeviceStatus;

/// Why it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unresolved {
    #[default]
    Nothing,
    /// Another device has had the registration id since, and may have registered under it.
    Displaced,
    /// A registration was begun that may have taken effect, and no success has been seen since.
    Begun,
}

impl Unresolved {
    /// What a status says that the process before has written: another device had the registration id, and
    /// nothing shows that this one was registered after that.
    pub fn stated(status: &ProvisionedDeviceStatus, registered: Option<&Registered>) -> Self {
        let Some(ready) = conditions::find(&status.conditions, ConditionType::Ready) else {
            return Self::Nothing;
        };
        let is_before =
            |registered: &Registered| registered.time.is_none_or(|time| time < ready.last_transition_time.0);
        if ready.reason == Reason::DuplicateRegistrationId.as_str() && registered.is_some_and(is_before) {
            Self::Displaced
        } else {
            Self::Nothing
        }
    }

    /// Takes in that DPS has said where the device is, without having registered it.
    pub fn looked_up(&mut self) {
        if *self == Self::Displaced {
            *self = Self::Nothing;
        }
    }
}
