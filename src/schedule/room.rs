//! For whom there is room. Pure.

use super::Share;

/// For whom something may be started.
pub trait Room {
    /// There is none for anybody.
    fn is_over(&self) -> bool;
    /// There is some for this share of a namespace.
    fn admits(&self, share: Share, namespace: u32) -> bool;
    /// Changes whenever there may be more of it.
    fn version(&self) -> u64;
}

/// Room for everybody.
pub struct Everywhere;

impl Room for Everywhere {
    fn is_over(&self) -> bool {
        false
    }

    fn admits(&self, _: Share, _: u32) -> bool {
        true
    }

    fn version(&self) -> u64 {
        0
    }
}
