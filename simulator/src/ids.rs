//! Identifiers in the form of those of DPS. They do not repeat.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Makes identifiers: unique within a run, and different from run to run.
#[derive(Debug)]
pub(crate) struct Ids {
    high: RandomState,
    low: RandomState,
    count: AtomicU64,
}

impl Ids {
    pub fn new() -> Self {
        Self { high: RandomState::new(), low: RandomState::new(), count: AtomicU64::new(0) }
    }

    /// A GUID in its usual form.
    pub fn guid(&self) -> String {
        let (high, low) = self.next();
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
        )
    }

    /// An operation id: a digit, 16 hex digits and a GUID.
    pub fn operation(&self) -> String {
        let (high, low) = self.next();
        format!("{}.{:016x}.{}", high % 10, low, self.guid())
    }

    /// An etag as the registration record has it: a quoted identifier in base64.
    pub fn etag(&self) -> String {
        STANDARD.encode(format!("\"{}\"", self.guid()))
    }

    /// The serial number of a certificate.
    pub fn serial_number(&self) -> [u8; 16] {
        let (high, low) = self.next();
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    fn next(&self) -> (u64, u64) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        (self.high.hash_one(count), self.low.hash_one(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_has_the_shape_that_was_observed() {
        let id = Ids::new().operation();
        let parts: Vec<&str> = id.split('.').collect();
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [1, 16, 36]);
    }

    #[test]
    fn identifiers_do_not_repeat() {
        let ids = Ids::new();
        assert_ne!(ids.operation(), ids.operation());
        assert_ne!(ids.etag(), ids.etag());
    }
}
