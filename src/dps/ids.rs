//! Identifiers that have been checked once and can then be relied upon.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986 unreserved characters stay; everything else is escaped, once.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes one path segment of a URL, or one field of a token.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A text that is not a valid identifier; says which kind and what is allowed, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error(
        "registration ids are 1 to 128 lower-case letters, digits, '-', '.', '_' or ':' and begin and end with a letter or digit"
    )]
    RegistrationId,
    #[error("id scopes are 1 to 64 letters and digits")]
    IdScope,
    #[error("the hub is not a plain host name")]
    HubHostname,
    #[error("the hub is not under an allowed suffix (--allowed-hub-suffixes)")]
    HubSuffix,
}

/// The name of a registration within an id scope. Lower case only: ids are declared
/// case-insensitive, yet the key derivation hashes bytes, so one spelling is used everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistrationId(Box<str>);

impl RegistrationId {
    const MAX: usize = 128;

    /// # Errors
    /// `InvalidId::RegistrationId` unless it matches `^[a-z0-9]([a-z0-9._:-]{0,126}[a-z0-9])?$`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_well = bytes.first().copied().is_some_and(alphanumeric)
            && bytes.last().copied().is_some_and(alphanumeric);
        let inner = bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'.' | b'_' | b':' | b'-'));
        if bytes.len() <= Self::MAX && ends_well && inner {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::RegistrationId)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id scope of one DPS instance. Compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdScope(Box<str>);

impl IdScope {
    /// # Errors
    /// `InvalidId::IdScope` unless it is 1 to 64 letters and digits.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if valid { Ok(Self(text.into())) } else { Err(InvalidId::IdScope) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id by which DPS can be asked how a registration goes on. Opaque, but one segment of a path.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct OperationId(Box<str>);

impl OperationId {
    const MAX: usize = 1024;

    /// `None` for a text that no path of DPS could end with.
    pub fn parse(text: &str) -> Option<Self> {
        let is_segment = !text.trim().is_empty() && !matches!(text, "." | "..");
        let fits = text.len() <= Self::MAX && !text.contains(char::is_control);
        (is_segment && fits).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Host name of an IoT hub: labels of letters, digits and dashes under an allowed suffix, lower-cased.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubHostname(Box<str>);

impl HubHostname {
    /// # Errors
    /// `HubHostname` when it is no plain host name, `HubSuffix` when it is under none of `suffixes`
    /// (each with its leading dot, lower case).
    pub fn parse(text: &str, suffixes: &[String]) -> Result<Self, InvalidId> {
        if !is_host_name(text) {
            return Err(InvalidId::HubHostname);
        }
        let host = text.to_ascii_lowercase();
        let allowed =
            suffixes.iter().any(|suffix| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
        if allowed { Ok(Self(host.into())) } else { Err(InvalidId::HubSuffix) }
    }

    /// True for a text that could be a hub's name under any suffix: nothing in it can break out
    /// of a connection string.
    pub fn is_plain(text: &str) -> bool {
        is_host_name(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A label of a DNS name: RFC 1123 letters, digits and dashes.
pub(crate) fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A DNS host name of at least two labels, without trailing dot.
pub(super) fn is_host_name(text: &str) -> bool {
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_dns_label)
}

/// An id that an IoT hub could have given to a device ("Understand the identity registry"): nothing in
/// it can break out of a connection string.
pub(crate) fn is_device_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@$'".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whoever has it can ask how the registration ended: it is not for logs.
impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperationId")
    }
}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IdScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HubHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_ids_follow_the_pattern() {
        let longest = "a".repeat(128);
        for good in ["a", "truck-000001", "a.b_c:d-e", "0", &longest] {
            assert!(RegistrationId::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in ["", "-a", "a-", "A", "ä", "a b", "a/b", "a;b", "a\n", &too_long] {
            assert_eq!(RegistrationId::parse(bad), Err(InvalidId::RegistrationId), "{bad:?}");
        }
    }

    #[test]
    fn id_scopes_are_letters_and_digits() {
        assert!(IdScope::parse("0ne00A1B2C3").is_ok());
        for bad in ["", "0ne/..", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(IdScope::parse(bad), Err(InvalidId::IdScope), "{bad:?}");
        }
    }

    #[test]
    fn an_operation_id_is_one_segment_of_a_path() {
        for good in ["4.1234567890abcdef.b1dafdfd-d634-4bfe-9061-804d9ded6ce8", "1", "a/b?c#d", "...", "ä"] {
            assert_eq!(OperationId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "\t", ".", "..", "a\nb", "a\u{0}", &"a".repeat(60_000)] {
            assert_eq!(OperationId::parse(bad), None, "{:?}", &bad[..bad.len().min(9)]);
        }
    }

    #[test]
    fn an_operation_id_is_not_shown() {
        assert_eq!(format!("{:?}", OperationId::parse("4.12345678").unwrap()), "OperationId");
    }

    #[test]
    fn device_ids_are_those_that_a_hub_gives() {
        for good in ["truck-1", "Truck:1", "a.b+c%d_e#f*g?h!i(j),k=l@m$n'o", &"a".repeat(128)] {
            assert!(is_device_id(good), "{good}");
        }
        for bad in ["", "a;b", "a b", "a/b", "a\n", "ä", &"a".repeat(129)] {
            assert!(!is_device_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn hostile_hub_names_are_refused() {
        let suffixes = [".azure-devices.net".to_owned()];
        assert_eq!(
            HubHostname::parse("Contoso-EU.azure-devices.net", &suffixes).unwrap().as_str(),
            "contoso-eu.azure-devices.net"
        );
        let long = format!("{}.azure-devices.net", "a".repeat(10_000));
        for bad in
            ["evil.example", ".azure-devices.net", "azure-devices.net", "x.azure-devices.net.evil.example"]
        {
            assert!(HubHostname::parse(bad, &suffixes).is_err(), "{bad}");
        }
        for bad in [
            "a;b.azure-devices.net",
            "a\n.azure-devices.net",
            "https://a.azure-devices.net",
            &long,
            "а.azure-devices.net",
            "a..azure-devices.net",
            "a.azure-devices.net:8883",
            "-a.azure-devices.net",
        ] {
            assert_eq!(HubHostname::parse(bad, &suffixes), Err(InvalidId::HubHostname), "{bad:?}");
        }
    }
}
