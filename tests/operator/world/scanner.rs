//! Finds secrets in every form in which they could be shown, also a piece of one.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A piece of this many base64 characters is found.
const PIECE: usize = 12;
/// Hexadecimal says less in a character.
const HEX_PIECE: usize = 2 * PIECE;
/// So many bytes written as decimal numbers, as Debug shows them.
const BYTES_PIECE: usize = 6;

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// What a key in base64 stands for.
pub fn bytes_of(key: &str) -> Vec<u8> {
    STANDARD.decode(key).expect("a key is base64")
}

/// The key of a device, as Microsoft publishes its derivation.
pub fn device_key(group_key: &str, registration_id: &str) -> Vec<u8> {
    hmac(&bytes_of(group_key), registration_id)
}

/// The signature of a token.
pub fn signature(device_key: &[u8], scope: &str, registration_id: &str, expiry: u64) -> Vec<u8> {
    hmac(device_key, &format!("{scope}%2Fregistrations%2F{registration_id}\n{expiry}"))
}

/// What to look for, by its first bytes.
#[derive(Default)]
pub struct Scanner {
    pieces: HashMap<[u8; PIECE], Vec<Vec<u8>>>,
    /// Whether any piece begins so: most places of a text are ruled out by three bytes.
    beginnings: Vec<bool>,
}

impl Scanner {
    /// Looks for a secret that is given in base64.
    pub fn seek_base64(&mut self, secret: &str) {
        self.seek(&STANDARD.decode(secret).expect("the secret is base64"));
    }

    /// Looks for a secret.
    pub fn seek(&mut self, secret: &[u8]) {
        let text = base64(secret);
        self.windows(&text, PIECE);
        self.windows(&text.replace('+', "-").replace('/', "_"), PIECE);
        let escaped = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        self.windows(&escaped, PIECE);
        self.windows(&escaped.to_lowercase(), PIECE);
        // As the data of a Secret shows it: base64 of the base64, whatever stands before it.
        for skipped in 0..3 {
            let whole = (text.len() - skipped) / 3 * 3;
            self.windows(&base64(&text.as_bytes()[skipped..skipped + whole]), PIECE + 4);
        }
        let hex = secret.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        });
        self.windows(&hex, HEX_PIECE);
        self.windows(&hex.to_uppercase(), HEX_PIECE);
        for bytes in secret.windows(BYTES_PIECE) {
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            self.add(numbers.join(", ").as_bytes());
        }
    }

    fn windows(&mut self, text: &str, size: usize) {
        for piece in text.as_bytes().windows(size) {
            self.add(piece);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let Some(first) = piece.first_chunk::<PIECE>() else { return };
        self.beginnings.resize(1 << 24, false);
        self.beginnings[beginning(first)] = true;
        self.pieces.entry(*first).or_default().push(piece.to_owned());
    }

    /// The first place where a secret, or a piece of one, is found.
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        (0..text.len()).find(|at| {
            let Some(first) = text[*at..].first_chunk::<PIECE>() else { return false };
            self.beginnings[beginning(first)]
                && self
                    .pieces
                    .get(first)
                    .is_some_and(|pieces| pieces.iter().any(|piece| text[*at..].starts_with(piece)))
        })
    }
}

fn beginning(bytes: &[u8; PIECE]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}

#[test]
fn every_form_of_a_secret_is_found_and_other_text_is_not() {
    let mut scanner = Scanner::default();
    let secret = device_key(crate::world::PRIMARY_KEY, "truck-1");
    scanner.seek(&secret);
    let text = base64(&secret);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        text.clone(),
        text[5..17].to_owned(),
        text.replace('+', "-").replace('/', "_"),
        text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
        base64(text.as_bytes()),
        base64(format!("HostName=hub;SharedAccessKey={text}").as_bytes()),
        base64(format!("HostName=hub-a;SharedAccessKey={text}").as_bytes()),
        base64(format!("HostName=hub-ab;SharedAccessKey={text}").as_bytes()),
        hex[4..30].to_owned(),
        hex.to_uppercase(),
        format!("{secret:?}"),
    ];

    for form in forms {
        assert!(scanner.find(format!("level=info {form} done").as_bytes()).is_some(), "{form}");
    }
    let innocent = base64(&device_key(crate::world::PRIMARY_KEY, "truck-2"));
    assert_eq!(scanner.find(innocent.repeat(100).as_bytes()), None);
    assert_eq!(scanner.find(&text.as_bytes()[..PIECE - 1]), None, "so short a piece could be anything");
}

#[test]
fn a_device_key_is_derived_as_microsoft_publishes_it() {
    let group_key =
        "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
    let key = device_key(group_key, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6");
    assert_eq!(base64(&key), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
}
