//! What can happen: what users and the world do, and what goes wrong while the operator answers it.

use std::fmt;

/// One of the two devices.
pub(super) type Device = usize;

/// Names of the devices.
pub(super) const NAMES: [&str; 2] = ["truck-1", "truck-2"];

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// The device is declared, or deleted.
    Existence(Device),
    /// It is deleted and declared again before that was seen.
    Replaced(Device),
    /// Its payload becomes the other one of two.
    Payload(Device),
    Suspended(Device),
    /// A reprovision token.
    Token(Device),
    /// A request to look again.
    Look(Device),
    /// It refers to the other integration.
    Integration(Device),
    /// A label of its Secret changes.
    Label(Device),
    SecretDeleted(Device),
    SecretEdited(Device),
    MovedInAzure(Device),
    /// The other slot is to be used.
    Slot,
    IntegrationSuspended,
    /// The operator dies, and another one begins.
    Dies,
    Minute,
    Day,
    /// What was held back arrives.
    Arrives,
}

impl Move {
    pub(super) const ALL: [Self; 23] = [
        Self::Existence(0),
        Self::Replaced(0),
        Self::Payload(0),
        Self::Suspended(0),
        Self::Token(0),
        Self::Look(0),
        Self::Integration(0),
        Self::Label(0),
        Self::SecretDeleted(0),
        Self::SecretEdited(0),
        Self::MovedInAzure(0),
        Self::Slot,
        Self::IntegrationSuspended,
        Self::Dies,
        Self::Minute,
        Self::Day,
        Self::Arrives,
        Self::Existence(1),
        Self::Replaced(1),
        Self::Payload(1),
        Self::Token(1),
        Self::Integration(1),
        Self::SecretDeleted(1),
    ];
}

/// An effect of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Call,
    Secret,
    Status,
}

/// What goes wrong during a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// DPS registers, and its answer is lost.
    AnswerLost,
    ServerError,
    Throttled,
    /// DPS asks for a wait of twenty minutes.
    AskedToWait,
    /// The answer of DPS is on its way until something lets it arrive.
    AnswerHeld,
    /// What the watch has to show is on its way until something lets it arrive.
    DevicesHeld,
    SecretsHeld,
    WriteRefused(Effect),
    WriteLost(Effect),
    WriteInConflict(Effect),
    /// Once this effect has ended, before that is taken in.
    DiesAfter(Effect),
}

impl Fault {
    pub(super) const ALL: [Self; 16] = [
        Self::AnswerLost,
        Self::ServerError,
        Self::Throttled,
        Self::AskedToWait,
        Self::AnswerHeld,
        Self::DevicesHeld,
        Self::SecretsHeld,
        Self::WriteRefused(Effect::Secret),
        Self::WriteRefused(Effect::Status),
        Self::WriteLost(Effect::Secret),
        Self::WriteLost(Effect::Status),
        Self::WriteInConflict(Effect::Secret),
        Self::WriteInConflict(Effect::Status),
        Self::DiesAfter(Effect::Call),
        Self::DiesAfter(Effect::Secret),
        Self::DiesAfter(Effect::Status),
    ];

    /// It can make a difference to a move that had these effects without it.
    pub(super) fn concerns(self, effects: &Effects) -> bool {
        match self {
            Self::AnswerLost
            | Self::ServerError
            | Self::Throttled
            | Self::AskedToWait
            | Self::AnswerHeld
            | Self::DiesAfter(Effect::Call) => effects.calls > 0,
            Self::DevicesHeld => effects.devices_shown > 0,
            Self::SecretsHeld => effects.secrets_shown > 0,
            Self::WriteRefused(effect)
            | Self::WriteLost(effect)
            | Self::WriteInConflict(effect)
            | Self::DiesAfter(effect) => match effect {
                Effect::Call => false,
                Effect::Secret => effects.secrets > 0,
                Effect::Status => effects.statuses > 0,
            },
        }
    }
}

/// What a move had for effects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effects {
    pub calls: usize,
    pub secrets: usize,
    pub statuses: usize,
    pub devices_shown: usize,
    pub secrets_shown: usize,
}

/// A move, and what goes wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub what: Move,
    pub fault: Option<Fault>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)?;
        self.fault.map_or(Ok(()), |fault| write!(f, " with {fault:?}"))
    }
}

/// Where a course begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Start {
    /// There are integrations and no device.
    Empty,
    /// The first device is settled.
    Settled,
    /// Both devices have the registration id of the first one, and one of them has it.
    Rivals,
    /// The Secret of the first device came out of a backup, without the device.
    SecretRestored,
}

impl Start {
    pub(super) const ALL: [Self; 4] = [Self::Empty, Self::Settled, Self::Rivals, Self::SecretRestored];
}
