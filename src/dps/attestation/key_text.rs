//! Texts that people put in the place of an enrollment's key, told by their shape. Nothing of a text is
//! ever quoted.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Sizes of enrollment keys in bytes ("How to use symmetric keys"; the service makes 64).
pub(super) const SIZES: std::ops::RangeInclusive<usize> = 16..=64;

/// Takes what .NET, Node and Python take: the last character may have bits that do not count.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Why a text is not the key of an enrollment, and what to do. Never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is empty")]
    Empty,
    #[error(
        "it has {0} bytes that are no text. The key seems to stand under data as Azure shows it: put it under stringData, or base64-encode it once more"
    )]
    RawBytes(usize),
    #[error(
        "it seems to be base64-encoded twice: put it under stringData as Azure shows it, or encode it once"
    )]
    EncodedTwice,
    #[error("it stands in quotation marks: leave them out")]
    Quoted,
    #[error(
        "it is a connection string. The key is shown under \"Manage enrollments\" of the DPS instance, in the enrollment"
    )]
    ConnectionString,
    #[error(
        "it is a SAS token, which a key makes. The key is shown under \"Manage enrollments\" of the DPS instance, in the enrollment"
    )]
    SasToken,
    #[error(
        "it is hexadecimal, as a thumbprint or a GUID is. The key is base64 and is shown under \"Manage enrollments\" of the DPS instance, in the enrollment"
    )]
    Hexadecimal,
    #[error(
        "it is PEM, a certificate or its key. spec.attestation.symmetricKey wants the base64 key of an enrollment of type symmetric key"
    )]
    Pem,
    #[error(
        "it is in the base64url alphabet, with \"-\" and \"_\": put it there as Azure shows it, with \"+\" and \"/\""
    )]
    Base64Url,
    #[error("it is percent-encoded, as in a URL: put it there as Azure shows it")]
    PercentEncoded,
    #[error(
        "it has characters that cannot be seen, such as a byte order mark: save it as plain text without one"
    )]
    Invisible,
    #[error("it is UTF-16 text, as PowerShell writes files: save it as UTF-8 or ASCII")]
    Utf16,
    #[error("it is JSON: put only the key's own text there")]
    Json,
    #[error(
        "its end is missing: base64 has a length that is a multiple of 4, with \"=\" at the end. Copy all of it"
    )]
    Incomplete,
    #[error(
        "it is not base64: put it there as Azure shows it, letters, digits, \"+\", \"/\", and \"=\" at the end"
    )]
    NotBase64,
    #[error("it decodes to {0} bytes; enrollment keys have 16 to 64")]
    Size(usize),
}

/// Reads the base64 text that the portal shows. White space is left out wherever it stands: tools wrap
/// base64, and YAML folds it.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub(super) fn read(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let plain = characters(text)?;
    let plain = plain.as_str();
    if let Some(other) = shape(plain) {
        return Err(other);
    }
    let bytes = Zeroizing::new(BASE64.decode(plain).map_err(|_| not_base64(plain))?);
    if is_base64_text(&bytes) {
        return Err(KeyError::EncodedTwice);
    }
    if !SIZES.contains(&bytes.len()) {
        return Err(KeyError::Size(bytes.len()));
    }
    Ok(bytes)
}

/// The text without white space.
fn characters(bytes: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if utf16 || (bytes.len() >= 16 && 5 * zeros > 2 * bytes.len()) {
        return Err(KeyError::Utf16);
    }
    let is_text = |text: &&str| text.chars().all(|c| c.is_whitespace() || !c.is_control());
    let Some(text) = std::str::from_utf8(bytes).ok().filter(is_text) else {
        return Err(KeyError::RawBytes(bytes.len()));
    };
    let plain: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
    if plain.is_empty() {
        return Err(KeyError::Empty);
    }
    let invisible = |c| matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}');
    if plain.contains(invisible) {
        return Err(KeyError::Invisible);
    }
    Ok(plain)
}

/// What a text without white space is instead of a key, if its shape tells.
fn shape(plain: &str) -> Option<KeyError> {
    let lower = Zeroizing::new(plain.to_ascii_lowercase());
    let quotes = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    let hex = || plain.chars().filter(|c| !matches!(c, ':' | '-'));
    if lower.contains("sharedaccesssignature") {
        Some(KeyError::SasToken)
    } else if ["sharedaccesskey", "hostname=", "deviceid="].iter().any(|part| lower.contains(part)) {
        Some(KeyError::ConnectionString)
    } else if lower.starts_with("-----begin") {
        Some(KeyError::Pem)
    } else if plain.starts_with(['{', '[']) {
        Some(KeyError::Json)
    } else if plain.starts_with(quotes) || plain.ends_with(quotes) {
        Some(KeyError::Quoted)
    } else if hex().count() >= 32 && hex().all(|c| c.is_ascii_hexdigit()) {
        Some(KeyError::Hexadecimal)
    } else {
        None
    }
}

fn not_base64(plain: &str) -> KeyError {
    let only = |more: &str| {
        plain.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c) || more.contains(c))
    };
    if only("") && plain.len() >= 20 {
        KeyError::Incomplete
    } else if only("-_") && plain.len() >= 20 {
        KeyError::Base64Url
    } else if only("%")
        && ["%2b", "%2f", "%3d"].iter().any(|escape| plain.to_ascii_lowercase().contains(escape))
    {
        KeyError::PercentEncoded
    } else {
        KeyError::NotBase64
    }
}

