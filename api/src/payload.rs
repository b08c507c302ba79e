//! The payload: the one field whose content is the user's own JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Bytes of JSON. DPS takes messages up to 96 KB; this leaves room for everything else in them.
const MAX: usize = 64 * 1024;

/// Why a payload cannot be handed to DPS: the end of a sentence that begins with the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("is nested too deeply to be read")]
    TooDeep,
    #[error("is larger than 64 KiB; DPS refuses messages of 96 KB")]
    TooLarge,
}

/// A JSON object handed to DPS's custom allocation.
///
/// The API server stores any depth of nesting, JSON readers stop somewhere (`serde_json` at 128
/// levels). What cannot be read is remembered as such instead of making the whole object unreadable,
/// so that its status can say so.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload(Option<Map<String, Value>>);

impl Payload {
    /// The object, if it can be handed to DPS.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn checked(&self) -> Result<&Map<String, Value>, PayloadError> {
        let object = self.object().ok_or(PayloadError::TooDeep)?;
        let size = serde_json::to_vec(object).map_or(usize::MAX, |json| json.len());
        if size > MAX { Err(PayloadError::TooLarge) } else { Ok(object) }
    }

    /// `None` when it is nested too deeply to be read.
    pub fn object(&self) -> Option<&Map<String, Value>> {
        self.0.as_ref()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn nesting_that_cannot_be_read_is_remembered_as_such() {
        let read = |levels| serde_json::from_str::<Payload>(&nested(levels)).unwrap();
        assert!(read(100).object().is_some());
        assert!(read(1000).object().is_none());
    }

    #[test]
    fn what_was_read_is_written_again() {
        let payload: Payload = serde_json::from_str(r#"{"site": "warsaw"}"#).unwrap();
        assert_eq!(serde_json::to_string(&payload).unwrap(), r#"{"site":"warsaw"}"#);
    }
}
