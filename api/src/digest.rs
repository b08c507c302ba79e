//! Digests of what is in the API server, to find out whether it is still what we wrote.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::num::NonZeroU32;

use serde::Serialize;

/// Stands for one value of a status. Never stored: another version of the program may come to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(NonZeroU32);

struct Feed(DefaultHasher);

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Digest {
    /// Of the JSON that the value is sent as. `None` for a value that cannot be sent.
    pub fn of(value: &impl Serialize) -> Option<Self> {
        let mut feed = Feed(DefaultHasher::new());
        serde_json::to_writer(&mut feed, value).ok()?;
        let hash = feed.0.finish();
        // Half of it tells one status of an object from the next.
        let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default();
        NonZeroU32::new(low.max(1)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::integration::DpsIntegrationStatus;

    #[test]
    fn a_status_that_was_sent_and_read_back_has_the_digest_that_it_had() {
        let sent: DpsIntegrationStatus = serde_json::from_value(json!({
            "observedGeneration": 1, "throttledUntil": Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
            "conditions": [{"type": "Ready", "status": "True", "reason": "Available", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00.5Z"}],
        }))
        .unwrap();
        let read: DpsIntegrationStatus =
            serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!(Digest::of(&sent), Digest::of(&read));
        let other = DpsIntegrationStatus { observed_generation: Some(2), ..sent.clone() };
        assert_ne!(Digest::of(&sent), Digest::of(&other));
    }
}