/// True if the bytes are themselves base64 of something as long as a key: those of a key are not.
fn is_base64_text(bytes: &[u8]) -> bool {
    let plain: Zeroizing<Vec<u8>> =
        Zeroizing::new(bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let inner = BASE64.decode(&*plain).map(Zeroizing::new);
    inner.is_ok_and(|inner| inner.len() >= *SIZES.start())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn error(text: impl AsRef<[u8]>) -> KeyError {
        read(text.as_ref()).unwrap_err()
    }

    proptest! {
        /// Whatever the key: as people have it, it is taken or named, and the name is the right one.
        #[test]
        fn a_key_is_known_in_every_dress(key in proptest::collection::vec(any::<u8>(), 16..=64)) {
            let text = STANDARD.encode(&key);
            for dressed in [
                text.clone(),
                format!(" {text}\r\n"),
                format!("{}\n{}\n", &text[..10], &text[10..]),
                text.chars().map(|c| format!("{c} ")).collect::<String>(),
                format!("{}\u{a0}\t{}", &text[..7], &text[7..]),
            ] {
                prop_assert!(read(dressed.as_bytes()).is_ok_and(|read| *read == key));
            }
            for (dressed, name) in [
                (STANDARD.encode(&text), KeyError::EncodedTwice),
                (STANDARD.encode(format!("{text}\n")), KeyError::EncodedTwice),
                (STANDARD.encode(STANDARD.encode(&text)), KeyError::EncodedTwice),
                (format!("\"{text}\""), KeyError::Quoted),
                (format!("'{text}'\n"), KeyError::Quoted),
                (format!("HostName=x.azure-devices-provisioning.net;SharedAccessKeyName=a;SharedAccessKey={text}"), KeyError::ConnectionString),
                (format!("SharedAccessSignature sr=x&sig={text}&se=1"), KeyError::SasToken),
                (key.iter().map(|byte| format!("{byte:02x}")).collect(), KeyError::Hexadecimal),
                (key.iter().map(|byte| format!("{byte:02X}:")).collect(), KeyError::Hexadecimal),
                (format!("\u{feff}{text}"), KeyError::Invisible),
                (format!("{{\"primaryKey\": \"{text}\"}}"), KeyError::Json),
                (format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----"), KeyError::Pem),
            ] {
                prop_assert_eq!(error(dressed), name);
            }
            if text.ends_with('=') {
                prop_assert_eq!(error(text.trim_end_matches('=')), KeyError::Incomplete);
            }
            let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            prop_assert_eq!(error(&utf16), KeyError::Utf16);
            if text.contains(['+', '/']) {
                prop_assert_eq!(error(URL_SAFE.encode(&key)), KeyError::Base64Url);
                prop_assert_eq!(error(URL_SAFE_NO_PAD.encode(&key)), KeyError::Base64Url);
                prop_assert_eq!(error(crate::dps::ids::escape(&text)), KeyError::PercentEncoded);
            }
            if key.iter().any(|byte| *byte >= 0xf8) && key[0] < 0xf8 && !key.contains(&0) {
                prop_assert_eq!(error(&key), KeyError::RawBytes(key.len()));
            }
        }

        #[test]
        fn no_message_shows_anything_of_the_text(text in "[a-z]{3}[ -~]{20,80}") {
            if let Err(error) = read(text.as_bytes()) {
                let said = error.to_string();
                prop_assert!(!text.as_bytes().windows(12).any(|part| said.as_bytes().windows(12).any(|s| s == part)));
            }
        }
    }

    #[test]
    fn every_refusal_says_what_it_is_or_what_to_do() {
        for (refused, says) in [
            (KeyError::RawBytes(64), "64 bytes that are no text. The key seems to stand under data"),
            (KeyError::RawBytes(64), "put it under stringData"),
            (KeyError::EncodedTwice, "encoded twice: put it under stringData"),
            (KeyError::Quoted, "leave them out"),
            (KeyError::ConnectionString, "connection string. The key is shown under"),
            (KeyError::SasToken, "SAS token, which a key makes. The key is shown under"),
            (KeyError::Hexadecimal, "thumbprint"),
            (KeyError::Pem, "certificate"),
            (KeyError::Base64Url, "base64url"),
            (KeyError::PercentEncoded, "percent-encoded"),
            (KeyError::Invisible, "byte order mark"),
            (KeyError::Utf16, "UTF-16"),
            (KeyError::Json, "only the key's own text"),
            (KeyError::Incomplete, "Copy all of it"),
            (KeyError::Size(65), "65 bytes; enrollment keys have 16 to 64"),
        ] {
            assert!(refused.to_string().contains(says), "{refused}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_its_reason() {
        assert_eq!(error(" \n"), KeyError::Empty);
        assert_eq!(error("<primary key>"), KeyError::NotBase64);
        assert_eq!(error("not base64!"), KeyError::NotBase64);
        assert_eq!(error("b1dafdfd-d634-4bfe-9061-804d9ded6ce8"), KeyError::Hexadecimal);
        assert_eq!(error(STANDARD.encode([1; 15])), KeyError::Size(15));
        assert_eq!(error(STANDARD.encode([1; 65])), KeyError::Size(65));
        assert!(read(STANDARD.encode([1; 16]).as_bytes()).is_ok());
    }
}
