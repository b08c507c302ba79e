//! Seals tell what the operator has written down from what others have edited. Their key is derived
//! from the secret that vouches for the devices and is never written anywhere: whoever can write a
//! Secret or a status, or has a device's key, cannot make one.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Not a registration id, so that no device's key is ever the key of a seal.
const LABEL: &[u8] = b"dps-operator/seal/v1";
/// Version in front of every seal. One of another version vouches for nothing.
const VERSION: &str = "v1";

/// What is sealed: parts that cannot run into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement([u8; 32]);

impl Statement {
    /// `what`: kind of the statement. A part that is absent is not one that is empty.
    pub fn of<'a>(what: &str, parts: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut digest = Sha256::new_with_prefix(what.as_bytes());
        digest.update([0]);
        for part in parts {
            match part {
                None => digest.update([0]),
                Some(part) => {
                    digest.update([1]);
                    digest.update((part.len() as u64).to_be_bytes());
                    digest.update(part);
                }
            }
        }
        Self(digest.finalize().into())
    }
}

/// A seal, shown as `v1:` and 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal([u8; 16]);

impl Seal {
    /// Reads what `Display` wrote; `None` for another version.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(VERSION)?.strip_prefix(':')?;
        let plain = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u128::from_str_radix(hex, 16).ok()).flatten().map(|number| Self(number.to_be_bytes()))
    }

    /// Seals with a key made from this secret.
    pub(super) fn new(secret: &[u8], statement: &Statement) -> Self {
        let tag = mac(secret, statement).finalize().into_bytes();
        Self(tag.first_chunk().copied().unwrap_or_default())
    }

    /// True if this is the seal of the statement. Takes the same time whatever differs.
    pub(super) fn is_of(&self, secret: &[u8], statement: &Statement) -> bool {
        mac(secret, statement).verify_truncated_left(&self.0).is_ok()
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{:032x}", u128::from_be_bytes(self.0))
    }
}

fn mac(secret: &[u8], statement: &Statement) -> Hmac<Sha256> {
    let derived = keyed(secret).chain_update(LABEL).finalize().into_bytes();
    let key = Zeroizing::new(<[u8; 32]>::from(derived));
    keyed(&*key).chain_update(statement.0)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dps::ids::RegistrationId;

    fn statement(parts: &[&str]) -> Statement {
        Statement::of("test", parts.iter().map(|part| Some(part.as_bytes())))
    }

    #[test]
    fn a_seal_is_of_one_statement_and_one_key() {
        let seal = Seal::new(&[1; 32], &statement(&["a", "b"]));
        assert!(seal.is_of(&[1; 32], &statement(&["a", "b"])));
        for (key, parts) in [([2; 32], ["a", "b"]), ([1; 32], ["ab", ""]), ([1; 32], ["a", "c"])] {
            assert!(!seal.is_of(&key, &statement(&parts)), "{parts:?}");
        }
        assert_ne!(Statement::of("a", []), Statement::of("b", []));
        assert_ne!(Statement::of("a", [None]), Statement::of("a", [Some(&[][..])]));
    }

    #[test]
    fn a_seal_survives_a_round_trip_and_other_texts_are_not_read() {
        let seal = Seal::new(&[1; 32], &statement(&[]));
        assert_eq!(Seal::parse(&seal.to_string()), Some(seal));
        let signed = format!("v1:+{}", "0".repeat(31));
        for text in ["", "v1:", "v1:00", "v2:00000000000000000000000000000000", &signed] {
            assert_eq!(Seal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_device_has_the_key_of_a_seal() {
        assert!(RegistrationId::parse(std::str::from_utf8(LABEL).unwrap()).is_err());
    }
}
