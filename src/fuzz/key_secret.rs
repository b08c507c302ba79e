//! What people put in the place of an enrollment group's key.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::parts::{ID, credentials, valid};
use crate::api::conditions::Reason;
use crate::controller::integration::credentials::Credentials;
use crate::dps::attestation::Proof;
use crate::dps::ids::RegistrationId;

/// What may be said of a key, numbers left out: what there is to say is known, so that a message which
/// holds anything of a text is one more.
static SAID: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let key = STANDARD.encode([7; 32]);
    let mut texts: Vec<Vec<u8>> = [
        String::new(),
        STANDARD.encode(&key),
        format!("\"{key}\""),
        format!("HostName=a;SharedAccessKey={key}"),
        format!("SharedAccessSignature sr=a&sig={key}"),
        "0".repeat(32),
        "-----BEGIN CERTIFICATE-----".to_owned(),
        "-_".repeat(10),
        "%2b".to_owned(),
        "\u{feff}a".to_owned(),
        "{}".to_owned(),
        "a".repeat(21),
        "<primary key>".to_owned(),
        STANDARD.encode([7; 15]),
    ]
    .map(String::into_bytes)
    .to_vec();
    texts.extend([vec![0xff, 0xfe], vec![0xff]]);
    texts
        .iter()
        .filter_map(|text| credentials(text).err())
        .map(|refused| numberless(&refused.message))
        .collect()
});

fn numberless(message: &str) -> String {
    let mut plain = String::new();
    for c in message.chars() {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            c => plain.push(c),
        }
    }
    plain
}

pub fn key_secret(data: &[u8]) {
    match credentials(data) {
        Ok(credentials) => {
            let size = decoded(data).map(|key| key.len());
            assert!(size.is_some_and(|size| (16..=64).contains(&size)), "a key of {size:?} bytes is taken");
            let device = credentials.for_device(&valid(RegistrationId::parse(ID)));
            let Proof::SymmetricKey(key) = valid(device.ok_or("no key is shared")).proof else { return };
            assert_eq!(STANDARD.decode(key.reveal()).map(|key| key.len()), Ok(32), "no key for a device");
            let usual = matches!(size, Some(32 | 64));
            let said = |credentials: &Credentials| {
                let odd = if usual { None } else { credentials.oddities() };
                [odd.unwrap_or_default(), format!("{credentials:?}")].map(|text| numberless(&text))
            };
            assert_eq!(usual, credentials.oddities().is_none(), "{size:?} bytes");
            // No more than is said of any key.
            let another = STANDARD.encode([7; 16]);
            assert_eq!(said(&credentials), said(&valid(super::parts::credentials(another.as_bytes()))));
        }
        Err(refused) => {
            assert_eq!(refused.reason, Reason::KeyInvalid);
            assert!(SAID.contains(&numberless(&refused.message)), "{}", refused.message);
        }
    }
}

/// The bytes that the text stands for, white space left out, by a reading of its own.
fn decoded(data: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&ALPHABET, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let text: String = str::from_utf8(data).ok()?.split_whitespace().collect();
    LENIENT.decode(text).ok()
}
