//! What an integration says while nothing is wrong with it: whether DPS has accepted it, and how far a rotation is.
//! Pure.

use crate::api::attestation::KeySlot;
use crate::api::integration::KeyRotationStatus;

const UNTRIED_KEY: &str =
    "Not tried yet: the first device that uses the key will show whether DPS accepts it.";
const ACCEPTED_KEY: &str = "DPS accepts the key.";
const UNTRIED_CERTIFICATES: &str =
    "Not tried yet: the first device will show whether DPS accepts its certificate.";
const ACCEPTED_CERTIFICATES: &str = "DPS accepts the devices' certificates.";
const OWN_CREDENTIALS: &str =
    "Each device has a credential of its own; what DPS says of it is in the device's status.";

/// One of those that say no more than that it can be used.
pub fn is_plain(message: &str) -> bool {
    [UNTRIED_KEY, ACCEPTED_KEY, UNTRIED_CERTIFICATES, ACCEPTED_CERTIFICATES, OWN_CREDENTIALS]
        .contains(&message)
}

/// What devices of an integration register with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// The key in this slot.
    Key(KeySlot),
    /// Certificates of their own.
    Certificates,
    /// What each of them names.
    OwnCredentials,
}

/// An integration that can be used, and that DPS has nothing against.
#[derive(Clone, Copy, Debug)]
pub struct Available<'a> {
    pub with: With,
    /// DPS has accepted it.
    pub accepted: bool,
    pub rotation: Option<&'a KeyRotationStatus>,
    /// Some of its devices have certificates: a move may be theirs.
    pub has_certificates: bool,
    /// spec.rollout.paused.
    pub paused: bool,
    /// Registrations a minute that a rotation may come to.
    pub pace: u32,
}

impl Available<'_> {
    /// What its Ready condition says.
    pub fn message(self) -> String {
        match self.rotation {
            Some(rotation) => self.rotating(rotation),
            None => self.standing().to_owned(),
        }
    }

    fn standing(self) -> &'static str {
        match (self.with, self.accepted) {
            (With::Key(_), false) => UNTRIED_KEY,
            (With::Key(_), true) => ACCEPTED_KEY,
            (With::Certificates, false) => UNTRIED_CERTIFICATES,
            (With::Certificates, true) => ACCEPTED_CERTIFICATES,
            (With::OwnCredentials, _) => OWN_CREDENTIALS,
        }
    }

    fn rotating(self, rotation: &KeyRotationStatus) -> String {
        let (moved, total) = moved(rotation);
        let to = match self.with {
            With::Key(slot) if self.has_certificates => {
                format!("the {slot:?} key, or to certificates of another CA")
            }
            With::Key(slot) => format!("the {slot:?} key"),
            With::Certificates | With::OwnCredentials => "certificates of another CA".to_owned(),
        };
        let left_out = match rotation.excluded {
            0 => String::new(),
            count => format!(" {count} left out (suspended, or with policy Never)."),
        };
        if self.paused {
            return format!(
                "The move to {to} is paused by spec.rollout.paused: {moved} of {total} devices moved.{left_out}"
            );
        }
        let left = how_long(rotation.pending, self.pace);
        format!(
            "Moving to {to}: {moved} of {total} devices moved, at most {} a minute, about {left} left.{left_out}",
            self.pace
        )
    }
}

/// How many devices have moved, of how many that are to be moved at all.
fn moved(rotation: &KeyRotationStatus) -> (i32, i32) {
    let total = rotation.total.saturating_sub(rotation.excluded);
    (total.saturating_sub(rotation.pending).max(0), total)
}

/// For so many registrations at so many a minute. No seconds: it is written with the counters.
fn how_long(pending: i32, pace: u32) -> String {
    let minutes = u32::try_from(pending).unwrap_or(0).div_ceil(pace.max(1));
    match minutes {
        0 | 1 => "a minute".to_owned(),
        2..=119 => format!("{minutes} minutes"),
        _ => format!("{} hours", minutes.div_ceil(60)),
    }
}

/// For the column ROTATION.
pub fn progress(rotation: &KeyRotationStatus, paused: bool) -> String {
    let (moved, total) = moved(rotation);
    let moved = format!("{moved}/{total}");
    match (rotation.blocked, paused) {
        (true, _) => format!("{moved} blocked"),
        (false, true) => format!("{moved} paused"),
        (false, false) => moved,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn rotation(total: i32, pending: i32, excluded: i32) -> KeyRotationStatus {
        let started_at = Time(Timestamp::UNIX_EPOCH);
        KeyRotationStatus { total, pending, excluded, blocked: false, progress: None, started_at }
    }

    fn of(with: With, rotation: Option<&KeyRotationStatus>) -> Available<'_> {
        Available { with, accepted: true, rotation, has_certificates: false, paused: false, pace: 120 }
    }

    #[test]
    fn it_says_whether_dps_has_accepted_what_devices_register_with() {
        for (with, accepted, starts) in [
            (
                With::Key(KeySlot::Primary),
                false,
                "Not tried yet: the first device that uses the key will show",
            ),
            (With::Key(KeySlot::Primary), true, "DPS accepts the key."),
            (
                With::Certificates,
                false,
                "Not tried yet: the first device will show whether DPS accepts its certificate",
            ),
            (With::Certificates, true, "DPS accepts the devices' certificates."),
            (With::OwnCredentials, false, "Each device has a credential of its own"),
            (With::OwnCredentials, true, "Each device has a credential of its own"),
        ] {
            let said = Available { accepted, ..of(with, None) }.message();
            assert!(said.starts_with(starts), "{said}");
        }
    }

    #[test]
    fn a_rotation_says_how_far_it_is_and_about_how_long_it_will_take() {
        let secondary = With::Key(KeySlot::Secondary);
        for (with, how_far, paused, expected) in [
            (
                secondary,
                rotation(127, 63, 0),
                false,
                "Moving to the Secondary key: 64 of 127 devices moved, at most 120 a minute, about a minute left.",
            ),
            (
                secondary,
                rotation(10_000, 1_200, 2),
                false,
                "Moving to the Secondary key: 8798 of 9998 devices moved, at most 120 a minute, about 10 minutes left. 2 left out (suspended, or with policy Never).",
            ),
            (
                With::Certificates,
                rotation(100_000, 100_000, 0),
                false,
                "Moving to certificates of another CA: 0 of 100000 devices moved, at most 120 a minute, about 14 hours left.",
            ),
            (
                secondary,
                rotation(127, 20, 0),
                true,
                "The move to the Secondary key is paused by spec.rollout.paused: 107 of 127 devices moved.",
            ),
        ] {
            assert_eq!(Available { paused, ..of(with, Some(&how_far)) }.message(), expected);
        }
    }

    #[test]
    fn progress_fits_into_a_column() {
        let blocked = KeyRotationStatus { blocked: true, ..rotation(127, 124, 0) };
        for (of, paused, expected) in [
            (rotation(127, 63, 0), false, "64/127"),
            (rotation(127, 63, 0), true, "64/127 paused"),
            (blocked, true, "3/127 blocked"),
            (rotation(6, 3, 3), false, "0/3"),
        ] {
            assert_eq!(progress(&of, paused), expected);
        }
    }
}
