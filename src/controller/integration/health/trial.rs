//! Which of two credentials is used, tried, or asked again. A fleet moves to the other one only on
//! proof: DPS has accepted that one, and after that refused the one that was asked for once more.

use crate::dps::attestation::CredentialId;

/// The two credentials of an integration, as its spec orders them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub asked_for: CredentialId,
    pub other: Option<CredentialId>,
}

/// How far it is known which of them works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trial {
    /// The one that was asked for is in use.
    #[default]
    AsAskedFor,
    /// That one is refused: the devices that met this try the other one.
    OfOther,
    /// DPS has accepted the other one: the one that was asked for is asked once more.
    AskedAgain,
    /// The one that was asked for is refused while the other one is accepted, which is in use.
    OtherInUse,
    /// Both are refused: at each try one after the other, this one next.
    BothRefused(Turn),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    AskedFor,
    Other,
}

impl Trial {
    /// The credential that a call is made with.
    pub(super) fn credential(self, pair: Pair) -> CredentialId {
        let other = pair.other.unwrap_or(pair.asked_for);
        match self {
            Self::AsAskedFor | Self::AskedAgain | Self::BothRefused(Turn::AskedFor) => pair.asked_for,
            Self::OfOther | Self::OtherInUse | Self::BothRefused(Turn::Other) => other,
        }
    }

    /// A credential is being tried that the fleet is not moved to yet.
    pub(super) fn goes_on(self) -> bool {
        !matches!(self, Self::AsAskedFor | Self::OtherInUse)
    }
}
