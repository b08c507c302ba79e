//! Symmetric keys: enrollment keys, the device keys derived from them, and signatures.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::Sha256;

/// The sizes that DPS accepts for an enrollment key.
const KEY_BYTES: RangeInclusive<usize> = 16..=64;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key must be standard base64 with padding")]
    NotBase64,
    #[error("a key must be the base64 of 16 to 64 bytes; this one has {0}")]
    WrongSize(usize),
}

/// HMAC-SHA256 pads shorter keys with zeros to one block, and no key of DPS is longer.
const BLOCK: usize = 64;

/// A symmetric key. Its `Debug` output does not contain it.
#[derive(Clone)]
pub struct SymmetricKey {
    block: [u8; BLOCK],
    length: u8,
}

impl SymmetricKey {
    /// Reads an enrollment key: base64 of 16 to 64 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::NotBase64)?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(KeyError::WrongSize(bytes.len()));
        }
        Self::from_bytes(&bytes).ok_or(KeyError::WrongSize(bytes.len()))
    }

    /// The device key of an enrollment group: HMAC-SHA256 of the registration id.
    pub fn derive(&self, registration_id: &str) -> Self {
        let mut block = [0; BLOCK];
        block[..32].copy_from_slice(&self.sign(&[registration_id.as_bytes()]));
        Self { block, length: 32 }
    }

    /// Signs the parts as one message.
    pub fn sign(&self, message: &[&[u8]]) -> [u8; 32] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// Whether this key made the signature over the parts, compared in constant time.
    pub fn verifies(&self, message: &[&[u8]], signature: &[u8]) -> bool {
        self.mac(message).verify_slice(signature).is_ok()
    }

    /// Whether the text is this key in base64, compared in constant time.
    pub fn equals_base64(&self, text: &str) -> bool {
        let Some(other) = STANDARD.decode(text).ok().and_then(|b| Self::from_bytes(&b)) else {
            return false;
        };
        let probe: &[&[u8]] = &[b"same key"];
        self.length == other.length && self.verifies(probe, &other.sign(probe))
    }

    /// The key in base64, as devices and hubs hold it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.block[..usize::from(self.length)])
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut block = [0; BLOCK];
        block.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let length = u8::try_from(bytes.len()).ok()?;
        Some(Self { block, length })
    }

    fn mac(&self, message: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.block.into());
        for part in message {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

impl<'de> Deserialize<'de> for SymmetricKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        Self::from_base64(&text).map_err(de::Error::custom)
    }
}

/// The two keys of an enrollment.
#[derive(Clone, Debug)]
pub(crate) struct KeyPair {
    pub primary: SymmetricKey,
    pub secondary: SymmetricKey,
}

impl KeyPair {
    /// The two device keys that are derived from the keys of an enrollment group.
    pub fn derive(&self, registration_id: &str) -> Self {
        Self {
            primary: self.primary.derive(registration_id),
            secondary: self.secondary.derive(registration_id),
        }
    }

    pub fn slots(&self) -> [(KeySlot, &SymmetricKey); 2] {
        [(KeySlot::Primary, &self.primary), (KeySlot::Secondary, &self.secondary)]
    }
}

/// One of the two keys of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySlot {
    Primary,
    Secondary,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP_KEY: &str =
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";

    #[test]
    fn a_device_key_is_derived_as_microsoft_publishes_it() {
        let group = SymmetricKey::from_base64(GROUP_KEY).unwrap();
        let device = group.derive("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6");
        assert_eq!(device.to_base64(), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
    }

    #[test]
    fn a_key_has_16_to_64_bytes() {
        let size = |bytes: usize| SymmetricKey::from_base64(&STANDARD.encode(vec![7; bytes]));
        assert_eq!(size(15).unwrap_err(), KeyError::WrongSize(15));
        assert!(size(16).is_ok());
        assert!(size(64).is_ok());
        assert_eq!(size(65).unwrap_err(), KeyError::WrongSize(65));
        assert_eq!(SymmetricKey::from_base64("no key").unwrap_err(), KeyError::NotBase64);
    }

    #[test]
    fn a_key_equals_only_itself() {
        let key = SymmetricKey::from_base64(GROUP_KEY).unwrap();
        assert!(key.equals_base64(GROUP_KEY));
        assert!(!key.equals_base64(&key.derive("device").to_base64()));
        assert!(!key.equals_base64(&STANDARD.encode([7; 65])));
        assert!(!key.equals_base64("%%%"));
        // HMAC fills keys up with zeros, so these two would sign alike.
        let short = SymmetricKey::from_base64(&STANDARD.encode([7; 16])).unwrap();
        let filled_up = [[7; 16], [0; 16]].concat();
        assert!(!short.equals_base64(&STANDARD.encode(filled_up)));
    }

    #[test]
    fn a_printed_key_shows_nothing() {
        let key = SymmetricKey::from_base64(GROUP_KEY).unwrap();
        assert_eq!(format!("{key:?}"), "SymmetricKey(..)");
    }
}
