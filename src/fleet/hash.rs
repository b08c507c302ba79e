//! Hashes that show whether something settled still holds. They cover settings, never rendered
//! bytes, so that an upgrade that would render differently touches nothing.

use sha2::{Digest, Sha256};

/// Version in front of every hash we write. A hash of another version is recomputed and adopted.
const VERSION: &str = "v1";

/// 64 bits of SHA-256 over parts that cannot run into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash(u64);

impl Hash {
    pub fn of<'a>(what: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new_with_prefix(what.as_bytes());
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&digest.finalize()[..8]);
        Self(u64::from_be_bytes(first))
    }

    fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub fn number(self) -> u64 {
        self.0
    }

    /// As it stands in status and annotations: `v1:` and 16 hex digits.
    pub fn shown(self) -> String {
        format!("{VERSION}:{:016x}", self.0)
    }

    /// Reads `shown`; `None` for another version.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(VERSION)?.strip_prefix(':')?;
        (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok().map(Self)).flatten()
    }
}

/// What was registered: id scope, registration id, effective payload and, if a certificate was asked for, the kind of
/// its key; nothing else.
pub fn registered(scope: &str, registration_id: &str, payload: Option<Hash>, issued: Option<&str>) -> Hash {
    let payload = payload.map(Hash::bytes);
    let payload = payload.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    let parts = [scope.as_bytes(), registration_id.as_bytes(), payload];
    Hash::of("registered", parts.into_iter().chain(issued.map(str::as_bytes)))
}

/// Where DPS keeps a registration. It may take letters in either case for the same.
pub fn place(scope: &str, registration_id: &str) -> Hash {
    let parts = [scope, registration_id].map(str::to_ascii_lowercase);
    Hash::of("place", parts.iter().map(String::as_bytes))
}

/// What a Secret was rendered from: the device's own settings, its assignment (both in `base`), and
/// what it inherits.
pub fn rendered(base: Hash, inherited: Hash) -> Hash {
    Hash::of("rendered", [&base.bytes()[..], &inherited.bytes()[..]])
}

/// The part of `rendered` that does not change with an integration's defaults.
pub fn base(own: Hash, assigned: Hash) -> Hash {
    Hash::of("base", [&own.bytes()[..], &assigned.bytes()[..]])
}

/// An assignment as far as it stands in a Secret. Absent parts are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Assigned<'a> {
    pub scope: &'a str,
    pub registration_id: &'a str,
    pub hub: &'a str,
    pub device_id: &'a str,
    /// The credential that it was registered with, as it is shown.
    pub credential: &'a str,
    /// The certificate that was issued to it, in the same way.
    pub issued: &'a str,
    /// Hash of the returned payload, as it is shown.
    pub returned_payload: &'a str,
}

impl Assigned<'_> {
    pub fn hash(self) -> Hash {
        let Self { scope, registration_id, hub, device_id, credential, issued, returned_payload } = self;
        let parts = [scope, registration_id, hub, device_id, credential, returned_payload];
        // Where none was issued the hash is what it always was.
        let issued = Some(issued).filter(|issued| !issued.is_empty());
        Hash::of("assigned", parts.into_iter().chain(issued).map(str::as_bytes))
    }
}

/// A registration record as a lookup shows it. Absent parts are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookedUp<'a> {
    pub hub: &'a str,
    pub device_id: &'a str,
    pub substatus: &'a str,
    pub etag: &'a str,
    pub created_time: &'a str,
    pub last_updated_time: &'a str,
}

impl LookedUp<'_> {
    pub fn hash(self) -> Hash {
        let Self { hub, device_id, substatus, etag, created_time, last_updated_time } = self;
        let parts = [hub, device_id, substatus, etag, created_time, last_updated_time];
        Hash::of("looked-up", parts.map(str::as_bytes))
    }
}

/// A token of a user.
pub fn token(token: &str) -> Hash {
    Hash::of("token", [token.as_bytes()])
}

/// A payload. `serde_json` keeps object keys sorted, so equal objects have equal hashes.
pub fn payload(payload: &serde_json::Map<String, serde_json::Value>) -> Hash {
    // A map of JSON values always serialises; an empty text only means "register once more".
    Hash::of("payload", [serde_json::to_vec(payload).unwrap_or_default().as_slice()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hash_survives_a_round_trip_and_other_versions_are_not_read() {
        let hash = Hash::of("x", [b"a".as_slice()]);
        assert_eq!(Hash::parse(&hash.shown()), Some(hash));
        assert_eq!(Hash::parse("v2:0000000000000000"), None);
        assert_eq!(Hash::parse("v1:xyz"), None);
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(registered("ab", "c", None, None), registered("a", "bc", None, None));
        assert_ne!(registered("a", "b", None, None), registered("a", "b", None, Some("ECDSA-P384")));
        assert_ne!(Hash::of("x", [b"".as_slice(), b"a"]), Hash::of("x", [b"a".as_slice(), b""]));
    }

    #[test]
    fn the_order_of_keys_in_a_payload_does_not_matter() {
        let (a, b) = (json!({"x": 1, "y": {"b": 1, "a": 2}}), json!({"y": {"a": 2, "b": 1}, "x": 1}));
        assert_eq!(payload(a.as_object().unwrap()), payload(b.as_object().unwrap()));
        assert_ne!(payload(a.as_object().unwrap()), payload(json!({}).as_object().unwrap()));
    }
}
