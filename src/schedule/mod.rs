//! Whose turn it is, and when: devices that are ready, permits to call DPS, paces and due times.
//! Pure: time comes in as an argument. How long to wait after failures is in `api::retry`.

pub mod contest;
pub mod due;
pub mod looks;
pub mod pace;
pub mod permits;
pub mod ready;
pub mod room;
pub mod rota;
pub mod turns;
pub mod writes;

/// A device in a queue: its place in the fleet's index.
pub type Waiter = u32;

/// Whose work something is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// One device's.
    Device,
    /// A whole fleet's.
    Fleet,
}
