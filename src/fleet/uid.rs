//! Uids of devices as the index keeps them.

use uuid::Uuid;

use super::hash::Hash;
use crate::api::device::ProvisionedDevice;

/// A device's uid. Not every API server hands out RFC 4122 text, so anything else is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    /// None comes after it.
    pub(super) const LAST: Self = Self(u128::MAX);

    pub fn parse(text: &str) -> Self {
        let hashed = || u128::from(Hash::of("uid", [text.as_bytes()]).number());
        Self(Uuid::try_parse(text).map_or_else(|_| hashed(), |uuid| uuid.as_u128()))
    }

    pub fn of(device: &ProvisionedDevice) -> Self {
        Self::parse(device.metadata.uid.as_deref().unwrap_or_default())
    }

    /// As Kubernetes writes it; another text for a uid that was none.
    pub fn text(self) -> String {
        Uuid::from_u128(self.0).to_string()
    }

    /// Spreads what comes round over its interval. Uids are random, so mixing is enough.
    pub fn phase(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        let (high, low) = bytes.split_at(8);
        let half = |half: &[u8]| half.try_into().map_or(0, u64::from_be_bytes);
        (half(high) ^ half(low)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
    }

    /// Spreads what all devices do, the same after a restart.
    pub fn seed(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        Hash::of("seed", [bytes.as_slice()]).number()
    }
}
